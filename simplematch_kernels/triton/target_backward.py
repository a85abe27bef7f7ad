# mypy: ignore-errors
"""`target_backward`: every cell of the target gathers from the queries whose windows hold it."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    COSINE,
    DOT,
    L2,
    by_cell,
    by_channel,
    is_finite,
    map_offsets,
    multiply,
    names,
    power_of_two,
    scale_and_inverse,
)
from ._window import window_bounds


@triton.jit(
    do_not_specialize=names(
        "ds window_scores peak query_scale N ds_b ds_n ds_h scores_b scores_n scores_h peak_b scalar_b "
        "window_height window_width"
    )
)
def target_backward_kernel(
    ds, window_scores, peak, queries, query_scale, norms, target, previous, gradient,
    N, C, H, W, ds_b, ds_n, ds_h, ds_w, scores_b, scores_n, scores_h, scores_w, peak_b, queries_b, scalar_b,
    target_b, target_c, target_h, target_w, previous_b, previous_c, previous_h, previous_w,
    gradient_b, gradient_c, gradient_h, gradient_w, window_height, window_width, eps: tl.float64,
    SHIFT: tl.constexpr, METRIC: tl.constexpr, CLAMP_EPS: tl.constexpr, PRECISION: tl.constexpr,
    NATIVE: tl.constexpr, CHANNELS_LAST: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dFt_m = sum_n w[n, m] u_n - own_m f_m / |f_m|,  w[n, m] = ds[n, m] / (D(f_m) D(q_n) P(q_n)),  u_n = P(q_n) q_n
    own_m = sum_n ds s / D(f_m) (cosine);  0 (dot);  own_m f_m with 2 sum_n ds (l2).  w = 0 where ds is, whatever D is

    ds and window_scores: (B, N, rows, columns) from the top-left cell of each window, or (B, N, H, W) of any strides
    without `peak`. queries (B, N, C) in the arithmetic's dtype. target, gradient (B, C, H, W): any strides; every
    element of the gradient is written. `previous`: what earlier blocks of queries summed, or None.

    Program = BLOCK_M cells x BLOCK_C channels of one image, channels fastest: the programs of one tile of cells read
    the same ds. Queries whose windows miss the rows of the tile are passed over a block at a time.
    Bytes: target read (not for dot), gradient written, 8 N M of ds and scores per tile of channels out of L2.
    Floor at the paper's shape: 195 MB float32, 45 us at 4.3 TB/s, half in bfloat16.
    """
    ACC: tl.constexpr = queries.dtype.element_ty
    OFFSET: tl.constexpr = tl.int64 if WIDE else tl.int32
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

    if METRIC == COSINE:
        norm = tl.load(norms + (b * H * W + m), mask=in_map, other=1.0)
    else:
        norm = tl.full((BLOCK_M,), 1.0, ACC)
    scale, inverse = scale_and_inverse(norm, eps, METRIC, CLAMP_EPS)
    weighted_sum = tl.zeros((BLOCK_M,), ACC)
    if CHANNELS_LAST:
        total = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    else:
        total = tl.zeros((BLOCK_C, BLOCK_M), ACC)
    ds += b * ds_b
    window_scores += b * scores_b
    queries += b * queries_b
    query_scale += b * scalar_b
    for n0 in range(0, N, BLOCK_N):
        n = n0 + tl.arange(0, BLOCK_N)
        active = n < N
        if peak is not None:
            best = tl.load(peak + (b * peak_b + n), mask=active, other=-1).to(tl.int32)
            active = active & (best >= 0)
            top, left, bottom, right = window_bounds(tl.maximum(best, 0), H, W, window_height, window_width, SHIFT)
            meets = tl.max((active & (top <= last_row) & (bottom > first_row)).to(tl.int32), 0) > 0
        else:
            top, left, bottom, right = n * 0, n * 0, n * 0 + H, n * 0 + W
            meets = n0 >= 0
        if meets:
            inside = active[:, None] & in_map[None, :]
            inside = inside & (y[None, :] >= top[:, None]) & (y[None, :] < bottom[:, None])
            inside = inside & (x[None, :] >= left[:, None]) & (x[None, :] < right[:, None])
            row = n.to(OFFSET)
            cell = y.to(OFFSET) * ds_h + x.to(OFFSET) * ds_w
            corner = row * ds_n - top.to(OFFSET) * ds_h - left.to(OFFSET) * ds_w
            d = tl.load(ds + (corner[:, None] + cell[None, :]), mask=inside, other=0.0).to(ACC)
            if METRIC == COSINE:
                cell = y.to(OFFSET) * scores_h + x.to(OFFSET) * scores_w
                corner = row * scores_n - top.to(OFFSET) * scores_h - left.to(OFFSET) * scores_w
                score = tl.load(window_scores + (corner[:, None] + cell[None, :]), mask=inside, other=0.0).to(ACC)
                weighted_sum += tl.sum(tl.where(d == 0, 0.0, d * score), 0)
            elif METRIC == L2:
                weighted_sum += 2 * tl.sum(d, 0)
            row_scale = tl.load(query_scale + n, mask=active, other=1.0)
            if METRIC == COSINE:
                row_scale /= power_of_two(row_scale)
            w = tl.where(d == 0, 0.0, d * row_scale[:, None] * scale[None, :])
            offset = by_cell(row * C, CHANNELS_LAST) + by_channel(c, CHANNELS_LAST)
            in_rows = by_cell(active, CHANNELS_LAST) & by_channel(c < C, CHANNELS_LAST)
            q = tl.load(queries + offset, mask=in_rows, other=0.0)
            if NATIVE:
                q = q.to(target.dtype.element_ty)
            if CHANNELS_LAST:
                total = multiply(tl.trans(w), q, total, PRECISION)
            else:
                total = multiply(q, w, total, PRECISION)

    mask = by_cell(in_map, CHANNELS_LAST) & by_channel(c < C, CHANNELS_LAST)
    if METRIC != DOT:
        own = by_cell(tl.where(weighted_sum == 0, 0.0, scale * weighted_sum), CHANNELS_LAST)
        offset = map_offsets(m, c, W, target_c, target_h, target_w, CHANNELS_LAST, FLAT, WIDE)
        f = tl.load(target + b * target_b + offset, mask=mask, other=0.0).to(ACC)
        f = tl.where(is_finite(f), f * by_cell(inverse, CHANNELS_LAST), 0.0)
        total -= tl.where(own == 0, 0.0, own * f)  # a cell that no window holds gets 0, whatever it holds
    if previous is not None:
        offset = map_offsets(m, c, W, previous_c, previous_h, previous_w, CHANNELS_LAST, FLAT, WIDE)
        total += tl.load(previous + b * previous_b + offset, mask=mask, other=0.0)
    offset = map_offsets(m, c, W, gradient_c, gradient_h, gradient_w, CHANNELS_LAST, FLAT, WIDE)
    tl.store(gradient + b * gradient_b + offset, total.to(gradient.dtype.element_ty), mask=mask)
