# mypy: ignore-errors
"""`query_backward`: every query gathers from the target cells of its window."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    COSINE,
    by_cell,
    by_channel,
    is_finite,
    map_offsets,
    multiply,
    names,
    power_of_two,
    scale_and_inverse,
    when,
)
from ._window import window_bounds


@triton.jit
def window_sum(
    ds, row_scale, norms, target, active, top, left, bottom, right, c, start, stop, C, W, ds_h, ds_w, corner,
    target_c, target_h, target_w, eps,
    FINITE: tl.constexpr, METRIC: tl.constexpr, CLAMP_EPS: tl.constexpr, PRECISION: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr, EVEN_C: tl.constexpr, ACC: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """sum_m w[n, m] f_m over the cells from start to stop; if FINITE, without those of which the norm isn't finite.

    Which elements of f are read depends on nothing read before, so that they can be copied ahead of their use, except
    in the rare sum that is FINITE.
    """
    OFFSET: tl.constexpr = tl.int64 if WIDE else tl.int32
    total = tl.zeros((BLOCK_N, BLOCK_C), ACC)
    for m0 in tl.range(start, stop, BLOCK_M, num_stages=1 if FINITE else None):
        m = m0 + tl.arange(0, BLOCK_M)
        in_map = m < stop
        y = m // W
        x = m - y * W
        inside = active[:, None] & in_map[None, :]
        inside = inside & (y[None, :] >= top[:, None]) & (y[None, :] < bottom[:, None])
        inside = inside & (x[None, :] >= left[:, None]) & (x[None, :] < right[:, None])
        cell = y.to(OFFSET) * ds_h + x.to(OFFSET) * ds_w
        d = tl.load(ds + (corner[:, None] + cell[None, :]), mask=inside, other=0.0).to(ACC)
        w = d * row_scale[:, None]
        if METRIC == COSINE or FINITE:
            norm = tl.load(norms + m, mask=in_map, other=1.0)
        if METRIC == COSINE:
            scale, _inverse = scale_and_inverse(norm, eps, METRIC, CLAMP_EPS)
            w = w * scale[None, :]
        w = tl.where(d == 0, 0.0, w)
        if FINITE:
            in_map = in_map & is_finite(norm)
        mask = by_cell(in_map, CHANNELS_LAST)
        if not EVEN_C:
            mask = mask & by_channel(c < C, CHANNELS_LAST)
        offset = map_offsets(m, c, W, target_c, target_h, target_w, CHANNELS_LAST, FLAT, WIDE)
        f = tl.load(target + offset, mask=mask, other=0.0)
        total = multiply(w, f if CHANNELS_LAST else tl.trans(f), total, PRECISION)
    return total


@triton.jit(
    do_not_specialize=names(
        "ds peak query_scale query_second N splits ds_b ds_n ds_h peak_b scalar_b window_height window_width"
    )
)
def query_backward_kernel(
    ds, peak, queries, query_scale, query_second, norms, target, gradient,
    N, C, H, W, splits, ds_b, ds_n, ds_h, ds_w, peak_b, queries_b, scalar_b,
    target_b, target_c, target_h, target_w, gradient_s, gradient_b, gradient_n, gradient_c,
    window_height, window_width, eps: tl.float64,
    SHIFT: tl.constexpr, METRIC: tl.constexpr, CLAMP_EPS: tl.constexpr, PRECISION: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr, EVEN_C: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dq_n = P(q_n) (sum_m w[n, m] f_m - u_n second_n),  w[n, m] = ds[n, m] / (D(f_m) D(q_n) P(q_n)),  u_n = P(q_n) q_n
    w = 0 where ds is, whatever D is. A sum that isn't finite is made again without the cells of which the norm isn't:
    the ds of these is 0 or NaN.

    ds: (B, N, rows, columns) from the top-left cell of each window, or (B, N, H, W) of any strides without `peak`.
    queries (B, N, C), query_scale and query_second (B, N) from `localize_backward`. target (B, C, H, W): any strides.
    gradient (splits, B, N, C): partial sums over `splits` parts of the map, for `source_backward` to add. The first may
    lie where the queries do: a program writes just what it read. Rows without a match get 0.

    Program = BLOCK_N queries x BLOCK_C channels of one image and one part of the map. It walks the rows of the map that
    the windows of its queries meet. Bytes: at most the target per tile of queries, 4 N M of ds per tile of channels.
    Floor at the paper's shape: 97.5 MB float32, 23 us at 4.3 TB/s, half in bfloat16.
    """
    ACC: tl.constexpr = queries.dtype.element_ty
    OFFSET: tl.constexpr = tl.int64 if WIDE else tl.int32
    query_tiles, channel_tiles = tl.cdiv(N, BLOCK_N), tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    split, program = program % splits, program // splits
    i_c, i_n = program % channel_tiles, (program // channel_tiles) % query_tiles
    b = (program // channel_tiles // query_tiles).to(tl.int64)
    n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    active = n < N
    if peak is not None:
        best = tl.load(peak + (b * peak_b + n), mask=active, other=-1).to(tl.int32)
        active = active & (best >= 0)
        top, left, bottom, right = window_bounds(tl.maximum(best, 0), H, W, window_height, window_width, SHIFT)
        first = tl.min(tl.where(active, top, H), 0) * W
        last = tl.max(tl.where(active, bottom, 0), 0) * W
    else:
        top, left, bottom, right = n * 0, n * 0, n * 0 + H, n * 0 + W
        first, last = i_n * 0, i_n * 0 + H * W
    tiles = tl.cdiv(tl.maximum(last - first, 0), BLOCK_M)
    per_split = tl.cdiv(tiles, splits)
    start = first + split * per_split * BLOCK_M
    stop = tl.minimum(last, start + per_split * BLOCK_M)

    rows = n.to(tl.int64)[:, None]
    row_scale = tl.load(query_scale + (b * scalar_b + n), mask=active, other=1.0)
    power = tl.full((BLOCK_N,), 1.0, ACC)
    if METRIC == COSINE:
        power = power_of_two(row_scale)
        row_scale /= power
    target += b * target_b
    ds += b * ds_b
    corner = n.to(OFFSET) * ds_n - top.to(OFFSET) * ds_h - left.to(OFFSET) * ds_w
    norms += b * H * W
    total = window_sum(
        ds, row_scale, norms, target, active, top, left, bottom, right, c, start, stop, C, W, ds_h, ds_w, corner,
        target_c, target_h, target_w, eps,
        False, METRIC, CLAMP_EPS, PRECISION, CHANNELS_LAST, FLAT, WIDE, EVEN_C, ACC, BLOCK_N, BLOCK_M, BLOCK_C,
    )  # fmt: skip
    if tl.max((~is_finite(total)).to(tl.int32)) > 0:  # 16 cells at a time, for fewer registers than the usual sum
        total = window_sum(
            ds, row_scale, norms, target, active, top, left, bottom, right, c, start, stop, C, W, ds_h, ds_w, corner,
            target_c, target_h, target_w, eps,
            True, METRIC, CLAMP_EPS, PRECISION, CHANNELS_LAST, FLAT, WIDE, EVEN_C, ACC, BLOCK_N, 16, BLOCK_C,
        )  # fmt: skip

    in_rows = (n < N)[:, None] & (c < C)[None, :]
    q = tl.load(queries + b * queries_b + (rows * C + c[None, :]), mask=when(split == 0, in_rows), other=0.0)
    second = tl.load(query_second + (b * scalar_b + n), mask=active, other=0.0)
    total = tl.where(active[:, None], (total - second[:, None] * q) * power[:, None], 0.0)
    pointer = gradient + split.to(tl.int64) * gradient_s + b * gradient_b
    pointer += rows * gradient_n + c.to(tl.int64)[None, :] * gradient_c
    tl.store(pointer, total.to(gradient.dtype.element_ty), mask=in_rows)
