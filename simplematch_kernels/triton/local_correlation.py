# mypy: ignore-errors
"""`local_correlation`: scores of queries with the cells around their points, blended into samples.

The J cells of a query are those of its window's box, row by row, (2 ry + 2) (2 rx + 2) of them; with offsets they are
the four cells of each sample in turn. A sample nearest to a cell reads that one alone.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from ._common import (
    BILINEAR,
    COSINE,
    affine_x,
    affine_y,
    clamp,
    decode,
    denominator,
    is_finite,
    is_valid,
    map_strides,
    nearest,
    point_strides,
    power_of_two,
    square_root,
)


class CorrelationSizes(NamedTuple):
    """Sizes, encoded. K samples and J cells of a query; query_columns: of the map of queries."""

    N: int
    C: int
    H: int
    W: int
    query_columns: int
    radius_y: int
    radius_x: int
    K: int
    J: int
    valid_b: int


@triton.jit
def point_of(coords, encoded, b, n, active, to_cells):
    """The points of queries n of image b in cells, float64, (0, 0) where they aren't finite, and whether they are."""
    strides = point_strides(encoded)
    pointer = coords + b * strides.b + n.to(tl.int64) * strides.n
    x = affine_x(tl.load(pointer, mask=active, other=0.0), to_cells)
    y = affine_y(tl.load(pointer + strides.d, mask=active, other=0.0), to_cells)
    finite = is_finite(x) & is_finite(y)
    return tl.where(finite, x, 0.0), tl.where(finite, y, 0.0), finite


@triton.jit
def sample_of(x, y, k, mask, offsets, encoded, b):
    """The points of samples k, and whether they are finite; without offsets those of the queries."""
    if offsets is None:
        finite = x == x
    else:
        strides = point_strides(encoded)
        pointer = offsets + b * strides.b + k.to(tl.int64) * strides.n
        x += tl.load(pointer, mask=mask, other=0.0).to(tl.float64)
        y += tl.load(pointer + strides.d, mask=mask, other=0.0).to(tl.float64)
        finite = is_finite(x) & is_finite(y)
        x, y = tl.where(finite, x, 0.0), tl.where(finite, y, 0.0)
    return x, y, finite


@triton.jit
def cells_of(x, y, j, mask, offsets, encoded, b, sizes, SAMPLING: tl.constexpr):
    """Row and column of cells j of queries at (x, y), inside the map, and whether the map has them."""
    EXTRA: tl.constexpr = 1 if SAMPLING.MODE == BILINEAR else 0
    H, W = decode(sizes.H), decode(sizes.W)
    if offsets is None:
        pitch = 2 * decode(sizes.radius_x) + 1 + EXTRA
        column = nearest(x, SAMPLING) + (j % pitch - decode(sizes.radius_x))
        row = nearest(y, SAMPLING) + (j // pitch - decode(sizes.radius_y))
        found = mask & (column == column)
    else:
        TAPS: tl.constexpr = 4 if SAMPLING.MODE == BILINEAR else 1
        px, py, finite = sample_of(x, y, j // TAPS, mask, offsets, encoded, b)
        column = nearest(px, SAMPLING) + j % TAPS % 2
        row = nearest(py, SAMPLING) + j % TAPS // 2
        found = mask & finite
    if SAMPLING.BORDER:
        column, row = clamp(column, W), clamp(row, H)
    else:
        found = found & (column >= 0) & (column < W) & (row >= 0) & (row < H)
    return tl.where(found, row, 0.0).to(tl.int32), tl.where(found, column, 0.0).to(tl.int32), found


@triton.jit
def query_row(queries, strides, b, n, sizes):
    """A pointer to channel 0 of queries n."""
    columns = decode(sizes.query_columns)
    return queries + b * strides.b + (n // columns).to(tl.int64) * strides.h + (n % columns).to(tl.int64) * strides.w


@triton.jit
def length_of_query(row, channel_stride, C, ACC: tl.constexpr, BLOCK_C: tl.constexpr):
    """|q| (1,), from squares of numbers up to 2: they neither overflow nor vanish."""
    largest = tl.zeros((1, BLOCK_C), ACC)
    for c0 in range(0, C, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        q = tl.load(row[:, None] + c[None, :].to(tl.int64) * channel_stride, mask=(c < C)[None, :], other=0.0).to(ACC)
        largest = tl.maximum(largest, tl.abs(q))
    shrink = power_of_two(1 / tl.max(largest, 1))
    squares = tl.zeros((1, BLOCK_C), ACC)
    for c0 in range(0, C, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        q = tl.load(row[:, None] + c[None, :].to(tl.int64) * channel_stride, mask=(c < C)[None, :], other=0.0).to(ACC)
        squares += (q * shrink[:, None]) * (q * shrink[:, None])
    return square_root(tl.sum(squares, 1)) / shrink


@triton.jit
def correlation_scores_kernel(
    queries, target, coords, offsets, num_keypoints, valid, norms, query_norms, scores,
    sizes, queries_strides, target_strides, coords_strides, offsets_strides, to_cells, eps: tl.float64,
    SAMPLING: tl.constexpr, METRIC: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """scores (B, N, J): s[n, m] of cells m of query n, 0 for cells that the map lacks; |q_n| (B, N), for the cosine.

    queries (B, C, Hq, Wq) and target (B, C, H, W) of any strides; norms (B, M) of the target's cells.
    Program = one query x BLOCK_J cells. Bytes: J C of the target, most of them out of L2, J of scores.
    """
    ACC: tl.constexpr = scores.dtype.element_ty
    N, C, J, W = decode(sizes.N), decode(sizes.C), decode(sizes.J), decode(sizes.W)
    tiles = tl.cdiv(J, BLOCK_J)
    program = tl.program_id(0)
    i_j = program % tiles
    b = (program // tiles // N).to(tl.int64)
    n = program // tiles % N + tl.zeros((1,), tl.int32)
    active = is_valid(num_keypoints, valid, b, n, 0, N, decode(sizes.valid_b))
    x, y, finite = point_of(coords, coords_strides, b, n, active, to_cells)
    j = i_j * BLOCK_J + tl.arange(0, BLOCK_J)
    row, column, found = cells_of(x, y, j, (j < J) & active & finite, offsets, offsets_strides, b, sizes, SAMPLING)
    of_queries, of_target = map_strides(queries_strides), map_strides(target_strides)
    query = query_row(queries, of_queries, b, n, sizes)
    cell = target + b * of_target.b + row.to(tl.int64) * of_target.h + column.to(tl.int64) * of_target.w
    q_power, f_power = tl.full((1,), 1.0, ACC), tl.full((BLOCK_J,), 1.0, ACC)
    q_divisor, f_divisor = q_power, f_power
    if METRIC.KIND == COSINE:
        length = length_of_query(query, of_queries.c, C, ACC, BLOCK_C)
        tl.store(query_norms + b * N + n, length, mask=n * 0 + i_j == 0)
        norm = tl.load(norms + b * (decode(sizes.H) * W) + row * W + column, mask=found, other=1.0)
        q_divisor, f_divisor = denominator(length, eps, METRIC.CLAMP_EPS), denominator(norm, eps, METRIC.CLAMP_EPS)
        q_power, f_power = power_of_two(1 / q_divisor), power_of_two(1 / f_divisor)
    total = tl.zeros((BLOCK_J,), ACC)
    for c0 in range(0, C, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        channel, in_channels = c[None, :].to(tl.int64), (c < C)[None, :]
        q = tl.load(query[:, None] + channel * of_queries.c, mask=in_channels, other=0.0).to(ACC)  # (1, BLOCK_C)
        f = tl.load(cell[:, None] + channel * of_target.c, mask=found[:, None] & in_channels, other=0.0).to(ACC)
        total += tl.sum((q * q_power[:, None]) * (f * f_power[:, None]), 1)
    total = total / (q_divisor * q_power) / (f_divisor * f_power)
    tl.store(scores + (b * N + n).to(tl.int64) * J + j, tl.where(found, total, 0.0), mask=j < J)


@triton.jit
def correlation_samples_kernel(
    scores, coords, offsets, num_keypoints, valid, samples,
    sizes, coords_strides, offsets_strides, to_cells, scale: tl.float64, SAMPLING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[n, k] = scale * sum over the cells of sample k of weight s; cells of weight 0 aren't read.

    Program = BLOCK samples of one image. Bytes: four scores for each, most of them out of L1; out written.
    """
    ACC: tl.constexpr = scores.dtype.element_ty
    N, K, J = decode(sizes.N), decode(sizes.K), decode(sizes.J)
    tiles = tl.cdiv(N * K, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    i = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    n, k = i // K, i % K
    mask = n < N
    active = is_valid(num_keypoints, valid, b, n, 0, N, decode(sizes.valid_b))
    x, y, finite = point_of(coords, coords_strides, b, n, mask, to_cells)
    x, y, of_offset = sample_of(x, y, k, mask, offsets, offsets_strides, b)
    right, below = x - nearest(x, SAMPLING), y - nearest(y, SAMPLING)
    total = tl.zeros((BLOCK,), ACC)
    row = scores + (b * N + n) * J
    if SAMPLING.MODE == BILINEAR:
        columns = 2 * decode(sizes.radius_x) + 1
        for corner in tl.static_range(4):
            along_x = right if corner % 2 == 1 else 1 - right
            along_y = below if corner // 2 == 1 else 1 - below
            if offsets is None:
                j = (k // columns + corner // 2) * (columns + 1) + k % columns + corner % 2
            else:
                j = 4 * k + corner
            weight = (along_x * along_y).to(ACC)
            total += tl.where(weight != 0, weight * tl.load(row + j, mask=mask & (weight != 0), other=0.0), 0.0)
    else:
        total += tl.load(row + k, mask=mask, other=0.0)
    total = tl.where(finite & of_offset, total * tl.full((), scale, tl.float64).to(ACC), float("nan"))
    tl.store(samples + (b * N + n) * K + k, tl.where(active, total, 0.0), mask=mask)
