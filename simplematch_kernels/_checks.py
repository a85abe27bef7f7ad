"""Checks of tensors: one sentence that names the argument, what came and what may come.

Shapes, dtypes and devices are checked before anything runs, without reading a tensor's values. `check_values` reads
values, so it serves CPU tensors only; on a GPU such rows become NaN. Options: `_check_options.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import _check_shapes, _native
from ._check_options import check_number
from ._check_shapes import TokenShape, check_equal, check_limit
from ._types import Rows, accumulation_dtype, descriptor_map

INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FEATURE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_tensor(name: str, value: object, shape: str) -> Tensor:
    """`value` as a tensor with the number of dimensions that `shape`, like "(B, C, H, W)", names."""
    if not isinstance(value, Tensor):
        raise _check_shapes.wrong_kind(name, "a tensor", shape, value)
    if value.dim() != shape.count(",") + 1 - shape.count(",)"):
        raise _check_shapes.wrong_shape(name, shape, value.shape)
    return value


def check_features(name: str, value: object, shape: str) -> Tensor:
    tensor = check_tensor(name, value, shape)
    if tensor.dtype not in FEATURE_DTYPES:
        raise _check_shapes.wrong_features(name, tensor.dtype)
    if not torch.compiler.is_compiling():  # sizes may be symbols there, which this would bind
        _check_shapes.check_limits(name, shape, tensor.shape)
    return tensor


def check_map(name: str, value: object, shape: TokenShape | None) -> Tensor:
    """Features as a map (B, C, H, W): themselves, or a view of tokens (B, H*W, C) of that shape."""
    if shape is None:
        return check_features(name, value, _check_shapes.MAP)
    tokens = check_features(name, value, _check_shapes.TOKENS)
    _check_shapes.check_tokens(name, tokens.shape, shape)
    return as_map(tokens, shape)


def check_set(name: str, value: object) -> Tensor:
    """Descriptors as a map (B, C, H, W): themselves, or a view (B, C, 1, N) of a list (B, N, C)."""
    if not isinstance(value, Tensor):
        raise _check_shapes.wrong_kind(name, "a tensor", _check_shapes.SET, value)
    if value.dim() == 3:
        return descriptor_map(check_features(name, value, _check_shapes.LIST))
    if value.dim() == 4:
        return check_features(name, value, _check_shapes.MAP)
    raise _check_shapes.wrong_shape(name, _check_shapes.SET, value.shape)


def as_map(features: Tensor, shape: TokenShape | None) -> Tensor:
    """Checked features as a map: themselves, or a view of tokens of that shape."""
    if shape is None:
        return features
    view: Tensor = features.transpose(1, 2).unflatten(2, (shape.height, shape.width))
    return view


def check_cells(name: str, features: Tensor, channels: bool = True) -> None:
    """The map has at least one cell and one channel."""
    height, width = features.shape[-2:]
    if height == 0 or width == 0 or (channels and features.shape[1] == 0):
        raise _check_shapes.no_cells(name, features.shape)


def check_pair(name: str, first: Tensor, other_name: str, other: Tensor) -> None:
    """One device, batch size and number of channels, and one dtype unless autocast will make it so.

    `other` is a map, `first` too, or a list of descriptors (B, N, C).
    """
    if first.device != other.device:
        raise ValueError(f"{name} and {other_name} must be on one device, got {first.device} and {other.device}")
    if first.dtype != other.dtype and not torch.is_autocast_enabled(other.device.type):
        raise _check_shapes.different_dtypes(name, first.dtype, other_name, other.dtype)
    channels = first.shape[1] if first.dim() == 4 else first.shape[2]
    check_equal(name, "batch size", first.shape[0], other_name, other.shape[0])
    check_equal(name, "number of channels", channels, other_name, other.shape[1])


def check_keypoints(keypoints: object, features: Tensor, features_name: str, name: str = "keypoints") -> None:
    """Keypoints (B, N, 2) on the features' device."""
    tensor = check_tensor(name, keypoints, "(B, N, 2)")
    if tensor.shape[2] != 2:
        raise _check_shapes.wrong_shape(name, "(B, N, 2)", tensor.shape)
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise _check_shapes.not_real(name, tensor.dtype)
    check_equal(name, "batch size", tensor.shape[0], features_name, features.shape[0])
    if not torch.compiler.is_compiling():
        check_limit(name, "rows", tensor.shape[1])
    check_device(name, tensor, features_name, features)


def as_points(keypoints: Tensor, differentiable: bool) -> Tensor:
    """Keypoints as float32, or float64 if they came so; detached where no gradient reaches them."""
    if not differentiable and keypoints.requires_grad:
        keypoints = keypoints.detach()
    return keypoints if keypoints.dtype in (torch.float32, torch.float64) else keypoints.float()


def check_rows(rows: Rows, queries: int, target: Tensor, size: tuple[int, int] | None = None) -> Rows:
    """The row and cell restrictions, in the form the backends take (see `Rows`); `size`: (H, W) of the mask."""
    num_keypoints, valid, target_mask = rows
    if num_keypoints is None and valid is None and target_mask is None:
        return rows
    batch, (height, width) = target.shape[0], size or target.shape[2:]
    if num_keypoints is not None:
        num_keypoints = check_integers("num_keypoints", num_keypoints, "(B,)", "target", target).contiguous()
    if valid is not None:
        valid = check_mask("valid", valid, "(B, N)", (batch, queries), target).contiguous()
    if target_mask is not None:
        target_mask = _check_target_mask(target_mask, (batch, queries, height, width), target)
    return Rows(num_keypoints, valid, target_mask)


def _check_target_mask(mask: object, expected: tuple[int, int, int, int], target: Tensor) -> Tensor:
    """(B, M) of a mask (B, H, W), (B, N, M) of one for each query; contiguous."""
    batch, queries, height, width = expected
    one, several = _check_shapes.MASK, _check_shapes.MASKS
    if not isinstance(mask, Tensor) or mask.dim() not in (3, 4):
        check_tensor("target_mask", mask, f"{one} or {several}")
    if isinstance(mask, Tensor) and mask.dim() == 3:
        return check_mask("target_mask", mask, one, (batch, height, width), target).flatten(1).contiguous()
    mask = check_mask("target_mask", mask, several, expected, target)
    if queries > 1 and mask.stride(1) == 0:  # one, expanded
        return mask[:, 0].flatten(1).contiguous()
    return mask.flatten(2).contiguous()


def check_integers(name: str, value: object, shape: str, of: str, features: Tensor) -> Tensor:
    """Integers of the batch and on the device of `features`, the argument `of`; as int64."""
    tensor = check_tensor(name, value, shape)
    if tensor.dtype not in INTEGER_DTYPES:
        raise _check_shapes.not_integers(name, tensor.dtype)
    check_equal(name, "batch size", tensor.shape[0], of, features.shape[0])
    check_device(name, tensor, of, features)
    return tensor.long()


def check_mask(
    name: str, value: object, shape: str, expected: tuple[int, ...], target: Tensor, of: str = "target"
) -> Tensor:
    mask = check_tensor(name, value, shape)
    if mask.dtype != torch.bool:
        raise _check_shapes.not_bool(name, mask.dtype)
    if tuple(mask.shape) != expected:
        raise _check_shapes.wrong_mask_shape(name, shape, expected, mask.shape)
    check_device(name, mask, of, target)
    return mask


def check_cell_shape(name: str, tensor: Tensor, expected: tuple[int, int, int]) -> None:
    if tuple(tensor.shape) != expected:
        raise _check_shapes.wrong_mask_shape(name, "(B, Hs, Ws)", expected, tensor.shape)


def check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}")


def check_image_sizes(name: str, value: object, features: Tensor) -> Tensor | None:
    """A (B, 2) tensor of sizes (height, width), one an image, as contiguous int64; None for anything else."""
    if not isinstance(value, Tensor) or value.dim() != 2:
        return None
    if tuple(value.shape) != (features.shape[0], 2):
        raise _check_shapes.wrong_mask_shape(name, "(B, 2)", (features.shape[0], 2), value.shape)
    if value.dtype not in INTEGER_DTYPES:
        raise _check_shapes.not_integers(name, value.dtype)
    check_device(name, value, "the features", features)
    return value.long().contiguous()


def check_image_size_values(name: str, sizes: Tensor | None) -> None:
    """Sizes below 1 x 1 pixel: a value that only tensors on the CPU are asked for."""
    if sizes is not None and sizes.numel() and int(sizes.min()) < 1:
        batch = int((sizes < 1).any(1).nonzero()[0])
        raise _check_shapes.wrong_image_size(name, tuple(sizes[batch].tolist()), batch)


def check_temperature(
    value: float | Tensor, batch: int, queries: int, scores: Tensor
) -> tuple[float | None, Tensor | None]:
    """(number, None), or (None, tensor expanded to (B, N) in the dtype of the arithmetic)."""
    return check_number_or_tensor("temperature", value, "(B, N)", (batch, queries), scores, "the features", above=0.0)


def check_number_or_tensor(
    name: str, value: float | Tensor, shape: str, expected: Sequence[int], features: Tensor, of: str,
    above: float = -math.inf,
) -> tuple[float | None, Tensor | None]:  # fmt: skip
    """(number, None), or (None, tensor expanded to the expected shape in the dtype of the arithmetic)."""
    if not isinstance(value, Tensor):
        return check_number(name, value, above=above), None
    if value.shape == (1,):
        value = value[0]
    if not value.is_floating_point() and (value.dim() > 0 or value.dtype == torch.bool or value.is_complex()):
        raise _check_shapes.wrong_number_dtype(name, "tensor", value.dtype)
    if value.dim() != 0 and tuple(value.shape) != tuple(expected):
        raise _check_shapes.wrong_number_shape(name, "tensor", shape, expected, value.shape)
    check_device(name, value, of, features)
    return None, value.to(accumulation_dtype(features)).expand(*expected)


def check_values(keypoints: Tensor | None, rows: Rows, temperature: Tensor | None, queries: int) -> None:
    """Values a kernel can't use: keypoints that aren't finite, counts out of range, temperatures not above zero.

    Warns of the first valid row whose coordinates are all negative, which unmarked padding looks like.
    """
    check_counts("num_keypoints", rows.num_keypoints, "keypoints", queries)
    if keypoints is not None and keypoints.numel():
        lowest = check_finite("keypoints", keypoints, rows)
        if lowest < 0 and not _check_shapes.warned_of_negative_keypoints():
            where = _valid(rows, (keypoints < 0).all(-1)).nonzero()
            if len(where):
                batch, row = where[0].tolist()
                _check_shapes.warn_of_negative_keypoints(keypoints[batch, row].tolist(), batch, row)
    if temperature is not None and temperature.numel() and not _extremes(temperature)[0] > 0:
        _raise_at_first(_check_shapes.NOT_ABOVE_ZERO, ~(temperature > 0), rows, temperature)


def check_center(value: object, features: Tensor, queries: int) -> None:
    """Flat cells (B, N), or points (B, N, 2), on the device of the features; or None."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise _check_shapes.wrong_center("a tensor", type(value).__name__)
    if value.dtype == torch.bool or value.is_complex():
        raise _check_shapes.wrong_center("a tensor", value.dtype)
    expected = (features.shape[0], queries, 2)
    if tuple(value.shape) != (expected if value.dim() == 3 else expected[:2]):
        raise _check_shapes.wrong_center_shape(expected, value.shape)
    if value.dim() == 2 and value.dtype not in INTEGER_DTYPES:
        raise _check_shapes.center_not_cells(value.dtype)
    check_device("center", value, "the features", features)


def check_center_values(center: Tensor, rows: Rows, cells: int) -> None:
    """Values on the CPU: points are finite in valid rows, and cells lie in the map; a negative cell is padding."""
    if center.dim() == 3:
        check_finite("center", center, rows)
    elif center.numel() and int(center.max()) >= cells:
        _raise_at_first(_check_shapes.CENTER_BEYOND.format(cells=cells), center >= cells, rows, center)


def check_counts(name: str, counts: Tensor | None, of: str, most: int) -> None:
    """Counts between 0 and how many there are `of` what is counted."""
    if counts is not None and counts.numel() and not 0 <= int(counts.min()) <= int(counts.max()) <= most:
        raise _check_shapes.counts_out_of_range(name, of, most, counts.tolist())


def check_finite(name: str, points: Tensor, rows: Rows) -> float:
    """The least coordinate of points (B, N, 2), which must be finite in valid rows."""
    if points.numel() == 0:
        return 0.0
    lowest, highest = _extremes(points)
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        _raise_at_first(f"{name} {_check_shapes.NOT_FINITE}", ~points.isfinite().all(-1), rows, points)
    return lowest


def _extremes(x: Tensor) -> tuple[float, float]:
    """The least and the largest number; NaN if one is NaN. For a few keypoints torch takes five times as long."""
    if _native.why_not() is None:
        code = _native.load().CODES["float64" if x.dtype == torch.float64 else "float32"]
        found: tuple[float, float] = _native.load().extremes((x.data_ptr(), code, x.shape, x.stride()))
        return found
    low, high = torch.aminmax(x)
    return low.item(), high.item()


def _valid(rows: Rows, chosen: Tensor) -> Tensor:
    """`chosen` (B, N) without the padding."""
    if rows.num_keypoints is not None:
        chosen = chosen & (torch.arange(chosen.shape[1]) < rows.num_keypoints[:, None])
    return chosen if rows.valid is None else chosen & rows.valid


def _raise_at_first(rule: str, wrong: Tensor, rows: Rows, values: Tensor) -> None:
    where = _valid(rows, wrong).nonzero()
    if len(where):
        batch, row = where[0].tolist()
        raise _check_shapes.wrong_row(rule, values[batch, row].tolist(), batch, row)
