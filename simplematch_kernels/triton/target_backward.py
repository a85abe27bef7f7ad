# mypy: ignore-errors
"""`target_backward`: every cell of the target gathers from the queries whose windows hold it."""

from __future__ import annotations

import triton
import triton.language as tl

from ._absolute import add_signs_of_queries
from ._common import (
    COSINE,
    L1,
    L2,
    by_cell,
    by_channel,
    decode,
    is_finite,
    map_offsets,
    multiply,
    names,
    power_of_two,
    scale_and_inverse,
)
from ._groups import ScoreStrides, WindowSize
from ._window import corner_offset, in_windows, windows_of


@triton.jit
def window_values(pointer, strides, n, x, y, bounds, inside, OFFSET: tl.constexpr, ACC: tl.constexpr):
    """The entries of the windows of queries n at cells (x, y): (BLOCK_N, BLOCK_M), 0 outside."""
    cell = y.to(OFFSET) * strides.h + x.to(OFFSET) * strides.w
    offset = corner_offset(n, bounds, strides, OFFSET)[:, None] + cell[None, :]
    return tl.load(pointer + offset, mask=inside, other=0.0).to(ACC)


@triton.jit(
    do_not_specialize=names(
        "ds window_scores peak query_scale N peak_b scalar_b ds_b ds_n ds_h scores_h window_height window_width"
    )
)
def target_backward_kernel(
    ds, window_scores, peak, queries, query_scale, norms, target, sum_before, gradient,
    N, C, H, W, peak_b, scalar_b, ds_b, ds_n, ds_h, ds_w, scores_strides, scores_h, queries_b,
    target_strides, before_strides, gradient_strides, window_height, window_width, eps: tl.float64,
    SHIFT: tl.constexpr, METRIC: tl.constexpr, PRECISION: tl.constexpr, NATIVE: tl.constexpr, WALK: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dFt_m = sum_n w[n, m] u_n - own_m f_m / |f_m|,  w[n, m] = ds[n, m] / (D(f_m) D(q_n) P(q_n)),  u_n = P(q_n) q_n
    own_m = sum_n ds s / D(f_m) (cosine);  0 (dot);  own_m f_m with 2 sum_n ds (l2).  w = 0 where ds is, whatever D is
    dFt_m = sum_n ds[n, m] sign(q_n - f_m)  (l1)

    ds and window_scores: (B, N, rows, columns) from the top-left cell of each window, or (B, N, H, W) of any strides
    without `peak`. queries (B, N, C) in the arithmetic's dtype. target, gradient (B, C, H, W): any strides; every
    element of the gradient is written. sum_before: what earlier blocks of queries gave, or None.

    Program = BLOCK_M cells x BLOCK_C channels of one image, channels fastest: the programs of one tile of cells read
    the same ds. Queries whose windows miss the rows of the tile are passed over a block at a time.
    Bytes: target read (not for dot), gradient written, 8 N M of ds and scores per tile of channels out of L2.
    Floor at the paper's shape: 195 MB float32, 45 us at 4.3 TB/s, half in bfloat16.
    """
    ACC: tl.constexpr = queries.dtype.element_ty
    OFFSET: tl.constexpr = tl.int64 if WALK.WIDE else tl.int32
    channel_tiles, cell_tiles = tl.cdiv(C, BLOCK_C), tl.cdiv(H * W, BLOCK_M)
    program = tl.program_id(0)
    i_c, i_m = program % channel_tiles, (program // channel_tiles) % cell_tiles
    b = (program // channel_tiles // cell_tiles).to(tl.int64)
    m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    y = m // W
    x = m - y * W
    in_map = m < H * W
    first_row = i_m * BLOCK_M // W
    last_row = tl.minimum(i_m * BLOCK_M + BLOCK_M, H * W) - 1
    last_row = last_row // W

    if METRIC.KIND == COSINE:
        norm = tl.load(norms + (b * H * W + m), mask=in_map, other=1.0)  # (BLOCK_M,)
    else:
        norm = tl.full((BLOCK_M,), 1.0, ACC)
    scale, inverse = scale_and_inverse(norm, eps, METRIC)
    weighted_sum = tl.zeros((BLOCK_M,), ACC)
    if WALK.CHANNELS_LAST:
        total = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    else:
        total = tl.zeros((BLOCK_C, BLOCK_M), ACC)
    if METRIC.KIND == L1:
        of_target = target + b * target_strides.b + map_offsets(m, c, W, target_strides, WALK)
        f = tl.load(of_target, mask=by_cell(in_map, WALK) & by_channel(c < C, WALK), other=0.0).to(ACC)  # by WALK
    window = WindowSize(window_height, window_width, 0, 0)
    if peak is not None:
        peak += b * peak_b
    of_ds = ScoreStrides(ds_b, ds_n, ds_h, ds_w)
    of_scores = ScoreStrides(decode(scores_strides.b), decode(scores_strides.n), scores_h, scores_strides.w)
    ds += b * of_ds.b
    window_scores += b * of_scores.b
    queries += b * queries_b
    query_scale += b * scalar_b
    for n0 in range(0, N, BLOCK_N):
        n = n0 + tl.arange(0, BLOCK_N)
        bounds, active = windows_of(peak, n, N, H, W, window, SHIFT)
        if peak is not None:
            meets = tl.max((active & (bounds.top <= last_row) & (bounds.bottom > first_row)).to(tl.int32), 0) > 0
        else:
            meets = n0 >= 0
        if meets:
            inside = in_windows(bounds, active, x, y, in_map)
            d = window_values(ds, of_ds, n, x, y, bounds, inside, OFFSET, ACC)
            if METRIC.KIND == COSINE:
                score = window_values(window_scores, of_scores, n, x, y, bounds, inside, OFFSET, ACC)
                weighted_sum += tl.sum(tl.where(d == 0, 0.0, d * score), 0)
            elif METRIC.KIND == L2:
                weighted_sum += 2 * tl.sum(d, 0)
            row_scale = tl.load(query_scale + n, mask=active, other=1.0)  # (BLOCK_N,)
            if METRIC.KIND == COSINE:
                row_scale /= power_of_two(row_scale)
            w = tl.where(d == 0, 0.0, d * row_scale[:, None] * scale[None, :])
            offset = by_cell(n.to(OFFSET) * C, WALK) + by_channel(c, WALK)
            in_rows = by_cell(active, WALK) & by_channel(c < C, WALK)
            q = tl.load(queries + offset, mask=in_rows, other=0.0)  # (BLOCK_N, BLOCK_C) if CHANNELS_LAST
            if NATIVE:
                q = q.to(target.dtype.element_ty)
            if METRIC.KIND == L1:
                total = add_signs_of_queries(w, q, f, total, WALK.CHANNELS_LAST)
            elif WALK.CHANNELS_LAST:
                total = multiply(tl.trans(w), q, total, PRECISION)
            else:
                total = multiply(q, w, total, PRECISION)

    mask = by_cell(in_map, WALK) & by_channel(c < C, WALK)
    if METRIC.KIND == COSINE or METRIC.KIND == L2:
        own = by_cell(tl.where(weighted_sum == 0, 0.0, scale * weighted_sum), WALK)
        offset = map_offsets(m, c, W, target_strides, WALK)
        f = tl.load(target + b * target_strides.b + offset, mask=mask, other=0.0).to(ACC)  # by WALK
        f = tl.where(is_finite(f), f * by_cell(inverse, WALK), 0.0)
        total -= tl.where(own == 0, 0.0, own * f)  # a cell that no window holds gets 0, whatever it holds
    if sum_before is not None:
        offset = map_offsets(m, c, W, before_strides, WALK)
        total += tl.load(sum_before + b * before_strides.b + offset, mask=mask, other=0.0)  # by WALK
    offset = map_offsets(m, c, W, gradient_strides, WALK)
    tl.store(gradient + b * gradient_strides.b + offset, total.to(gradient.dtype.element_ty), mask=mask)
