"""Checks of arguments: one sentence that names the argument, what came and what may come.

Shapes, dtypes, devices and options are checked before anything runs, without reading a tensor's values.
`check_values` reads values, so it serves CPU tensors only; on a GPU the kernels answer such rows with NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._types import Rows

FEATURE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_tensor(name: str, value: object, shape: str) -> Tensor:
    """`value` as a tensor with the number of dimensions that `shape`, like "(B, C, H, W)", names."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor of shape {shape}, got {type(value).__name__}")
    if value.dim() != shape.count(",") + 1 - shape.count(",)"):
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    return value


def check_features(name: str, value: object, shape: str) -> Tensor:
    tensor = check_tensor(name, value, shape)
    if tensor.dtype not in FEATURE_DTYPES:
        raise TypeError(f"{name} must be float32, bfloat16, float16 or float64, got {tensor.dtype}")
    return tensor


def check_cells(name: str, features: Tensor, channels: bool = True) -> None:
    """The map has at least one cell and one channel."""
    height, width = features.shape[-2:]
    if height == 0 or width == 0 or (channels and features.shape[1] == 0):
        raise ValueError(f"{name} must have at least one channel and one cell, got shape {tuple(features.shape)}")


def check_pair(name: str, first: Tensor, other_name: str, other: Tensor) -> None:
    """Same device, and the same dtype unless autocast will make them so."""
    if first.device != other.device:
        raise ValueError(f"{name} and {other_name} must be on one device, got {first.device} and {other.device}")
    if first.dtype != other.dtype and not torch.is_autocast_enabled(other.device.type):
        raise TypeError(f"{name} and {other_name} must have one dtype, got {first.dtype} and {other.dtype}")


def check_equal(name: str, dimension: str, value: int, other_name: str, expected: int) -> None:
    if value != expected:
        raise ValueError(f"{name} must have the same {dimension} as {other_name}, got {value} and {expected}")


def check_keypoints(keypoints: object, features: Tensor, features_name: str) -> Tensor:
    """Keypoints (B, N, 2) of the features' device as float32, or float64 if they came so."""
    tensor = check_tensor("keypoints", keypoints, "(B, N, 2)")
    if tensor.shape[2] != 2:
        raise ValueError(f"keypoints must have shape (B, N, 2), got {tuple(tensor.shape)}")
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise TypeError(f"keypoints must be real numbers, got {tensor.dtype}")
    check_equal("keypoints", "batch size", tensor.shape[0], features_name, features.shape[0])
    _check_device("keypoints", tensor, features_name, features)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def check_rows(
    num_keypoints: Tensor | None, valid: Tensor | None, target_mask: Tensor | None, queries: int, target: Tensor
) -> Rows:
    """The row and cell restrictions, in the form the backends take (see `Rows`)."""
    if num_keypoints is None and valid is None and target_mask is None:
        return Rows(None, None, None)
    batch, (height, width) = target.shape[0], target.shape[2:]
    if num_keypoints is not None:
        num_keypoints = check_tensor("num_keypoints", num_keypoints, "(B,)")
        if num_keypoints.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
            raise TypeError(f"num_keypoints must hold integers, got {num_keypoints.dtype}")
        check_equal("num_keypoints", "batch size", num_keypoints.shape[0], "target", batch)
        _check_device("num_keypoints", num_keypoints, "target", target)
        num_keypoints = num_keypoints.long().contiguous()
    if valid is not None:
        valid = _check_mask("valid", valid, "(B, N)", (batch, queries), target).contiguous()
    if target_mask is not None:
        target_mask = _check_mask("target_mask", target_mask, "(B, H, W)", (batch, height, width), target).flatten(1)
    return Rows(num_keypoints, valid, None if target_mask is None else target_mask.contiguous())


def _check_mask(name: str, value: object, shape: str, expected: tuple[int, ...], target: Tensor) -> Tensor:
    mask = check_tensor(name, value, shape)
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, got {mask.dtype}")
    if tuple(mask.shape) != expected:
        raise ValueError(f"{name} must have shape {shape} = {expected}, got {tuple(mask.shape)}")
    _check_device(name, mask, "target", target)
    return mask


def _check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_size(name: str, value: Sequence[int] | None) -> tuple[int, int] | None:
    """An image size (height, width) in pixels, or None."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(_is_integer(v) for v in value):
        raise TypeError(f"{name} must be (height, width) in whole pixels or None, got {value!r}")
    if value[0] < 1 or value[1] < 1:
        raise ValueError(f"{name} must be at least 1 x 1 pixel, got {tuple(value)}")
    return value[0], value[1]


def check_window_size(value: int | Sequence[int]) -> tuple[int, int]:
    """k or (kh, kw) as (kh, kw) cells."""
    pair: Any = (value, value) if _is_integer(value) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(_is_integer(k) for k in pair):
        raise TypeError(f"window_size must be a whole number of cells, or (height, width), got {value!r}")
    if pair[0] < 1 or pair[1] < 1:
        raise ValueError(f"window_size must be at least 1 cell, got {value!r}")
    return pair[0], pair[1]


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def check_number(name: str, value: object, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
    """A finite Python number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (above < value < math.inf and value >= at_least):  # NaN fails every comparison
        bound = f" above {above}" if above != -math.inf else f" of at least {at_least}" if at_least != -math.inf else ""
        raise ValueError(f"{name} must be a finite number{bound}, got {value}")
    return float(value)


def check_outside_value(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"outside_value must be a number, got {type(value).__name__}")
    if math.isnan(value) or value == math.inf:
        raise ValueError(f"outside_value must be -inf or a finite number, got {value}")
    return float(value)


def check_temperature(
    value: float | Tensor, batch: int, queries: int, scores: Tensor
) -> tuple[float | None, Tensor | None]:
    """(number, None), or (None, tensor expanded to (B, N) in the dtype of the arithmetic)."""
    if not isinstance(value, Tensor):
        return check_number("temperature", value, above=0.0), None
    if not value.is_floating_point():
        raise TypeError(f"temperature must be a floating-point tensor or a number, got {value.dtype}")
    if value.dim() != 0 and tuple(value.shape) != (batch, queries):
        raise ValueError(
            f"temperature must be a number, a 0-d tensor or of shape (B, N) = {(batch, queries)}, "
            f"got {tuple(value.shape)}"
        )
    if value.device != scores.device:
        raise ValueError(f"temperature must be on the device of the features, {scores.device}, got {value.device}")
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return None, value.to(dtype).expand(batch, queries)


def check_values(keypoints: Tensor | None, rows: Rows, temperature: Tensor | None, queries: int) -> None:
    """Values a kernel can't use: keypoints that aren't finite, counts out of range, temperatures not above zero."""
    counts = rows.num_keypoints
    if counts is not None and counts.numel() and not 0 <= int(counts.min()) <= int(counts.max()) <= queries:
        raise ValueError(
            f"num_keypoints must lie between 0 and the number of keypoints, {queries}, got {counts.tolist()}"
        )
    if keypoints is not None and not math.isfinite(keypoints.sum().item()):
        _raise_at_first("keypoints must be finite in valid rows", ~keypoints.isfinite().all(-1), rows, keypoints)
    if temperature is not None and temperature.numel() and not bool(temperature.min() > 0):
        _raise_at_first("temperature must be above zero in valid rows", ~(temperature > 0), rows, temperature)


def _raise_at_first(rule: str, wrong: Tensor, rows: Rows, values: Tensor) -> None:
    if rows.num_keypoints is not None:
        wrong = wrong & (torch.arange(wrong.shape[1]) < rows.num_keypoints[:, None])
    if rows.valid is not None:
        wrong = wrong & rows.valid
    where = wrong.nonzero()
    if len(where):
        batch, row = where[0].tolist()
        raise ValueError(
            f"{rule}, got {values[batch, row].tolist()} in batch {batch}, row {row}; "
            "mark padded rows with num_keypoints or valid"
        )
