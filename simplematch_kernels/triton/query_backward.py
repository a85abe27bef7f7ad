# mypy: ignore-errors
"""`query_backward`: every query gathers from the target cells of its window."""

from __future__ import annotations

import triton
import triton.language as tl

from ._absolute import add_signs_of_cells
from ._common import (
    COSINE,
    L1,
    by_cell,
    by_channel,
    image_of,
    is_finite,
    map_offsets,
    multiply,
    names,
    power_of_two,
    scale_and_inverse,
    when,
)
from ._groups import ScoreStrides, WindowSize
from ._records import Norms, Weights
from ._window import corner_offset, in_windows, windows_of


@triton.jit
def window_sum(
    weights, target, norms, channels, span, q,
    FINITE: tl.constexpr, METRIC: tl.constexpr, PRECISION: tl.constexpr, WALK: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """sum_m w[n, m] f_m over a span of cells; if FINITE, without those of which the norm isn't finite.

    l1: sum_m w[n, m] sign(f_m - q_n); the others make no use of q (BLOCK_N, BLOCK_C).

    Which elements of f are read depends on nothing read before, so that they can be copied ahead of their use, except
    in the rare sum that is FINITE.
    """
    OFFSET: tl.constexpr = tl.int64 if WALK.WIDE else tl.int32
    ACC: tl.constexpr = weights.scale.dtype
    c, C = channels
    start, stop = span
    total = tl.zeros((weights.scale.shape[0], c.shape[0]), ACC)
    for m0 in tl.range(start, stop, BLOCK_M, num_stages=1 if FINITE else None):
        m = m0 + tl.arange(0, BLOCK_M)
        in_map = m < stop
        y = m // target.W
        x = m - y * target.W
        inside = in_windows(weights.bounds, weights.active, x, y, in_map)
        cell = y.to(OFFSET) * weights.stride_h + x.to(OFFSET) * weights.stride_w
        pointer = weights.pointer + (weights.corner[:, None] + cell[None, :])
        d = tl.load(pointer, mask=inside, other=0.0).to(ACC)  # (BLOCK_N, BLOCK_M)
        w = d * weights.scale[:, None]
        if METRIC.KIND == COSINE or FINITE:
            norm = tl.load(norms.pointer + m, mask=in_map, other=1.0)  # (BLOCK_M,)
        if METRIC.KIND == COSINE:
            scale, _inverse = scale_and_inverse(norm, norms.eps, METRIC)
            w = w * scale[None, :]
        w = tl.where(d == 0, 0.0, w)
        if FINITE:
            in_map = in_map & is_finite(norm)
        mask = by_cell(in_map, WALK)
        if not WALK.EVEN_C:
            mask = mask & by_channel(c < C, WALK)
        offset = map_offsets(m, c, target.W, target, WALK)
        f = tl.load(target.pointer + offset, mask=mask, other=0.0)  # (BLOCK_M, BLOCK_C) if CHANNELS_LAST
        if METRIC.KIND == L1:
            total = add_signs_of_cells(w, f if WALK.CHANNELS_LAST else tl.trans(f), q, total)
        else:
            total = multiply(w, f if WALK.CHANNELS_LAST else tl.trans(f), total, PRECISION)
    return total


@triton.jit(
    do_not_specialize=names(
        "ds peak query_scale query_own N splits peak_b scalar_b ds_b ds_n ds_h window_height window_width"
    )
)
def query_backward_kernel(
    ds, peak, queries, query_scale, query_own, norms, target, gradient,
    N, C, H, W, splits, peak_b, scalar_b, ds_b, ds_n, ds_h, ds_w, queries_b, target_strides, gradient_strides,
    window_height, window_width, eps: tl.float64,
    SHIFT: tl.constexpr, METRIC: tl.constexpr, PRECISION: tl.constexpr, WALK: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dq_n = P(q_n) (sum_m w[n, m] f_m - u_n own_n),  w[n, m] = ds[n, m] / (D(f_m) D(q_n) P(q_n)),  u_n = P(q_n) q_n
    l1: dq_n = sum_m ds[n, m] sign(f_m - q_n)
    w = 0 where ds is, whatever D is. A sum that isn't finite is made again without the cells of which the norm isn't:
    the ds of these is 0 or NaN.

    ds: (B, N, rows, columns) from the top-left cell of each window, or (B, N, H, W) of any strides without `peak`.
    queries (B, N, C), query_scale and query_own (B, N) from `localize_backward`. target (B, C, H, W): any strides.
    gradient (splits, B, N, C): partial sums over `splits` parts of the map, for `source_backward` to add. The first may
    lie where the queries do: a program writes just what it read; for l1 it reads them in every part, so there is one.
    Rows without a match get 0.

    Program = BLOCK_N queries x BLOCK_C channels of one image and one part of the map. It walks the rows of the map that
    the windows of its queries meet. Bytes: at most the target per tile of queries, 4 N M of ds per tile of channels.
    Floor at the paper's shape: 97.5 MB float32, 23 us at 4.3 TB/s, half in bfloat16.
    """
    ACC: tl.constexpr = queries.dtype.element_ty
    OFFSET: tl.constexpr = tl.int64 if WALK.WIDE else tl.int32
    query_tiles, channel_tiles = tl.cdiv(N, BLOCK_N), tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    split, program = program % splits, program // splits
    i_c, i_n = program % channel_tiles, (program // channel_tiles) % query_tiles
    b = (program // channel_tiles // query_tiles).to(tl.int64)
    n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    window = WindowSize(window_height, window_width, 0, 0)
    if peak is not None:
        peak += b * peak_b
    bounds, active = windows_of(peak, n, N, H, W, window, SHIFT)
    if peak is not None:
        first = tl.min(tl.where(active, bounds.top, H), 0) * W
        last = tl.max(tl.where(active, bounds.bottom, 0), 0) * W
    else:
        first, last = i_n * 0, i_n * 0 + H * W
    tiles = tl.cdiv(tl.maximum(last - first, 0), BLOCK_M)
    per_split = tl.cdiv(tiles, splits)
    start = first + split * per_split * BLOCK_M
    span = (start, tl.minimum(last, start + per_split * BLOCK_M))

    row_scale = tl.load(query_scale + (b * scalar_b + n), mask=active, other=1.0)  # (BLOCK_N,)
    power = tl.full((BLOCK_N,), 1.0, ACC)
    if METRIC.KIND == COSINE:
        power = power_of_two(row_scale)
        row_scale /= power
    of_ds = ScoreStrides(ds_b, ds_n, ds_h, ds_w)
    corner = corner_offset(n, bounds, of_ds, OFFSET)
    weights = Weights(ds + b * of_ds.b, corner, of_ds.h, of_ds.w, row_scale, active, bounds)
    cells = image_of(target + b * target_strides.b, H, W, target_strides)
    of_cells = Norms(norms + b * H * W, eps)
    q = row_scale
    if METRIC.KIND == L1:
        of_queries = queries + b * queries_b + (n.to(tl.int64)[:, None] * C + c[None, :])
        q = tl.load(of_queries, mask=(n < N)[:, None] & (c < C)[None, :], other=0.0)  # (BLOCK_N, BLOCK_C)
    total = window_sum(weights, cells, of_cells, (c, C), span, q, False, METRIC, PRECISION, WALK, BLOCK_M)
    if METRIC.KIND != L1:  # noqa: SIM102 (its summands are finite, or have a weight that is NaN)
        if tl.max((~is_finite(total)).to(tl.int32)) > 0:  # 16 cells at a time, for fewer registers than the usual sum
            total = window_sum(weights, cells, of_cells, (c, C), span, q, True, METRIC, PRECISION, WALK, 16)

    rows = n.to(tl.int64)[:, None]
    in_rows = (n < N)[:, None] & (c < C)[None, :]
    pointer = queries + b * queries_b + (rows * C + c[None, :])
    q = tl.load(pointer, mask=when(split == 0, in_rows), other=0.0)  # (BLOCK_N, BLOCK_C)
    own = tl.load(query_own + (b * scalar_b + n), mask=active, other=0.0)  # (BLOCK_N,)
    total = tl.where(active[:, None], (total - own[:, None] * q) * power[:, None], 0.0)
    pointer = gradient + split.to(tl.int64) * gradient_strides.s + b * gradient_strides.b
    pointer += rows * gradient_strides.n + c.to(tl.int64)[None, :] * gradient_strides.c
    tl.store(pointer, total.to(gradient.dtype.element_ty), mask=in_rows)
