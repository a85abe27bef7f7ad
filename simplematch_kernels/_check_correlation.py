"""Checks of `local_correlation`, shared by torch and NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ._check_options import as_integer, check_choice, check_number, shown
from ._options import MetricOptions, SamplingOptions, Size

METRICS = ("dot", "cosine")
SAMPLINGS = ("bilinear", "nearest")
_NAMES: Mapping[str, str] = {
    "source_size": "target_size",
    "source_coords": "target_coords",
    "sampling_padding": "padding",
}


class CorrelationOptions(NamedTuple):
    """The options that are no tensors, as the operator takes them."""

    sampling: SamplingOptions
    metric: MetricOptions
    radius: tuple[int, int] | None
    scale: float


def check_correlation_options(
    radius: int | Sequence[int] | None,
    offsets: object,
    target_size: Size,
    target_coords: str,
    sampling: str,
    padding: str,
    metric: str,
    scale: float,
    eps: float,
    eps_mode: str,
) -> CorrelationOptions:
    if (radius is None) == (offsets is None):
        both = "got both" if offsets is not None else "got neither"
        raise ValueError(f"radius or offsets must be given, and not the other, {both}")
    check_choice("sampling", sampling, SAMPLINGS)
    check_choice("metric", metric, METRICS)
    mode = "round" if sampling == "nearest" else sampling
    return CorrelationOptions(
        SamplingOptions(target_size, target_coords, mode, padding).checked(_NAMES),
        MetricOptions(metric, eps, eps_mode).checked(),
        None if radius is None else _check_radius(radius),
        check_number("scale", scale),
    )


def _check_radius(value: object) -> tuple[int, int]:
    """r or (ry, rx) as (ry, rx) cells."""
    side = as_integer(value)
    pair = (side, side)
    if side is None:
        items = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, None)
        pair = (as_integer(items[0]), as_integer(items[1]))
    if pair[0] is None or pair[1] is None:
        raise TypeError(f"radius must be a whole number of cells, or (rows, columns), got {shown(value)}")
    if pair[0] < 0 or pair[1] < 0:
        raise ValueError(f"radius must be at least 0 cells, got {shown(value)}")
    return pair[0], pair[1]


def wrong_offsets_shape(batch: int, got: Sequence[int]) -> ValueError:
    return ValueError(
        f"offsets must have shape (K, 2) or (B, K, 2) with B = {batch} and K of at least 1, got {tuple(got)}"
    )


def wrong_number_of_coords(queries: int, got: int) -> ValueError:
    return ValueError(f"coords must have one point for each of the {queries} queries, got {got}")
