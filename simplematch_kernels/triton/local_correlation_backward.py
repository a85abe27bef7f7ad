# mypy: ignore-errors
"""The gradients of `local_correlation`: weights of the cells of every query, then sums for queries and cells."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    BILINEAR,
    COSINE,
    decode,
    denominator,
    is_finite,
    is_valid,
    map_strides,
    nearest,
    point_strides,
    power_of_two,
    scale_and_inverse,
    slopes,
)
from .local_correlation import cells_of, point_of, query_row, sample_of


@triton.jit
def weighted_upstream(upstream, strides, b, n, k, weight, mask, ACC: tl.constexpr):
    """weight g, 0 where either is."""
    pointer = upstream + b * strides.b + n.to(tl.int64) * strides.n + k.to(tl.int64) * strides.d
    g = tl.load(pointer, mask=mask & (weight != 0), other=0.0)
    return tl.where((weight != 0) & (g != 0), weight * g, 0.0).to(ACC)


@triton.jit
def correlation_weights_kernel(
    scores, upstream, coords, offsets, num_keypoints, valid, weights, cells,
    sizes, upstream_strides, coords_strides, offsets_strides, to_cells, scale: tl.float64,
    SAMPLING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """v[n, j] = scale * sum over the samples k that read cell j of weight g[n, k], NaN where it or s isn't finite.

    cells (B, N, J): the flat cell b M + m of each, or B M where v is 0. Program = BLOCK cells. Bytes, in float32: of
    scores and upstream 4 B N (J + K) read, of weights and cells 12 B N J written.
    """
    ACC: tl.constexpr = scores.dtype.element_ty
    N, J, H, W = decode(sizes.N), decode(sizes.J), decode(sizes.H), decode(sizes.W)
    tiles = tl.cdiv(N * J, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    images = tl.num_programs(0) // tiles
    i = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    n, j = i // J, i % J
    mask = n < N
    active = is_valid(num_keypoints, valid, b, n, 0, N, decode(sizes.valid_b))
    x, y, finite = point_of(coords, coords_strides, b, n, mask, to_cells)
    row, column, found = cells_of(x, y, j, active & finite, offsets, offsets_strides, b, sizes, SAMPLING)
    of_upstream = point_strides(upstream_strides)
    factor = tl.full((), scale, tl.float64).to(ACC)
    v = tl.zeros((BLOCK,), ACC)
    if SAMPLING.MODE != BILINEAR:
        v += weighted_upstream(upstream, of_upstream, b, n, j, tl.where(found, factor, 0.0), mask, ACC)
    elif offsets is not None:
        px, py, _ = sample_of(x, y, j // 4, mask, offsets, offsets_strides, b)
        right, below = px - nearest(px, SAMPLING), py - nearest(py, SAMPLING)
        along_x = tl.where(j % 2 == 1, right, 1 - right)
        along_y = tl.where(j % 4 // 2 == 1, below, 1 - below)
        weight = tl.where(found, (along_x * along_y).to(ACC) * factor, 0.0)
        v += weighted_upstream(upstream, of_upstream, b, n, j // 4, weight, mask, ACC)
    else:
        rows, columns = 2 * decode(sizes.radius_y) + 1, 2 * decode(sizes.radius_x) + 1
        right, below = x - nearest(x, SAMPLING), y - nearest(y, SAMPLING)
        for corner in tl.static_range(4):
            along_x = right if corner % 2 == 1 else 1 - right
            along_y = below if corner // 2 == 1 else 1 - below
            sample_y, sample_x = j // (columns + 1) - corner // 2, j % (columns + 1) - corner % 2
            inside = found & (sample_y >= 0) & (sample_y < rows) & (sample_x >= 0) & (sample_x < columns)
            weight = tl.where(inside, (along_x * along_y).to(ACC) * factor, 0.0)
            v += weighted_upstream(upstream, of_upstream, b, n, sample_y * columns + sample_x, weight, mask, ACC)
    at = (b * N + n) * J + j
    known = is_finite(v) & is_finite(tl.load(scores + at, mask=mask, other=0.0))
    v = tl.where((v == 0) | known, v, float("nan"))
    tl.store(weights + at, v, mask=mask)
    if cells is not None:
        cell = b * (H * W) + row * W + column
        tl.store(cells + at, tl.where(v == 0, images.to(tl.int64) * (H * W), cell), mask=mask)


@triton.jit
def correlation_queries_kernel(
    target, queries, coords, offsets, norms, query_norms, scores, weights, gradient,
    sizes, target_strides, queries_strides, gradient_strides, coords_strides, offsets_strides, to_cells,
    eps: tl.float64, SAMPLING: tl.constexpr, METRIC: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dq_n = (sum_j v[n, j] f_j / D(f_j) - q_n / |q_n| sum_j v s) / D(q_n) for the cosine;  sum_j v f_j for dot

    Program = one query x BLOCK_C channels. Bytes: J C of the target, out of L2; C written.
    """
    ACC: tl.constexpr = scores.dtype.element_ty
    N, C, J, W = decode(sizes.N), decode(sizes.C), decode(sizes.J), decode(sizes.W)
    tiles = tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    c = program % tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    b = (program // tiles // N).to(tl.int64)
    n = program // tiles % N + tl.zeros((1,), tl.int32)
    of_target, of_queries = map_strides(target_strides), map_strides(queries_strides)
    of_gradient = map_strides(gradient_strides)
    x, y, finite = point_of(coords, coords_strides, b, n, n < N, to_cells)
    channel, in_channels = c[None, :].to(tl.int64), (c < C)[None, :]
    total, own = tl.zeros((1, BLOCK_C), ACC), tl.zeros((1,), ACC)
    for j0 in range(0, J, BLOCK_J):
        j = j0 + tl.arange(0, BLOCK_J)
        at = (b * N + n).to(tl.int64) * J + j
        v = tl.load(weights + at, mask=j < J, other=0.0)
        row, column, found = cells_of(x, y, j, (j < J) & finite, offsets, offsets_strides, b, sizes, SAMPLING)
        power = tl.full((BLOCK_J,), 1.0, ACC)
        weight = v
        if METRIC.KIND == COSINE:
            norm = tl.load(norms + b * (decode(sizes.H) * W) + row * W + column, mask=found, other=1.0)
            divisor = denominator(norm, eps, METRIC.CLAMP_EPS)
            power = power_of_two(1 / divisor)
            weight = tl.where(v == 0, 0.0, v / (divisor * power))
            s = tl.load(scores + at, mask=j < J, other=0.0)
            own += tl.sum(tl.where(v == 0, 0.0, v * s), 0)
        reads = (found & (v != 0))[:, None] & in_channels
        cell = target + b * of_target.b + row.to(tl.int64) * of_target.h + column.to(tl.int64) * of_target.w
        f = tl.load(cell[:, None] + channel * of_target.c, mask=reads, other=0.0).to(ACC) * power[:, None]
        f = tl.where(is_finite(f), f, 0.0)
        total += tl.sum(weight[:, None] * f, 0)[None, :]
    if METRIC.KIND == COSINE:
        scale, inverse = scale_and_inverse(tl.load(query_norms + b * N + n), eps, METRIC)
        q = tl.load(
            query_row(queries, of_queries, b, n, sizes)[:, None] + channel * of_queries.c, mask=in_channels, other=0.0
        ).to(ACC)
        unit = tl.where(is_finite(q), q * inverse[:, None], 0.0)
        total = scale[:, None] * (total - tl.where(own == 0, 0.0, own)[:, None] * unit)
        total = tl.where((own == own)[:, None], total, float("nan"))
    to = query_row(gradient, of_gradient, b, n, sizes)[:, None] + channel * of_gradient.c
    tl.store(to, total.to(gradient.dtype.element_ty), mask=in_channels)


@triton.jit
def correlation_target_kernel(
    target, queries, norms, query_norms, scores, weights, order, starts, gradient,
    sizes, target_strides, queries_strides, gradient_strides, eps: tl.float64,
    METRIC: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """df_m = (sum_n v[n, m] q_n / D(q_n) - f_m / |f_m| sum_n v s) / D(f_m) for the cosine;  sum_n v q_n for dot

    order: the entries (n, j) of all queries sorted by their cell, those of cell m from starts[m] to starts[m + 1].
    Program = one cell x BLOCK_C channels. Bytes: a row of C for each entry, out of L2; C written.
    """
    ACC: tl.constexpr = scores.dtype.element_ty
    N, C, J, W = decode(sizes.N), decode(sizes.C), decode(sizes.J), decode(sizes.W)
    M = decode(sizes.H) * W
    tiles = tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    c = program % tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    b = (program // tiles // M).to(tl.int64)
    m = program // tiles % M
    of_target, of_queries = map_strides(target_strides), map_strides(queries_strides)
    of_gradient = map_strides(gradient_strides)
    channel, in_channels = c[None, :].to(tl.int64), (c < C)[None, :]
    total, own = tl.zeros((1, BLOCK_C), ACC), tl.zeros((1,), ACC)
    first, last = tl.load(starts + b * M + m), tl.load(starts + b * M + m + 1)
    for e0 in range(first, last, BLOCK_E):
        e = e0 + tl.arange(0, BLOCK_E)
        entry = tl.load(order + e, mask=e < last, other=0)
        v = tl.load(weights + entry, mask=e < last, other=0.0)
        n = entry // J - b * N
        weight = v
        if METRIC.KIND == COSINE:
            divisor = denominator(tl.load(query_norms + b * N + n, mask=e < last, other=1.0), eps, METRIC.CLAMP_EPS)
            weight = v / divisor
            own += tl.sum(v * tl.load(scores + entry, mask=e < last, other=0.0), 0)
        row = query_row(queries, of_queries, b, n, sizes)
        reads = (e < last)[:, None] & in_channels
        q = tl.load(row[:, None] + channel * of_queries.c, mask=reads, other=0.0).to(ACC)
        total += tl.sum(weight[:, None] * tl.where(is_finite(q), q, 0.0), 0)[None, :]
    at = (m // W).to(tl.int64)
    column = (m % W).to(tl.int64)
    if METRIC.KIND == COSINE:
        norm = tl.load(norms + b * M + m) + tl.zeros((1,), ACC)
        scale, inverse = scale_and_inverse(norm, eps, METRIC)
        cell = target + b * of_target.b + at * of_target.h + column * of_target.w
        f = tl.load(cell + channel * of_target.c, mask=in_channels, other=0.0).to(ACC)
        unit = tl.where(is_finite(f), f * inverse[:, None], 0.0)
        total = scale[:, None] * (total - tl.where(own == 0, 0.0, own)[:, None] * unit)
        total = tl.where((own == own)[:, None] & (first < last), total, tl.where(first < last, float("nan"), 0.0))
    to = gradient + b * of_gradient.b + at * of_gradient.h + column * of_gradient.w
    tl.store(to + channel * of_gradient.c, total.to(gradient.dtype.element_ty), mask=in_channels)


@triton.jit
def correlation_coords_kernel(
    scores, upstream, coords, offsets, num_keypoints, valid, gradient,
    sizes, upstream_strides, coords_strides, offsets_strides, gradient_strides, to_cells, scale: tl.float64,
    SAMPLING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dcoords_n = scale * sum_k g[n, k] sum over the cells of sample k of dweight s.

    Program = one query. Bytes, in float32: of scores and upstream 4 B N (J + K) read, 8 B N written.
    """
    N, K, J = decode(sizes.N), decode(sizes.K), decode(sizes.J)
    b = (tl.program_id(0) // N).to(tl.int64)
    n = tl.program_id(0) % N + tl.zeros((1,), tl.int32)
    active = is_valid(num_keypoints, valid, b, n, 0, N, decode(sizes.valid_b))
    x, y, finite = point_of(coords, coords_strides, b, n, n < N, to_cells)
    of_upstream, of_gradient = point_strides(upstream_strides), point_strides(gradient_strides)
    columns = 2 * decode(sizes.radius_x) + 1
    along_x, along_y = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    for k0 in range(0, K, BLOCK):
        k = k0 + tl.arange(0, BLOCK)
        mask = (k < K) & active & finite
        px, py, of_offset = sample_of(x + tl.zeros((BLOCK,), tl.float64), y, k, mask, offsets, offsets_strides, b)
        mask = mask & of_offset
        right, below = px - nearest(px, SAMPLING), py - nearest(py, SAMPLING)
        pointer = upstream + b * of_upstream.b + n.to(tl.int64) * of_upstream.n + k.to(tl.int64) * of_upstream.d
        g = tl.load(pointer, mask=mask, other=0.0).to(tl.float64)
        for corner in tl.static_range(4):
            weight_x = right if corner % 2 == 1 else 1 - right
            weight_y = below if corner // 2 == 1 else 1 - below
            if offsets is None:
                j = (k // columns + corner // 2) * (columns + 1) + k % columns + corner % 2
            else:
                j = 4 * k + corner
            s = tl.load(scores + (b * N + n).to(tl.int64) * J + j, mask=mask, other=0.0).to(tl.float64)
            product = tl.where(g != 0, g * s, 0.0)
            slope_x = weight_y if corner % 2 == 1 else -weight_y
            slope_y = weight_x if corner // 2 == 1 else -weight_x
            along_x += tl.where((slope_x != 0) & (g != 0), slope_x * product, 0.0)
            along_y += tl.where((slope_y != 0) & (g != 0), slope_y * product, 0.0)
    rate_x, rate_y = slopes(to_cells)
    factor = tl.full((), scale, tl.float64)
    to = gradient + b * of_gradient.b + n.to(tl.int64) * of_gradient.n
    KIND: tl.constexpr = gradient.dtype.element_ty
    tl.store(to, (tl.sum(along_x, 0) * factor * rate_x + tl.zeros((1,), tl.float64)).to(KIND))
    tl.store(to + of_gradient.d, (tl.sum(along_y, 0) * factor * rate_y + tl.zeros((1,), tl.float64)).to(KIND))
