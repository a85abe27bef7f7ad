"""Checks of two sets of descriptors a and b: one sentence that names the argument, what came and what may come."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _check_shapes, _checks
from ._types import SetRows


def check_sets(a: object, b: object) -> tuple[Tensor, Tensor]:
    """Descriptors as maps (B, C, H, W): themselves, or a view (B, C, 1, N) of a list (B, N, C)."""
    first, second = _checks.check_set("a", a), _checks.check_set("b", b)
    _checks.check_pair("a", first, "b", second)
    if first.shape[1] == 0:
        raise ValueError(f"a must have at least one channel, got shape {tuple(a.shape)}")  # type: ignore[attr-defined]
    return first, second


def check_set_rows(rows: SetRows, a: Tensor, b: Tensor) -> SetRows:
    """The restrictions in the form that backends take, of maps a and b."""
    found: list[Tensor | None] = []
    for name, x, num, valid in (("a", a, rows.num_a, rows.valid_a), ("b", b, rows.num_b, rows.valid_b)):
        counts = None if num is None else _checks.check_integers(f"num_{name}", num, "(B,)", name, x).contiguous()
        found += [counts, None if valid is None else _check_valid(f"valid_{name}", valid, name, x)]
    return SetRows(*found)


def _check_valid(name: str, value: object, of: str, x: Tensor) -> Tensor:
    shape, expected = "(B, N)" if of == "a" else "(B, M)", (x.shape[0], x.shape[2] * x.shape[3])
    if isinstance(value, Tensor) and value.dim() == 3:  # of a map
        shape, expected = "(B, H, W)", (x.shape[0], *x.shape[2:])
    return _checks.check_mask(name, value, shape, expected, x, of).flatten(1).contiguous()


def check_image_number(
    name: str, value: float | Tensor, a: Tensor, above: float = -torch.inf
) -> tuple[float | None, Tensor | None]:
    """(number, None), or (None, tensor expanded to (B,) in the dtype of the arithmetic)."""
    return _checks.check_number_or_tensor(name, value, "(B,)", a.shape[:1], a, "a", above)


def check_indices(index_a: object, index_b: object, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K) int64 indices of the pairs; None stands for every descriptor in order."""
    if index_a is None and index_b is None:
        raise _check_shapes.no_index()
    found = []
    for name, value, x in (("index_a", index_a, a), ("index_b", index_b, b)):
        if value is None:
            cells = x.shape[2] * x.shape[3]
            found.append(torch.arange(cells, device=x.device).expand(x.shape[0], cells))
        else:
            found.append(_checks.check_integers(name, value, "(B, K)", "a", x))
    _check_shapes.check_equal("index_a", "number of pairs", found[0].shape[1], "index_b", found[1].shape[1])
    return found[0], found[1]


def check_indices_in_range(name: str, index: Tensor, of: str, count: int) -> None:
    if index.numel() and int(index.max()) >= count:
        raise _check_shapes.index_out_of_range(name, of, count, int(index.max()))


def check_set_values(rows: SetRows, of_a: int, of_b: int, temperature: Tensor | None) -> None:
    """Values that a kernel can't use: counts out of range, a temperature that isn't above zero."""
    _checks.check_counts("num_a", rows.num_a, "descriptors of a", of_a)
    _checks.check_counts("num_b", rows.num_b, "descriptors of b", of_b)
    if temperature is not None and temperature.numel() and not bool(temperature.min() > 0):
        raise _check_shapes.temperature_not_above_zero(temperature.min().item())
