"""Checks of tensors: one sentence that names the argument, what came and what may come.

Shapes, dtypes and devices are checked before anything runs, without reading a tensor's values. `check_values` reads
values, so it serves CPU tensors only; on a GPU such rows become NaN. Options: `_check_options.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _check_shapes
from ._check_options import check_number
from ._check_shapes import TokenShape, check_equal
from ._types import Rows

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
    return tensor


def check_map(name: str, value: object, shape: TokenShape | None) -> Tensor:
    """Features as a map (B, C, H, W): themselves, or a view of tokens (B, H*W, C) of that shape."""
    if shape is None:
        return check_features(name, value, _check_shapes.MAP)
    tokens = check_features(name, value, _check_shapes.TOKENS)
    _check_shapes.check_tokens(name, tokens.shape, shape)
    view: Tensor = tokens.transpose(1, 2).unflatten(2, (shape.height, shape.width))
    return view


def check_cells(name: str, features: Tensor, channels: bool = True) -> None:
    """The map has at least one cell and one channel."""
    height, width = features.shape[-2:]
    if height == 0 or width == 0 or (channels and features.shape[1] == 0):
        raise _check_shapes.no_cells(name, features.shape)


def check_pair(name: str, first: Tensor, other_name: str, other: Tensor) -> None:
    """Same device, and the same dtype unless autocast will make them so."""
    if first.device != other.device:
        raise ValueError(f"{name} and {other_name} must be on one device, got {first.device} and {other.device}")
    if first.dtype != other.dtype and not torch.is_autocast_enabled(other.device.type):
        raise _check_shapes.different_dtypes(name, first.dtype, other_name, other.dtype)


def check_keypoints(
    keypoints: object, features: Tensor, features_name: str, sampling: str, name: str = "keypoints"
) -> Tensor:
    """Keypoints (B, N, 2) of the features' device as float32, or float64 if they came so.

    They are detached unless the sampling is bilinear, because only that has a gradient with respect to them.
    """
    tensor = check_tensor(name, keypoints, "(B, N, 2)")
    if tensor.shape[2] != 2:
        raise _check_shapes.wrong_shape(name, "(B, N, 2)", tensor.shape)
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise _check_shapes.not_real(name, tensor.dtype)
    check_equal(name, "batch size", tensor.shape[0], features_name, features.shape[0])
    check_device(name, tensor, features_name, features)
    if sampling != "bilinear":
        tensor = tensor.detach()
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def check_rows(rows: Rows, queries: int, target: Tensor) -> Rows:
    """The row and cell restrictions, in the form the backends take (see `Rows`)."""
    num_keypoints, valid, target_mask = rows
    if num_keypoints is None and valid is None and target_mask is None:
        return rows
    batch, (height, width) = target.shape[0], target.shape[2:]
    if num_keypoints is not None:
        num_keypoints = check_tensor("num_keypoints", num_keypoints, "(B,)")
        if num_keypoints.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
            raise _check_shapes.not_integers("num_keypoints", num_keypoints.dtype)
        check_equal("num_keypoints", "batch size", num_keypoints.shape[0], "target", batch)
        check_device("num_keypoints", num_keypoints, "target", target)
        num_keypoints = num_keypoints.long().contiguous()
    if valid is not None:
        valid = _check_mask("valid", valid, "(B, N)", (batch, queries), target).contiguous()
    if target_mask is not None:
        target_mask = _check_mask("target_mask", target_mask, "(B, H, W)", (batch, height, width), target).flatten(1)
    return Rows(num_keypoints, valid, None if target_mask is None else target_mask.contiguous())


def _check_mask(name: str, value: object, shape: str, expected: tuple[int, ...], target: Tensor) -> Tensor:
    mask = check_tensor(name, value, shape)
    if mask.dtype != torch.bool:
        raise _check_shapes.not_bool(name, mask.dtype)
    if tuple(mask.shape) != expected:
        raise _check_shapes.wrong_mask_shape(name, shape, expected, mask.shape)
    check_device(name, mask, "target", target)
    return mask


def check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}")


def check_temperature(
    value: float | Tensor, batch: int, queries: int, scores: Tensor
) -> tuple[float | None, Tensor | None]:
    """(number, None), or (None, tensor expanded to (B, N) in the dtype of the arithmetic)."""
    if not isinstance(value, Tensor):
        return check_number("temperature", value, above=0.0), None
    if value.shape == (1,):
        value = value[0]
    if not value.is_floating_point() and (value.dim() > 0 or value.dtype == torch.bool or value.is_complex()):
        raise _check_shapes.wrong_temperature_dtype("tensor", value.dtype)
    if value.dim() != 0 and tuple(value.shape) != (batch, queries):
        raise _check_shapes.wrong_temperature_shape("tensor", batch, queries, value.shape)
    if value.device != scores.device:
        raise ValueError(f"temperature must be on the device of the features, {scores.device}, got {value.device}")
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return None, value.to(dtype).expand(batch, queries)


def check_values(keypoints: Tensor | None, rows: Rows, temperature: Tensor | None, queries: int) -> None:
    """Values a kernel can't use: keypoints that aren't finite, counts out of range, temperatures not above zero.

    Warns of the first valid row whose coordinates are all negative, which unmarked padding looks like.
    """
    counts = rows.num_keypoints
    if counts is not None and counts.numel() and not 0 <= int(counts.min()) <= int(counts.max()) <= queries:
        raise _check_shapes.counts_out_of_range(queries, counts.tolist())
    if keypoints is not None and keypoints.numel():
        lowest, highest = (extreme.item() for extreme in torch.aminmax(keypoints))
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            _raise_at_first(_check_shapes.NOT_FINITE, ~keypoints.isfinite().all(-1), rows, keypoints)
        if lowest < 0 and not _check_shapes.warned_of_negative_keypoints():
            where = _valid(rows, (keypoints < 0).all(-1)).nonzero()
            if len(where):
                batch, row = where[0].tolist()
                _check_shapes.warn_of_negative_keypoints(keypoints[batch, row].tolist(), batch, row)
    if temperature is not None and temperature.numel() and not bool(temperature.min() > 0):
        _raise_at_first(_check_shapes.NOT_ABOVE_ZERO, ~(temperature > 0), rows, temperature)


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
