"""Tensors as the compiled module takes them: addresses, and views of sizes and strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from .._types import CrossEntropyProblem, Given, MatchGradients, MatchProblem, Rows
from . import _records
from ._records import _C

if TYPE_CHECKING:
    from .._C import View

_CODES = {getattr(torch, name): _records.CODES[name] for name in ("float32", "float64", "bfloat16", "float16")}


@overload
def view(x: Tensor) -> View: ...
@overload
def view(x: Tensor | None) -> View | None: ...
def view(x: Tensor | None) -> View | None:
    return None if x is None else (x.data_ptr(), _CODES[x.dtype], x.shape, x.stride())


def native_rows(rows: Rows) -> tuple[_C.Rows | None, list[Tensor]]:
    """Addresses of contiguous arrays, and the tensors to keep alive meanwhile."""
    if rows.num_keypoints is None and rows.valid is None and rows.target_mask is None:
        return None, []
    tensors = [None if x is None else x.contiguous() for x in rows]
    addresses = [None if x is None else x.data_ptr() for x in tensors]
    mask = rows.target_mask
    of_query = mask.shape[2] if mask is not None and mask.dim() == 3 else 0
    return _records.native_rows(*addresses, target_mask_stride=of_query), [x for x in tensors if x is not None]


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [x.data_ptr() for x in tensors]


def empty_gradient(x: Tensor | None, need: bool) -> Tensor | None:
    return torch.empty_like(x) if need and x is not None else None


def empty_temperature_gradient(temperature: Tensor | None, need: bool) -> Tensor | None:
    """Of all (B, N) elements, where the temperature itself may be one number expanded."""
    if temperature is None or not need:
        return None
    return torch.empty(temperature.shape, dtype=temperature.dtype, device=temperature.device)


def empty_match_gradients(p: MatchProblem | CrossEntropyProblem, needs: MatchGradients[bool]) -> MatchGradients[Given]:
    return MatchGradients(
        empty_gradient(p.source, needs.source),
        empty_gradient(p.keypoints, needs.keypoints),
        empty_gradient(p.target, needs.target),
        empty_temperature_gradient(p.temperature, needs.temperature),
    )


def views(tensors: Any) -> Any:
    """A record of tensors, which the module has under the same names."""
    return {name: view(x) for name, x in zip(tensors._fields, tensors, strict=True)}
