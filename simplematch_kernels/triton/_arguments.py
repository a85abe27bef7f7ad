"""Tensors and options of the operators as the groups that kernels take."""

from __future__ import annotations

import ctypes
from functools import lru_cache

from torch import Tensor

from .._resolved import IDENTITY, AffineMap, Localization, Metric, Sampling, Window
from ._groups import (
    AffineMaps,
    MapStrides,
    MaskStrides,
    MetricSwitches,
    PointStrides,
    QueryStrides,
    SamplingSwitches,
    ScoreStrides,
    WindowSize,
    WindowSwitches,
    encode,
)

SAMPLINGS = {"floor": 0, "round": 1, "bilinear": 2}
METRICS = {"cosine": 0, "dot": 1, "l2": 2, "l1": 3}
COORDINATES = {"corner": 0, "half_pixel": 1, "align_corners": 2}
SHAPES = {"square": 0, "plus": 1, "disc": 2, "closed_disc": 3}
DESCRIPTORS = SamplingSwitches(3, False)
DOT = MetricSwitches(METRICS["dot"], False)
ZERO = encode(0)


def map_strides(x: Tensor) -> MapStrides:
    return MapStrides(*x.stride())


def encoded_map_strides(x: Tensor) -> MapStrides:
    b, c, h, w = x.stride()
    return MapStrides(encode(b), encode(c), encode(h), encode(w))


def score_strides(x: Tensor) -> ScoreStrides:
    b, n, h, w = x.stride()
    return ScoreStrides(encode(b), encode(n), encode(h), w)


def query_strides(x: Tensor) -> QueryStrides:
    return QueryStrides(*x.stride())


def point_strides(x: Tensor | None) -> PointStrides | None:
    if x is None:
        return None
    b, n, d = x.stride()
    return PointStrides(encode(b), encode(n), encode(d))


def row_strides(x: Tensor | None) -> tuple[int, int]:
    """Those of (B, N), encoded; of what is not there, 0."""
    if x is None:
        return ZERO, ZERO
    b, n = x.stride()
    return encode(b), encode(n)


def mask_strides(mask: Tensor | None) -> MaskStrides:
    """Those of (B, M), one for all queries of an image, or of (B, N, M), of which the cells are contiguous."""
    if mask is None:
        return MaskStrides(ZERO, ZERO)
    return MaskStrides(encode(mask.stride(0)), encode(mask.stride(1) if mask.dim() == 3 else 0))


def matrix_strides(x: Tensor | None) -> tuple[int, int, int, int]:
    """Those of (B, N, 2, 2), encoded; of what is not there, 0."""
    if x is None:
        return ZERO, ZERO, ZERO, ZERO
    b, n, i, j = x.stride()
    return encode(b), encode(n), encode(i), encode(j)


def affine_maps(x: AffineMap, y: AffineMap, coordinates: str) -> AffineMaps:
    return AffineMaps(
        encode(x.numerator), encode(x.shift), encode(x.denominator),
        encode(y.numerator), encode(y.shift), encode(y.denominator),
        encode(COORDINATES[coordinates]),
    )  # fmt: skip


def to_cells(sampling: Sampling | None) -> AffineMaps:
    if sampling is None:
        return affine_maps(IDENTITY, IDENTITY, "corner")
    return affine_maps(sampling.to_cells_x, sampling.to_cells_y, sampling.coordinates)


def from_cells(localization: Localization) -> AffineMaps:
    return affine_maps(localization.from_cells_x, localization.from_cells_y, localization.coordinates)


def source_sizes(sampling: Sampling | None) -> Tensor | None:
    sizes: Tensor | None = None if sampling is None else sampling.image_sizes
    return sizes


def sampling_switches(sampling: Sampling | None) -> SamplingSwitches:
    if sampling is None:
        return DESCRIPTORS
    return SamplingSwitches(SAMPLINGS[sampling.mode], sampling.padding == "border")


def metric_switches(metric: Metric) -> MetricSwitches:
    return MetricSwitches(METRICS[metric.kind], metric.clamp_eps)


def window_switches(window: Window) -> WindowSwitches:
    return WindowSwitches(window.shift, SHAPES[window.shape], window.sigma > 0, window.has_outside)


def window_size(window: Window | None, rows: int, columns: int) -> WindowSize:
    """Without a window, 1 x 1: a kernel then makes no use of it."""
    height, width = (1, 1) if window is None else (window.height, window.width)
    size = WindowSize(encode(height), encode(width), encode(rows), encode(columns))
    if window is None or not window.is_disc:
        return size
    return WindowSize(*size[:4], *_in_float32(window.disc_height), *_in_float32(window.disc_width))


@lru_cache(maxsize=64)
def _in_float32(x: float) -> tuple[float, float, float]:
    """Three float32 whose sum is x: Triton makes float32 of the numbers in a tuple."""
    parts = []
    for _ in range(3):
        parts.append(ctypes.c_float(x).value)
        x -= parts[-1]
    first, second, third = parts
    return first, second, third


def temperature_value(localization: Localization) -> float:
    value = localization.temperature
    return 1.0 if value is None else value
