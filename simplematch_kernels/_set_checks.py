"""Checks of two sets of descriptors a and b: one sentence that names the argument, what came and what may come."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _check_shapes, _checks
from ._check_options import check_number
from ._set_checks_shared import (
    SET,
    counts_out_of_range,
    index_out_of_range,
    no_index,
    temperature_not_above_zero,
    wrong_number_shape,
)
from ._types import SetRows, accumulation_dtype


def check_sets(a: object, b: object) -> tuple[Tensor, Tensor]:
    """Descriptors as maps (B, C, H, W): themselves, or a view (B, C, 1, N) of a list (B, N, C)."""
    first, second = _check_set("a", a), _check_set("b", b)
    _checks.check_pair("a", first, "b", second)
    _check_shapes.check_equal("a", "batch size", first.shape[0], "b", second.shape[0])
    _check_shapes.check_equal("a", "number of channels", first.shape[1], "b", second.shape[1])
    if first.shape[1] == 0:
        raise ValueError(f"a must have at least one channel, got shape {tuple(a.shape)}")  # type: ignore[attr-defined]
    return first, second


def _check_set(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise _check_shapes.wrong_kind(name, "a tensor", SET, value)
    if value.dim() not in (3, 4):
        raise _check_shapes.wrong_shape(name, SET, value.shape)
    if value.dtype not in _checks.FEATURE_DTYPES:
        raise _check_shapes.wrong_features(name, value.dtype)
    return value if value.dim() == 4 else value.transpose(1, 2)[:, :, None, :]


def check_set_rows(rows: SetRows, a: Tensor, b: Tensor) -> SetRows:
    """The restrictions in the form that backends take, of maps a and b."""
    found: list[Tensor | None] = []
    for name, x, num, valid in (("a", a, rows.num_a, rows.valid_a), ("b", b, rows.num_b, rows.valid_b)):
        found += [_check_counts(f"num_{name}", num, name, x), _check_valid(f"valid_{name}", valid, name, x)]
    return SetRows(*found)


def _check_counts(name: str, value: object, of: str, x: Tensor) -> Tensor | None:
    if value is None:
        return None
    counts = _checks.check_tensor(name, value, "(B,)")
    if counts.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise _check_shapes.not_integers(name, counts.dtype)
    _check_shapes.check_equal(name, "batch size", counts.shape[0], of, x.shape[0])
    check_same_device(name, counts, of, x)
    return counts.long().contiguous()


def _check_valid(name: str, value: object, of: str, x: Tensor) -> Tensor | None:
    if value is None:
        return None
    mask = value
    if isinstance(value, Tensor) and value.dim() == 3:  # of a map
        mask = _checks.check_tensor(name, value, "(B, H, W)")
        expected, shape = (x.shape[0], *x.shape[2:]), "(B, H, W)"
    else:
        mask = _checks.check_tensor(name, value, "(B, N)" if of == "a" else "(B, M)")
        expected, shape = (x.shape[0], x.shape[2] * x.shape[3]), "(B, N)" if of == "a" else "(B, M)"
    if mask.dtype != torch.bool:
        raise _check_shapes.not_bool(name, mask.dtype)
    if tuple(mask.shape) != expected:
        raise _check_shapes.wrong_mask_shape(name, shape, expected, mask.shape)
    check_same_device(name, mask, of, x)
    return mask.flatten(1).contiguous()


def check_same_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}")


def check_image_number(
    name: str, value: float | Tensor, a: Tensor, above: float = -torch.inf
) -> tuple[float | None, Tensor | None]:
    """(number, None), or (None, tensor expanded to (B,) in the dtype of the arithmetic)."""
    if not isinstance(value, Tensor):
        return check_number(name, value, above=above), None
    batch = a.shape[0]
    if value.shape == (1,):
        value = value[0]
    if not value.is_floating_point() and (value.dim() > 0 or value.dtype == torch.bool or value.is_complex()):
        raise TypeError(f"{name} must be a floating-point tensor or a number, got {value.dtype}")
    if value.dim() != 0 and tuple(value.shape) != (batch,):
        raise wrong_number_shape(name, "tensor", batch, value.shape)
    check_same_device(name, value, "a", a)
    return None, value.to(accumulation_dtype(a)).expand(batch)


def check_indices(index_a: object, index_b: object, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K) int64 indices of the pairs; None stands for every descriptor in order."""
    if index_a is None and index_b is None:
        raise no_index()
    found = []
    for name, value, x in (("index_a", index_a, a), ("index_b", index_b, b)):
        if value is None:
            cells = x.shape[2] * x.shape[3]
            found.append(torch.arange(cells, device=x.device).expand(x.shape[0], cells))
            continue
        index = _checks.check_tensor(name, value, "(B, K)")
        if index.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
            raise _check_shapes.not_integers(name, index.dtype)
        _check_shapes.check_equal(name, "batch size", index.shape[0], "a", x.shape[0])
        check_same_device(name, index, "a", x)
        found.append(index.long())
    _check_shapes.check_equal("index_a", "number of pairs", found[0].shape[1], "index_b", found[1].shape[1])
    return found[0], found[1]


def check_indices_in_range(name: str, index: Tensor, of: str, count: int) -> None:
    if index.numel() and int(index.max()) >= count:
        raise index_out_of_range(name, of, count, int(index.max()))


def check_set_values(rows: SetRows, of_a: int, of_b: int, temperature: Tensor | None) -> None:
    """Values that a kernel can't use: counts out of range, a temperature that isn't above zero."""
    for name, counts, most in (("num_a", rows.num_a, of_a), ("num_b", rows.num_b, of_b)):
        if counts is not None and counts.numel() and not 0 <= int(counts.min()) <= int(counts.max()) <= most:
            side = name.removeprefix("num_")
            raise counts_out_of_range(name, side, most, counts.tolist())
    if temperature is not None and temperature.numel() and not bool(temperature.min() > 0):
        raise temperature_not_above_zero(temperature.min().item())
