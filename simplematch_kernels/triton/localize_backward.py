# mypy: ignore-errors
"""`localize_backward`: the gradient of the scores in every window, and the queries for the two steps that follow."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    decode,
    image_of,
    map_strides,
    maps_from_cells,
    names,
    score_strides,
    slopes,
    when,
)
from ._queries import fill_query, query_points
from ._records import Arriving, Box, Keypoints, Match, Peak, QueryOutputs, Row, Spread, Sums
from ._window import (
    outside_squares,
    soft_argmax,
    support_of,
    temperature_of,
    weigh,
    window_bounds,
    window_cell,
    window_size,
)


@triton.jit
def read_upstream(
    keypoints, score, log_sum_exp, spread, covariance, strides, b, n, active, from_cells, ACC: tl.constexpr
):  # fmt: skip
    """The upstream gradients of query n of image b; zeros for None."""
    wide_n = n.to(tl.int64)
    g_x = tl.full((), 0.0, ACC)
    g_y = tl.full((), 0.0, ACC)
    h = tl.full((), 0.0, ACC)
    l = tl.full((), 0.0, ACC)  # noqa: E741
    if keypoints is not None:
        pointer = keypoints + (b * decode(strides.keypoints_b) + wide_n * decode(strides.keypoints_n))
        g_x = tl.load(pointer, mask=active, other=0.0).to(tl.float64)
        g_y = tl.load(pointer + decode(strides.keypoints_d), mask=active, other=0.0).to(tl.float64)
        scale_x, scale_y = slopes(from_cells)
        g_x, g_y = (g_x * scale_x).to(ACC), (g_y * scale_y).to(ACC)
    if score is not None:
        pointer = score + (b * decode(strides.score_b) + wide_n * decode(strides.score_n))
        h = tl.load(pointer, mask=active, other=0.0).to(ACC)
    if log_sum_exp is not None:
        pointer = log_sum_exp + (b * decode(strides.log_sum_exp_b) + wide_n * decode(strides.log_sum_exp_n))
        l = tl.load(pointer, mask=active, other=0.0).to(ACC)  # noqa: E741
    G = None
    if spread is not None:
        G = read_spread(spread, covariance, strides, b, n, active, from_cells, ACC)
    return Arriving(g_x, g_y, h, l, G)


@triton.jit
def read_spread(upstream, covariance, strides, b, n, active, from_cells, ACC: tl.constexpr):
    """The upstream gradient of the covariance of query n of image b."""
    wide_n = n.to(tl.int64)
    pointer = upstream + (b * decode(strides.spread_b) + wide_n * decode(strides.spread_n))
    covariance += b * decode(strides.covariance_b) + 4 * wide_n
    rates = slopes(from_cells)
    sums = (tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64))
    product = tl.full((), 0.0, tl.float64)
    size = tl.full((), 0.0, tl.float64)
    xx, xy, yy = sums
    for i in tl.static_range(2):
        for j in tl.static_range(2):
            offset = i * decode(strides.spread_i) + j * decode(strides.spread_j)
            g = tl.load(pointer + offset, mask=active, other=0.0).to(tl.float64)
            product += g * tl.load(covariance + (2 * i + j), mask=active, other=0.0).to(tl.float64)
            size += tl.abs(g)
            scaled = g * rates[i] * rates[j]
            if i + j == 0:
                xx += scaled
            elif i + j == 1:
                xy += scaled
            else:
                yy += scaled
    return Spread(xx.to(ACC), xy.to(ACC), yy.to(ACC), product.to(ACC), size.to(ACC))


@triton.jit
def any_upstream(g):
    """Whether any upstream gradient of a query is not zero."""
    arrives = (g.x != 0) | (g.y != 0) | (g.score != 0) | (g.log_sum_exp != 0)
    if g.spread is not None:
        arrives = arrives | (g.spread.size != 0)
    return arrives


@triton.jit
def window_gradient(row, match, box, mean, g, lost, ds_out, strides, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    """Write ds of the cells of a box to ds_out, if that is not None; return sums over them."""
    ACC: tl.constexpr = match.peak.score.dtype
    T = match.T
    passes = any_upstream(g)
    sum_ds = tl.full((), 0.0, ACC)
    sum_ds_score = tl.full((), 0.0, ACC)
    sum_moment = tl.full((), 0.0, ACC)
    for start in range(0, box.rows * box.columns, BLOCK):
        i = start + tl.arange(0, BLOCK)
        in_box = i < box.rows * box.columns
        x, y, inside = window_cell(i, box, match.bounds, when(match.active, in_box))
        cell = y.to(tl.int64) * row.stride_h + x.to(tl.int64) * row.stride_w
        score = tl.load(row.pointer + cell, mask=inside, other=0.0).to(ACC)  # (BLOCK,)
        dx, dy, support, weight = support_of(x, y, inside, row, match, WINDOW)
        from_largest = weigh(score, weight) - mean.largest
        P = tl.where(support, tl.exp(from_largest / T) / mean.total, 0.0)
        a = g.x * (dx.to(ACC) - mean.x) + g.y * (dy.to(ACC) - mean.y) + g.log_sum_exp
        if g.spread is not None:
            across, down = dx.to(ACC) - mean.x, dy.to(ACC) - mean.y
            a += (g.spread.xx * across + g.spread.xy * down) * across + g.spread.yy * down * down - g.spread.product
        ds = weight * P / T * a + tl.where((dx == 0) & (dy == 0), g.score, 0.0)
        ds = tl.where(when(passes, support), tl.where(lost, float("nan"), ds), 0.0)
        if ds_out is not None:
            wide_y, wide_x = (y - box.row).to(tl.int64), (x - box.column).to(tl.int64)
            pointer = ds_out + (wide_y * strides.h + wide_x * strides.w)
            tl.store(pointer, ds.to(ds_out.dtype.element_ty), mask=in_box)
        sum_ds += tl.sum(ds, 0)
        sum_ds_score += tl.sum(tl.where(ds == 0, 0.0, ds * score), 0)
        sum_moment += tl.sum(tl.where(P == 0, 0.0, P * from_largest * a), 0)
    return Sums(sum_ds, sum_ds_score, sum_moment)


@triton.jit
def temperature_gradient(row, match, mean, g, moment, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    """dT from its sum over the window, and what the cells outside add to it."""
    ACC: tl.constexpr = match.peak.score.dtype
    T = match.T
    if WINDOW.OUTSIDE:
        from_largest = tl.full((), match.outside_value, tl.float64).to(ACC) - mean.largest
        P = tl.where(mean.outside_n > 0, tl.exp(from_largest / T) / mean.total, 0.0)
        count = mean.outside_n.to(ACC)
        a = g.x * (mean.outside_x.to(ACC) - count * mean.x) + g.y * (mean.outside_y.to(ACC) - count * mean.y)
        a += g.log_sum_exp * count
        if g.spread is not None:
            xx, xy, yy = outside_squares(row, match, mean, WINDOW, BLOCK)
            a += g.spread.xx * xx + g.spread.xy * xy + g.spread.yy * yy - g.spread.product * count
        moment += tl.where(P == 0, 0.0, P * from_largest * a)
    return -(moment + mean.largest * g.log_sum_exp) / T / T


@triton.jit(
    do_not_specialize=names(
        "scores peak target_mask temperature upstream_keypoints upstream_score upstream_log_sum_exp "
        "upstream_covariance covariance source keypoints ds_out window_scores temperature_out queries query_scale "
        "query_own"
    )
)
def localize_backward_kernel(
    scores, peak, target_mask, temperature, upstream_keypoints, upstream_score, upstream_log_sum_exp,
    upstream_covariance, covariance, source, keypoints, ds_out, window_scores, temperature_out,
    queries, query_scale, query_own, source_sizes, target_sizes,
    sizes, scores_strides, ds_strides, upstream_strides, source_strides, keypoints_strides,
    window, to_cells, from_cells,
    temperature_value: tl.float64, outside_value: tl.float64, sigma: tl.float64, eps: tl.float64,
    WINDOW: tl.constexpr, SAMPLING: tl.constexpr, METRIC: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """ds[n, m] = weight[n, m] P[n, m] / T a[n, m] + h_n [m == peak_n],  a[n, m] = <g_n, c_m - out_n> + l_n + <G_n, D>
    dT_n = -1 / T^2 sum_m P[n, m] s'[n, m] a[n, m]      (sum_m P a = l_n, so s' may be taken from its largest value)

    with D = (c_m - out_n) (c_m - out_n)^T - covariance_n,  c_m = (x_m, y_m)

    g, h, l, G: upstream gradients of keypoints, score, log-sum-exp and covariance, None for zeros. scores:
    (B, N, H, W) of any strides, or the kept windows (B, N, rows, columns) if KEPT. ds_out: (B, N, rows, columns), every
    cell of the window; with DENSE (B, N, H, W), zeros outside. window_scores: the scores in the layout of ds_out, where
    they are not kept.
    A row to which nothing but zeros arrives gets ds = 0. Else one that is lost (a largest score, T, or an upstream
    gradient that isn't finite) gets NaN in every cell of its softmax. What isn't finite in a query is 0 in `queries`.
    queries (B, N, C) in the arithmetic's dtype, or None: the sampled source rows, 0 in rows without a match; for the
    cosine times P(q) = power_of_two(1 / D(q)), which 16-bit numbers hold exactly.
    query_scale = 1 / D(q) and query_own = sum_m ds s / (D(q) |q| P(q)^2) (cosine); 1 and 0 (dot); 2 and 2 sum_m ds.

    Program = one query. Bytes: B N (rows x columns) x 4 read and written, B N C sampled and written. At the paper's
    shape 1.9 MB of scores and 0.7 MB of queries each way: launch-bound.
    """
    ACC: tl.constexpr = tl.float64 if scores.dtype.element_ty == tl.float64 else tl.float32
    N, H, W = decode(sizes.N), decode(sizes.H), decode(sizes.W)
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    slot, wide_n = b * decode(sizes.scalar_b) + n, n.to(tl.int64)
    cell = tl.load(peak + (b * decode(sizes.peak_b) + n)).to(tl.int32)
    active = cell >= 0
    cell = tl.maximum(cell, 0)
    peak_y = cell // W
    peak_x = cell - peak_y * W
    window = window_size(window)
    bounds = window_bounds(cell, H, W, window, WINDOW.SHIFT)
    if target_mask is not None:
        target_mask += b * decode(sizes.mask_b) + wide_n * decode(sizes.mask_n)
    strides = score_strides(scores_strides)
    scores += b * strides.b + wide_n * strides.n
    if SHAPE.KEPT:  # the box stands where the map would
        scores -= bounds.top.to(tl.int64) * strides.h + bounds.left.to(tl.int64) * strides.w
    pointer = scores + (peak_y.to(tl.int64) * strides.h + peak_x.to(tl.int64) * strides.w)
    peak_score = tl.load(pointer, mask=active, other=0.0).to(ACC)
    T = temperature_of(temperature, temperature_value, b, n, sizes, ACC)
    row = Row(scores, H, W, strides.h, strides.w, target_mask)
    match = Match(Peak(peak_x, peak_y, peak_score), bounds, window, T, outside_value, sigma, active)
    box = Box(bounds.top, bounds.left, window.rows, window.columns)
    copy = None
    into = strides
    if ds_out is not None:
        into = score_strides(ds_strides)
        ds_out += b * into.b + wide_n * into.n
    if window_scores is not None:  # allocated as ds is
        copy = (window_scores + (b * into.b + wide_n * into.n), n >= 0)
    mean = soft_argmax(row, match, box, copy, WINDOW, SHAPE.BLOCK)

    from_cells = maps_from_cells(from_cells, target_sizes, b, H, W)
    g = read_upstream(
        upstream_keypoints, upstream_score, upstream_log_sum_exp, upstream_covariance, covariance,
        upstream_strides, b, n, active, from_cells, ACC,
    )  # fmt: skip
    arriving = tl.abs(g.x) + tl.abs(g.y) + tl.abs(g.score) + tl.abs(g.log_sum_exp)
    if g.spread is not None:
        arriving += g.spread.size
    lost = (peak_score != peak_score) | (T != T) | (mean.largest - mean.largest != 0) | (arriving - arriving != 0)
    if SHAPE.DENSE:
        box = Box(bounds.top * 0, bounds.left * 0, H, W)
    sums = window_gradient(row, match, box, mean, g, lost, ds_out, into, WINDOW, SHAPE.BLOCK)
    if temperature_out is not None:
        dT = tl.where(lost, float("nan"), temperature_gradient(row, match, mean, g, sums.moment, WINDOW, SHAPE.BLOCK))
        tl.store(temperature_out + slot, tl.where(active & any_upstream(g), dT, 0.0))

    if queries is not None:
        of_source = map_strides(source_strides)
        image = image_of(source + b * of_source.b, decode(sizes.source_rows), decode(sizes.source_columns), of_source)
        points, finite = query_points(
            image, Keypoints(keypoints, keypoints_strides, to_cells, source_sizes, None), b, n, active, SAMPLING
        )  # fmt: skip
        C = decode(sizes.C)
        values = queries + (b * decode(sizes.queries_b) + wide_n * C)
        outputs = QueryOutputs(values, query_scale + slot, query_own + slot, C)
        fill_query(image, points, finite, sums, active, outputs, eps, SAMPLING, METRIC, SHAPE.BLOCK_C)
