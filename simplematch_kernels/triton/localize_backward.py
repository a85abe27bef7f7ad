# mypy: ignore-errors
"""`localize_backward`: the gradient of the scores in every window, and the queries for the two steps that follow."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    COSINE,
    DESCRIPTORS,
    L2,
    is_finite,
    keypoint_cells,
    names,
    power_of_two,
    read_queries,
    scale_and_inverse,
    square_root,
    when,
)
from ._window import soft_argmax, support_of, weigh, window_bounds, window_cell


@triton.jit(
    do_not_specialize=names(
        "scores peak target_mask temperature upstream_keypoints upstream_score upstream_log_sum_exp given source "
        "keypoints ds_out window_scores temperature_out queries query_scale query_second N C H W source_H source_W "
        "peak_b ds_b ds_n ds_h scalar_b scores_b scores_n scores_h temperature_b temperature_n "
        "upstream_keypoints_b upstream_keypoints_n upstream_keypoints_d upstream_score_b upstream_score_n "
        "upstream_log_sum_exp_b upstream_log_sum_exp_n given_b given_n given_h given_w source_b source_c source_h "
        "source_w keypoints_b keypoints_n keypoints_d queries_b window_height window_width rows columns"
    )
)
def localize_backward_kernel(
    scores, peak, target_mask, temperature, upstream_keypoints, upstream_score, upstream_log_sum_exp, given,
    source, keypoints,
    ds_out, window_scores, temperature_out, queries, query_scale, query_second,
    N, C, H, W, source_H, source_W, peak_b, ds_b, ds_n, ds_h, ds_w, scalar_b,
    scores_b, scores_n, scores_h, scores_w, temperature_b, temperature_n,
    upstream_keypoints_b, upstream_keypoints_n, upstream_keypoints_d, upstream_score_b, upstream_score_n,
    upstream_log_sum_exp_b, upstream_log_sum_exp_n, given_b, given_n, given_h, given_w,
    source_b, source_c, source_h, source_w, keypoints_b, keypoints_n, keypoints_d, queries_b,
    window_height, window_width, rows, columns,
    to_numerator_x: tl.float64, to_shift_x: tl.float64, to_divisor_x: tl.float64, to_reciprocal_x: tl.float64,
    to_numerator_y: tl.float64, to_shift_y: tl.float64, to_divisor_y: tl.float64, to_reciprocal_y: tl.float64,
    scale_x: tl.float64, scale_y: tl.float64,
    temperature_value: tl.float64, outside_value: tl.float64, sigma: tl.float64, eps: tl.float64,
    SHIFT: tl.constexpr, DISC: tl.constexpr, GAUSSIAN: tl.constexpr, OUTSIDE: tl.constexpr,
    KEPT: tl.constexpr, DENSE: tl.constexpr, SAMPLING: tl.constexpr, BORDER: tl.constexpr,
    METRIC: tl.constexpr, CLAMP_EPS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """ds[n, m] = weight[n, m] P[n, m] / T a[n, m] + h_n [m == peak_n],  a[n, m] = <g_n, (x_m, y_m) - out_n> + l_n
    dT_n = -1 / T^2 sum_m P[n, m] s'[n, m] a[n, m]      (sum_m P a = l_n, so s' may be taken from its largest value)

    g, h, l: upstream gradients of keypoints, score and log-sum-exp, None for zeros. scores: (B, N, H, W) of any
    strides, or the kept windows (B, N, rows, columns) if KEPT. ds_out: (B, N, rows, columns), every cell of the window;
    with DENSE (B, N, H, W), zeros outside. window_scores: the scores in the layout of ds_out, where they are not kept.
    A row to which nothing but zeros arrives gets ds = 0. Else one that is lost (a largest score, T, or an upstream
    gradient that isn't finite) gets NaN in every cell of its softmax. What isn't finite in a query is 0 in `queries`.
    `given` (B, N, H, W): ds itself, as the gradient of a similarity; ds_out is that, NaN where it or its score isn't
    finite. queries (B, N, C) in the arithmetic's dtype: the sampled source rows, 0 in rows without a match; for the
    cosine times P(q) = power_of_two(1 / D(q)), which 16-bit numbers hold exactly.
    query_scale = 1 / D(q) and query_second = sum_m ds s / (D(q) |q| P(q)^2) (cosine); 1 and 0 (dot); 2 and 2 sum_m ds.

    Program = one query. Bytes: B N (rows x columns) x 4 read and written, B N C sampled and written. At the paper's
    shape 1.9 MB of scores and 0.7 MB of queries each way: launch-bound.
    """
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    row = b * scalar_b + n
    scores += b * scores_b + n.to(tl.int64) * scores_n
    sum_ds = tl.full((), 0.0, ACC)
    sum_ds_score = tl.full((), 0.0, ACC)

    if given is not None:
        active = n >= 0
        given += b * given_b + n.to(tl.int64) * given_n
        for start in range(0, H * W, BLOCK):
            m = start + tl.arange(0, BLOCK)
            y = m // W
            x = m - y * W
            in_map = m < H * W
            wide_y, wide_x = y.to(tl.int64), x.to(tl.int64)
            ds = tl.load(given + (wide_y * given_h + wide_x * given_w), mask=in_map, other=0.0).to(ACC)
            score = tl.load(scores + (wide_y * scores_h + wide_x * scores_w), mask=in_map, other=0.0).to(ACC)
            ds = tl.where((ds == 0) | (is_finite(ds) & is_finite(score)), ds, float("nan"))
            pointer = ds_out + (b * ds_b + n.to(tl.int64) * ds_n) + (wide_y * ds_h + wide_x * ds_w)
            tl.store(pointer, ds.to(ds_out.dtype.element_ty), mask=in_map)
            sum_ds += tl.sum(ds, 0)
            sum_ds_score += tl.sum(tl.where(ds == 0, 0.0, ds * score), 0)
    else:
        best = tl.load(peak + (b * peak_b + n)).to(tl.int32)
        active = best >= 0
        best = tl.maximum(best, 0)
        peak_y = best // W
        peak_x = best - peak_y * W
        top, left, bottom, right = window_bounds(best, H, W, window_height, window_width, SHIFT)
        if target_mask is not None:
            target_mask += b * H * W
        if KEPT:  # the box stands where the map would
            scores -= top.to(tl.int64) * scores_h + left.to(tl.int64) * scores_w
        pointer = scores + (peak_y.to(tl.int64) * scores_h + peak_x.to(tl.int64) * scores_w)
        peak_score = tl.load(pointer, mask=active, other=0.0).to(ACC)
        if temperature is not None:
            T = tl.load(temperature + (b * temperature_b + n.to(tl.int64) * temperature_n)).to(ACC)
            T = tl.where(T > 0, T, float("nan"))  # the row becomes NaN
        else:
            T = tl.full((), temperature_value, tl.float64).to(ACC)
        copy = window_scores
        if window_scores is not None:
            copy = window_scores + (b * ds_b + n.to(tl.int64) * ds_n)  # allocated as ds is
        largest, total, mean_x, mean_y, outside_n, outside_x, outside_y = soft_argmax(
            scores, scores_h, scores_w, peak_score, peak_x, peak_y, target_mask, copy, active, n >= 0,
            T, outside_value, sigma, H, W, window_height, window_width, rows, columns, top, left, bottom, right,
            DISC, GAUSSIAN, OUTSIDE, ACC, BLOCK,
        )  # fmt: skip

        g_x = tl.full((), 0.0, ACC)
        g_y = tl.full((), 0.0, ACC)
        h = tl.full((), 0.0, ACC)
        l = tl.full((), 0.0, ACC)  # noqa: E741
        if upstream_keypoints is not None:
            pointer = upstream_keypoints + (b * upstream_keypoints_b + n.to(tl.int64) * upstream_keypoints_n)
            g_x = tl.load(pointer, mask=active, other=0.0).to(tl.float64)
            g_y = tl.load(pointer + upstream_keypoints_d, mask=active, other=0.0).to(tl.float64)
            g_x, g_y = (g_x * scale_x).to(ACC), (g_y * scale_y).to(ACC)
        if upstream_score is not None:
            pointer = upstream_score + (b * upstream_score_b + n.to(tl.int64) * upstream_score_n)
            h = tl.load(pointer, mask=active, other=0.0).to(ACC)
        if upstream_log_sum_exp is not None:
            pointer = upstream_log_sum_exp + (b * upstream_log_sum_exp_b + n.to(tl.int64) * upstream_log_sum_exp_n)
            l = tl.load(pointer, mask=active, other=0.0).to(ACC)  # noqa: E741

        passes = (g_x != 0) | (g_y != 0) | (h != 0) | (l != 0)
        arriving = tl.abs(g_x) + tl.abs(g_y) + tl.abs(h) + tl.abs(l)
        lost = (peak_score != peak_score) | (T != T) | (largest - largest != 0) | (arriving - arriving != 0)
        first_row, first_column, box_rows, box_columns = top, left, rows, columns
        if DENSE:
            first_row, first_column, box_rows, box_columns = top * 0, left * 0, H, W
        if ds_out is not None:
            ds_out += b * ds_b + n.to(tl.int64) * ds_n
        sum_moment = tl.full((), 0.0, ACC)
        for start in range(0, box_rows * box_columns, BLOCK):
            i = start + tl.arange(0, BLOCK)
            in_box = i < box_rows * box_columns
            x, y, inside = window_cell(
                i, first_row, first_column, box_columns, top, left, bottom, right, when(active, in_box)
            )
            cell = y.to(tl.int64) * scores_h + x.to(tl.int64) * scores_w
            score = tl.load(scores + cell, mask=inside, other=0.0).to(ACC)
            dx, dy, support, weight = support_of(
                score, x, y, inside, peak_x, peak_y, target_mask, W, window_height, window_width, sigma,
                DISC, GAUSSIAN, ACC,
            )  # fmt: skip
            from_largest = weigh(score, weight) - largest
            P = tl.where(support, tl.exp(from_largest / T) / total, 0.0)
            a = g_x * (dx.to(ACC) - mean_x) + g_y * (dy.to(ACC) - mean_y) + l
            ds = weight * P / T * a + tl.where((dx == 0) & (dy == 0), h, 0.0)
            ds = tl.where(when(passes, support), tl.where(lost, float("nan"), ds), 0.0)
            if ds_out is not None:
                wide_y, wide_x = (y - first_row).to(tl.int64), (x - first_column).to(tl.int64)
                tl.store(ds_out + (wide_y * ds_h + wide_x * ds_w), ds.to(ds_out.dtype.element_ty), mask=in_box)
            sum_ds += tl.sum(ds, 0)
            sum_ds_score += tl.sum(tl.where(ds == 0, 0.0, ds * score), 0)
            sum_moment += tl.sum(tl.where(P == 0, 0.0, P * from_largest * a), 0)
        if temperature_out is not None:
            if OUTSIDE:
                value = tl.full((), outside_value, tl.float64).to(ACC)
                P = tl.where(outside_n > 0, tl.exp((value - largest) / T) / total, 0.0)
                count = outside_n.to(ACC)
                a = g_x * (outside_x.to(ACC) - count * mean_x) + g_y * (outside_y.to(ACC) - count * mean_y) + l * count
                sum_moment += tl.where(P == 0, 0.0, P * (value - largest) * a)
            dT = tl.where(lost, float("nan"), -(sum_moment + largest * l) / T / T)
            tl.store(temperature_out + row, tl.where(active & passes, dT, 0.0))

    if queries is not None:
        if SAMPLING == DESCRIPTORS:
            rows_n = n + tl.zeros((1,), tl.int32)
            x, y, finite = rows_n, rows_n, rows_n == rows_n
        else:
            rows_n = n + tl.zeros((1,), tl.int32)
            x, y, finite = keypoint_cells(
                keypoints + b * keypoints_b, keypoints_n, keypoints_d, rows_n, when(active, rows_n >= 0),
                source_H, source_W,
                to_numerator_x, to_shift_x, to_divisor_x, to_reciprocal_x,
                to_numerator_y, to_shift_y, to_divisor_y, to_reciprocal_y, SAMPLING, BORDER,
            )  # fmt: skip
        scale = tl.full((), 2.0 if METRIC == L2 else 1.0, ACC)
        second = 2 * sum_ds if METRIC == L2 else tl.full((), 0.0, ACC)
        power = tl.full((), 1.0, ACC)
        if METRIC == COSINE:
            # Squares of numbers up to 2 neither overflow nor vanish.
            largest_q = tl.zeros((1, BLOCK_C), ACC)
            for c0 in range(0, C, BLOCK_C):
                c = c0 + tl.arange(0, BLOCK_C)
                q = read_queries(
                    source + b * source_b, x, y, rows_n, when(active, rows_n >= 0), c, c < C,
                    source_c, source_h, source_w, source_H, source_W, SAMPLING, False, ACC,
                )  # fmt: skip
                largest_q = tl.maximum(largest_q, tl.abs(q))
            shrink = power_of_two(1 / tl.max(tl.max(largest_q, 1), 0))
            squares = tl.zeros((1, BLOCK_C), ACC)
            for c0 in range(0, C, BLOCK_C):
                c = c0 + tl.arange(0, BLOCK_C)
                q = read_queries(
                    source + b * source_b, x, y, rows_n, when(active, rows_n >= 0), c, c < C,
                    source_c, source_h, source_w, source_H, source_W, SAMPLING, False, ACC,
                )  # fmt: skip
                squares += (q * shrink) * (q * shrink)
            norm = square_root(tl.sum(tl.sum(squares, 1), 0)) / shrink
            scale, inverse = scale_and_inverse(norm, eps, METRIC, CLAMP_EPS)
            power = power_of_two(scale)
            own = (scale / power) * (inverse / power)
            second = tl.where((own == 0) | (sum_ds_score == 0), 0.0, own * sum_ds_score)
        for c0 in range(0, C, BLOCK_C):
            c = c0 + tl.arange(0, BLOCK_C)
            q = read_queries(
                source + b * source_b, x, y, rows_n, when(active, rows_n >= 0), c, c < C,
                source_c, source_h, source_w, source_H, source_W, SAMPLING, False, ACC,
            )  # fmt: skip
            q = tl.where(is_finite(q) & finite[:, None], q * power, 0.0)
            offset = b * queries_b + n.to(tl.int64) * C
            tl.store(queries + (offset + c)[None, :], q, mask=(c < C)[None, :])
        tl.store(query_scale + row, tl.where(active, scale, 0.0))
        tl.store(query_second + row, tl.where(active, second, 0.0))
