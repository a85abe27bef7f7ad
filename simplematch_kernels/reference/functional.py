"""The definition under the public function's signature: plain PyTorch, differentiated by autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _check_options, _checks, _ops, functional
from .._types import Matches
from . import match


def sparse_window_match(
    source: Tensor, target: Tensor, keypoints: Tensor, *, dtype: torch.dtype | None = None, **options: Any
) -> Matches:
    """`simplematch_kernels.sparse_window_match` without an operator, for tests, comparisons and reading.

    Args:
        source: (B, C, Hs, Ws) features.
        target: (B, C, Ht, Wt) features.
        keypoints: (B, N, 2) points as (x, y).
        dtype: that of the arithmetic; None is float64 for float64 features and float32 for the rest.
        options: those of `simplematch_kernels.sparse_window_match`, but for `backend`.

    Returns:
        `Matches`, in the dtype of the arithmetic.
    """
    o = {**(functional.sparse_window_match.__kwdefaults__ or {}), **options}
    dtype = match.accumulation_dtype(target) if dtype is None else dtype
    batch, queries = keypoints.shape[:2]
    number, tensor = _checks.check_temperature(o["temperature"], batch, queries, target)
    return match.sparse_window_match(
        source,
        keypoints,
        target,
        _checks.check_rows(o["num_keypoints"], o["valid"], o["target_mask"], queries, target),
        None if tensor is None else tensor.to(dtype),
        _ops.resolve_sampling(source, o["source_size"], o["source_coords"], o["sampling"], o["sampling_padding"]),
        _ops.resolve_metric(o["metric"], o["eps"], o["eps_mode"]),
        _ops.resolve_localization(
            target,
            o["localization"],
            _check_options.check_window_size(o["window_size"]),
            o["window_shape"],
            o["border"],
            o["outside_value"],
            o["sigma"] or 0.0,
            number,
            o["target_size"],
            o["target_coords"],
            o["output_offset"],
        ),
        dtype=dtype,
    )
