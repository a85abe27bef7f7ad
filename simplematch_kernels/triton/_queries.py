# mypy: ignore-errors
"""The queries as `localize_backward` and `similarity_gradient` write them for the two steps that follow."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    COSINE,
    DESCRIPTORS,
    L2,
    is_finite,
    keypoint_cells,
    maps_to_cells,
    point_strides,
    power_of_two,
    read_queries,
    scale_and_inverse,
    square_root,
    when,
)
from ._records import Points


@triton.jit
def query_points(image, keypoints, b, n, active, SAMPLING: tl.constexpr):
    """The `Points` at which query n of image b, a block of one, samples its source, and whether they are finite."""
    rows = n + tl.zeros((1,), tl.int32)
    here = when(active, rows >= 0)
    if SAMPLING.MODE == DESCRIPTORS:
        points, finite = Points(rows, rows, rows, here), rows == rows
    else:
        strides = point_strides(keypoints.strides)
        to_cells = maps_to_cells(keypoints.to_cells, keypoints.sizes, b, image.H, image.W)
        pointer = keypoints.pointer + b * strides.b
        points, finite = keypoint_cells(
            pointer, strides, rows, here, image.H, image.W, to_cells, SAMPLING
        )  # fmt: skip
    return points, finite


@triton.jit
def query_norm(image, points, C, SAMPLING: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr):
    """|q|, from squares of numbers up to 2: they neither overflow nor vanish."""
    largest = tl.zeros((1, BLOCK_C), ACC)
    for c0 in range(0, C, BLOCK_C):
        q = read_queries(image, points, c0 + tl.arange(0, BLOCK_C), C, SAMPLING, False, ACC)  # (1, BLOCK_C)
        largest = tl.maximum(largest, tl.abs(q))
    shrink = power_of_two(1 / tl.max(tl.max(largest, 1), 0))
    squares = tl.zeros((1, BLOCK_C), ACC)
    for c0 in range(0, C, BLOCK_C):
        q = read_queries(image, points, c0 + tl.arange(0, BLOCK_C), C, SAMPLING, False, ACC)  # (1, BLOCK_C)
        squares += (q * shrink) * (q * shrink)
    return square_root(tl.sum(tl.sum(squares, 1), 0)) / shrink


@triton.jit
def fill_query(
    image, points, finite, sums, active, outputs, eps,
    SAMPLING: tl.constexpr, METRIC: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write P(q) q, with 0 for channels that aren't finite, query_scale and query_own: see `localize_backward`."""
    ACC: tl.constexpr = outputs.scale.dtype.element_ty
    C = outputs.C
    scale = tl.full((), 2.0 if METRIC.KIND == L2 else 1.0, ACC)
    own = 2 * sums.ds if METRIC.KIND == L2 else tl.full((), 0.0, ACC)
    power = tl.full((), 1.0, ACC)
    if METRIC.KIND == COSINE:
        norm = query_norm(image, points, C, SAMPLING, ACC, BLOCK_C)
        scale, inverse = scale_and_inverse(norm, eps, METRIC)
        power = power_of_two(scale)
        factor = (scale / power) * (inverse / power)
        own = tl.where((factor == 0) | (sums.ds_score == 0), 0.0, factor * sums.ds_score)
    for c0 in range(0, C, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        q = read_queries(image, points, c, C, SAMPLING, False, ACC)  # (1, BLOCK_C)
        q = tl.where(is_finite(q) & finite[:, None], q * power, 0.0)
        tl.store(outputs.row + c[None, :], q, mask=(c < C)[None, :])
    tl.store(outputs.scale, tl.where(active, scale, 0.0))
    tl.store(outputs.own, tl.where(active, own, 0.0))
