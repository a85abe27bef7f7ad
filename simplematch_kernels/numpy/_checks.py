"""Checks of arrays: the rules, and to the word the errors, of the checks of tensors, but for the names of the types."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import _check_shapes
from .._check_options import as_integer, as_number, check_number
from .._check_shapes import TokenShape, check_equal, check_limit
from ._arrays import CODES, Array, Rows, accumulation_dtype, addressable


def check_array(name: str, value: object, shape: str) -> Array:
    """`value` as an array with the number of dimensions that `shape`, like "(B, C, H, W)", names."""
    array = check_is_array(name, value, shape)
    if array.ndim != shape.count(",") + 1 - shape.count(",)"):
        raise _check_shapes.wrong_shape(name, shape, array.shape)
    return array


def check_is_array(name: str, value: object, shape: str) -> Array:
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):  # its mask would go unread
        raise _check_shapes.wrong_kind(name, "an array", shape, value)
    return value


def check_features(name: str, value: object, shape: str) -> Array:
    array = check_array(name, value, shape)
    if array.dtype.name not in CODES:
        raise _check_shapes.wrong_features(name, array.dtype)
    _check_shapes.check_limits(name, shape, array.shape)
    return addressable(array)


def check_map(name: str, value: object, shape: TokenShape | None) -> Array:
    """Features as a map (B, C, H, W): themselves, or a view of tokens (B, H*W, C) of that shape."""
    if shape is None:
        return check_features(name, value, _check_shapes.MAP)
    tokens = check_features(name, value, _check_shapes.TOKENS)
    _check_shapes.check_tokens(name, tokens.shape, shape)
    batch, _, channels = tokens.shape
    return tokens.transpose(0, 2, 1).reshape(batch, channels, shape.height, shape.width)  # a view: it splits one axis


def check_set(name: str, value: object) -> Array:
    """Descriptors as a map (B, C, H, W): themselves, or a view (B, C, 1, N) of a list (B, N, C)."""
    array = check_is_array(name, value, _check_shapes.SET)
    if array.ndim == 3:
        return descriptor_map(check_features(name, array, _check_shapes.LIST))
    if array.ndim == 4:
        return check_features(name, array, _check_shapes.MAP)
    raise _check_shapes.wrong_shape(name, _check_shapes.SET, array.shape)


def descriptor_map(descriptors: Array) -> Array:
    """(B, N, C) as the (B, C, 1, N) that the kernels read: a map of one row with a cell for each descriptor."""
    return descriptors.transpose(0, 2, 1)[:, :, None, :]


def check_cells(name: str, features: Array, channels: bool = True) -> None:
    """The map has at least one cell and one channel."""
    height, width = features.shape[-2:]
    if height == 0 or width == 0 or (channels and features.shape[1] == 0):
        raise _check_shapes.no_cells(name, features.shape)


def check_pair(name: str, first: Array, other_name: str, other: Array) -> None:
    """Features of one dtype, batch size and number of channels; `first` is a map, or descriptors (B, N, C)."""
    if first.dtype != other.dtype:
        raise _check_shapes.different_dtypes(name, first.dtype, other_name, other.dtype)
    channels = first.shape[1] if first.ndim == 4 else first.shape[2]
    check_equal(name, "batch size", first.shape[0], other_name, other.shape[0])
    check_equal(name, "number of channels", channels, other_name, other.shape[1])


def check_keypoints(keypoints: object, features: Array, features_name: str, name: str = "keypoints") -> Array:
    """Keypoints (B, N, 2) as float32, or float64 if they came so."""
    array = check_array(name, keypoints, "(B, N, 2)")
    if array.shape[2] != 2:
        raise _check_shapes.wrong_shape(name, "(B, N, 2)", array.shape)
    if array.dtype.kind not in "iuf" and array.dtype.name not in CODES:
        raise _check_shapes.not_real(name, array.dtype)
    check_equal(name, "batch size", array.shape[0], features_name, features.shape[0])
    check_limit(name, "rows", array.shape[1])
    return addressable(array if array.dtype.name in ("float32", "float64") else array.astype(np.float32))


def check_rows(rows: Rows, queries: int, target: Array, size: tuple[int, int] | None = None) -> Rows:
    num_keypoints, valid, target_mask = rows
    batch, (height, width) = target.shape[0], size or target.shape[2:]
    return Rows(
        check_counts("num_keypoints", num_keypoints, "target", batch, "keypoints", queries),
        None if valid is None else check_mask("valid", valid, "(B, N)", (batch, queries)),
        None if target_mask is None else _check_target_mask(target_mask, (batch, queries, height, width)),
    )


def _check_target_mask(mask: object, expected: tuple[int, int, int, int]) -> Array:
    """Of the shape (B, H, W), or (B, N, H, W) of one for each query; contiguous."""
    one, several, dimensions = _check_shapes.MASK, _check_shapes.MASKS, getattr(mask, "ndim", 0)
    if dimensions not in (3, 4):
        check_array("target_mask", mask, f"{one} or {several}")
    if dimensions == 3:
        return check_mask("target_mask", mask, one, (expected[0], *expected[2:]))
    return check_mask("target_mask", mask, several, expected)


def check_counts(name: str, value: object, of_batch: str, batch: int, of: str, most: int) -> Array | None:
    """Counts (B,) of what there is `most` of, as contiguous int64, or None."""
    if value is None:
        return None
    array = check_array(name, value, "(B,)")
    if array.dtype.kind not in "iu":
        raise _check_shapes.not_integers(name, array.dtype)
    check_equal(name, "batch size", array.shape[0], of_batch, batch)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= most:
        raise _check_shapes.counts_out_of_range(name, of, most, array.tolist())
    return np.ascontiguousarray(array, dtype=np.int64)


def check_mask(name: str, value: object, shape: str, expected: tuple[int, ...]) -> Array:
    mask = check_array(name, value, shape)
    if mask.dtype != np.bool_:
        raise _check_shapes.not_bool(name, mask.dtype)
    if mask.shape != expected:
        raise _check_shapes.wrong_mask_shape(name, shape, expected, mask.shape)
    return np.ascontiguousarray(mask)


def check_image_sizes(name: str, value: object, features: Array) -> Array | None:
    """A (B, 2) array of sizes (height, width), one an image, as contiguous int64; None for anything else."""
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        return None
    if value.shape != (features.shape[0], 2):
        raise _check_shapes.wrong_mask_shape(name, "(B, 2)", (features.shape[0], 2), value.shape)
    if value.dtype.kind not in "iu":
        raise _check_shapes.not_integers(name, value.dtype)
    if value.size and value.min() < 1:
        batch = int((value < 1).any(1).argmax())
        raise _check_shapes.wrong_image_size(name, tuple(value[batch].tolist()), batch)
    return np.ascontiguousarray(value, dtype=np.int64)


def check_temperature(value: object, batch: int, queries: int, scores: Array) -> tuple[float | None, Array | None]:
    """(number, None), or (None, array broadcast to (B, N) in the dtype of the arithmetic)."""
    return check_number_or_array("temperature", value, "(B, N)", (batch, queries), scores, above=0.0)


def check_number_or_array(
    name: str, value: object, shape: str, expected: Sequence[int], features: Array, above: float = -math.inf
) -> tuple[float | None, Array | None]:
    """(number, None), or (None, array broadcast to the expected shape in the dtype of the arithmetic)."""
    if not isinstance(value, np.ndarray) or as_number(value) is not None:
        return check_number(name, value, above=above), None
    array = np.asarray(value)
    if array.dtype.kind != "f" and array.dtype.name not in CODES:
        raise _check_shapes.wrong_number_dtype(name, "array", array.dtype)
    if array.ndim != 0 and array.shape != tuple(expected):
        raise _check_shapes.wrong_number_shape(name, "array", shape, expected, array.shape)
    converted = addressable(array.astype(accumulation_dtype(features), copy=False))
    return None, np.broadcast_to(converted, tuple(expected))


def check_values(keypoints: Array | None, rows: Rows, temperature: Array | None) -> None:
    """Values a kernel can't use: keypoints that aren't finite, temperatures not above zero."""
    if keypoints is not None:
        check_finite("keypoints", keypoints, rows)
    if keypoints is not None and not _check_shapes.warned_of_negative_keypoints():
        where = np.argwhere(valid_rows(rows, np.asarray((keypoints < 0).all(-1))))
        if len(where):
            batch, row = where[0].tolist()
            _check_shapes.warn_of_negative_keypoints(keypoints[batch, row].tolist(), batch, row)
    if temperature is not None and temperature.size and not temperature.min() > 0:
        _raise_at_first(_check_shapes.NOT_ABOVE_ZERO, np.logical_not(temperature > 0), rows, temperature)


def check_finite(name: str, points: Array, rows: Rows) -> None:
    if not (finite := np.isfinite(points)).all():
        _raise_at_first(f"{name} {_check_shapes.NOT_FINITE}", np.logical_not(finite.all(-1)), rows, points)


def valid_rows(rows: Rows, chosen: Array) -> Array:
    """`chosen` (B, N) without the padding."""
    if rows.num_keypoints is not None:
        chosen = chosen & (np.arange(chosen.shape[1]) < rows.num_keypoints[:, None])
    return chosen if rows.valid is None else chosen & rows.valid


def _raise_at_first(rule: str, wrong: Array, rows: Rows, values: Array) -> None:
    where = np.argwhere(valid_rows(rows, wrong))
    if len(where):
        batch, row = where[0].tolist()
        raise _check_shapes.wrong_row(rule, values[batch, row].tolist(), batch, row)


def check_center(value: object, batch: int, queries: int) -> Array | None:
    """Flat cells (B, N) as int64, or points (B, N, 2); or None."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray):
        raise _check_shapes.wrong_center("an array", type(value).__name__)
    if value.dtype.kind not in "iuf" and value.dtype.name not in CODES:
        raise _check_shapes.wrong_center("an array", value.dtype)
    expected = (batch, queries, 2)
    if value.shape != (expected if value.ndim == 3 else expected[:2]):
        raise _check_shapes.wrong_center_shape(expected, value.shape)
    if value.ndim == 2 and value.dtype.kind not in "iu":
        raise _check_shapes.center_not_cells(value.dtype)
    return value.astype(np.int64 if value.ndim == 2 else np.float64, copy=False)


def check_center_values(center: Array, rows: Rows, cells: int) -> None:
    """Points are finite in valid rows, and cells lie in the map; a negative cell is padding."""
    if center.ndim == 3:
        check_finite("center", center, rows)
    elif center.size and center.max() >= cells:
        _raise_at_first(_check_shapes.CENTER_BEYOND.format(cells=cells), center >= cells, rows, center)


def check_threads(value: int | None) -> None:
    if value is None:
        return
    if as_integer(value) is None:
        raise TypeError(f"threads must be a whole number or None, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"threads must be at least 1, got {value}")
