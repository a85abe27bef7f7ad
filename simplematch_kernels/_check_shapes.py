"""What the checks of tensors and of NumPy arrays share: rules about sizes, and the sentence of each error.

A `shape` is text like "(B, C, H, W)". A function named after a fault returns the error to raise.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

MAP, TOKENS, LIST = "(B, C, H, W)", "(B, H*W, C)", "(B, N, C)"
SET = f"{LIST} or {MAP}"
MASK, MASKS = "(B, H, W)", "(B, N, H, W)"


MOST_CELLS = 2**30
"""Of a map, and most rows: numbers of 32 bits count them, up to a step past the last."""


class TokenShape(NamedTuple):
    """The map of cells that tokens are, row by row, and the argument that says so."""

    argument: str
    height: int
    width: int


def check_tokens(name: str, got: Sequence[int], shape: TokenShape) -> None:
    """Tokens of the size `got` are one for each cell, and have channels."""
    cells, tokens = shape.height * shape.width, got[1]
    if tokens != cells:
        raise ValueError(
            f"{name} must have {cells} tokens, one for each cell of {shape.argument} {(shape.height, shape.width)}, "
            f"got {tokens}; {_tokens_remedy(name, tokens - cells, shape.argument)}"
        )
    if got[2] == 0:
        raise no_cells(name, got)


def _tokens_remedy(name: str, extra: int, argument: str) -> str:
    if extra < 0:
        return f"{argument} counts cells, not pixels"
    first = "the first is a class token" if extra == 1 else f"the first {extra} are class and register tokens"
    return f"pass {name}[:, {extra}:] if {first}"


def check_equal(name: str, dimension: str, value: int, other_name: str, expected: int) -> None:
    if value != expected:
        raise ValueError(f"{name} must have the same {dimension} as {other_name}, got {value} and {expected}")


def check_limit(name: str, what: str, count: int) -> None:
    if count > MOST_CELLS:
        raise ValueError(f"{name} must have at most 2^30 {what}, got {count}")


def check_limits(name: str, shape: str, got: Sequence[int]) -> None:
    """Of features or scores of the size `got`: rows are what `shape` calls N, and cells H and W."""
    if shape.startswith("(B, N"):
        check_limit(name, "rows", got[1])
    if "H" in shape:
        check_limit(name, "cells", got[1] if shape == TOKENS else got[2] * got[3])


def wrong_kind(name: str, kind: str, shape: str, value: object) -> TypeError:
    return TypeError(f"{name} must be {kind} of shape {shape}, got {type(value).__name__}")


def wrong_shape(name: str, shape: str, got: Sequence[int]) -> ValueError:
    others = {
        (MAP, 3): f"; for tokens {TOKENS}, pass layout='tokens'",
        (TOKENS, 4): f"; for a map {MAP}, pass layout='map'",
    }
    return ValueError(f"{name} must have shape {shape}, got {tuple(got)}{others.get((shape, len(got)), '')}")


def wrong_features(name: str, dtype: object) -> TypeError:
    return TypeError(f"{name} must be float32, bfloat16, float16 or float64, got {dtype}")


def no_cells(name: str, got: Sequence[int]) -> ValueError:
    return ValueError(f"{name} must have at least one channel and one cell, got shape {tuple(got)}")


def different_dtypes(name: str, dtype: object, other_name: str, other_dtype: object) -> TypeError:
    return TypeError(f"{name} and {other_name} must have one dtype, got {dtype} and {other_dtype}")


def not_real(name: str, dtype: object) -> TypeError:
    return TypeError(f"{name} must be real numbers, got {dtype}")


def not_integers(name: str, dtype: object) -> TypeError:
    return TypeError(f"{name} must hold integers, got {dtype}")


def not_bool(name: str, dtype: object) -> TypeError:
    return TypeError(f"{name} must be bool, got {dtype}; `{name} > 0` makes it so")


def wrong_mask_shape(name: str, shape: str, expected: Sequence[int], got: Sequence[int]) -> ValueError:
    return ValueError(f"{name} must have shape {shape} = {tuple(expected)}, got {tuple(got)}")


def wrong_number_dtype(name: str, kind: str, dtype: object) -> TypeError:
    return TypeError(f"{name} must be a floating-point {kind} or a number, got {dtype}")


def wrong_number_shape(name: str, kind: str, shape: str, expected: Sequence[int], got: Sequence[int]) -> ValueError:
    return ValueError(
        f"{name} must be a number, a 0-d {kind} or of shape {shape} = {tuple(expected)}, got {tuple(got)}"
    )


def counts_out_of_range(name: str, of: str, most: int, counts: object) -> ValueError:
    return ValueError(f"{name} must lie between 0 and the number of {of}, {most}, got {counts}")


def no_index() -> ValueError:
    return ValueError("index_a or index_b must be given, got None for both")


def index_out_of_range(name: str, of: str, count: int, got: int) -> ValueError:
    return ValueError(
        f"{name} must be below the number of descriptors of {of}, {count}, or negative for padding, got {got}"
    )


def temperature_not_above_zero(value: float) -> ValueError:
    return ValueError(f"temperature must be above zero, got {value}")


def wrong_image_size(name: str, size: object, batch: int) -> ValueError:
    return ValueError(f"{name} must hold sizes of at least 1 x 1 pixel, got {size} for image {batch}")


def wrong_center(kind: str, got: object) -> TypeError:
    return TypeError(f"center must be {kind} of flat cells (B, N) or of points (B, N, 2), or None, got {got}")


def wrong_center_shape(expected: Sequence[int], got: Sequence[int]) -> ValueError:
    return ValueError(
        f"center must have shape (B, N) = {tuple(expected[:2])} for flat cells or (B, N, 2) = {tuple(expected)} for "
        f"points, got {tuple(got)}"
    )


def center_not_cells(dtype: object) -> TypeError:
    return TypeError(f"center of shape (B, N) must hold integers, flat cells y * W + x, got {dtype}")


CENTER_BEYOND = "center must hold flat cells below H * W = {cells} in valid rows"
NOT_FINITE = "must be finite in valid rows"
NOT_ABOVE_ZERO = "temperature must be above zero in valid rows"


def wrong_row(rule: str, value: object, batch: int, row: int) -> ValueError:
    return ValueError(f"{rule}, got {value} in batch {batch}, row {row}; mark padded rows with num_keypoints or valid")


_warnings_given: set[str] = set()


def warned_of_negative_keypoints() -> bool:
    return "negative" in _warnings_given


def warn_of_negative_keypoints(value: object, batch: int, row: int) -> None:
    """Once in a process."""
    _warnings_given.add("negative")
    warnings.warn(
        f"keypoints has a valid row of negative coordinates only, {value} in batch {batch}, row {row}, and matches "
        "it like any other; mark padded rows with num_keypoints or valid",
        stacklevel=3,
    )
