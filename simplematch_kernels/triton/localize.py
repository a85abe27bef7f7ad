# mypy: ignore-errors
"""`localize`: from scores to matches (paper eq. 10-12)."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import affine, is_valid, least, names, ordered
from ._window import soft_argmax, window_bounds


@triton.jit(
    do_not_specialize=names(
        "scores best num_keypoints valid target_mask temperature keypoints_out score_out peak_out log_sum_exp_out "
        "window_scores N H W tiles kept first_query out_b kept_b scores_b scores_n scores_h valid_b "
        "temperature_b temperature_n window_height window_width rows columns"
    )
)
def localize_kernel(
    scores, best, num_keypoints, valid, target_mask, temperature,
    keypoints_out, score_out, peak_out, log_sum_exp_out, window_scores,
    N, H, W, tiles, kept, first_query, out_b, kept_b,
    scores_b, scores_n, scores_h, scores_w, valid_b, temperature_b, temperature_n,
    window_height, window_width, rows, columns,
    numerator_x: tl.float64, shift_x: tl.float64, divisor_x: tl.float64, reciprocal_x: tl.float64,
    numerator_y: tl.float64, shift_y: tl.float64, divisor_y: tl.float64, reciprocal_y: tl.float64,
    temperature_value: tl.float64, outside_value: tl.float64, sigma: tl.float64, output_offset: tl.float64,
    SHIFT: tl.constexpr, DISC: tl.constexpr, GAUSSIAN: tl.constexpr, OUTSIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """peak = argmax_m s[n, m];  P = softmax of s / T over the window;  out = sum_m P[m] (x_m, y_m), in user units.

    scores (B, N, H, W), any strides and dtype. best (2, B, N, tiles) from `similarity`, or None: the row is searched.
    Outputs (B, out_b rows, ...) contiguous; window_scores (B, kept_b, rows, columns): the raw scores of the
    first `kept` queries, zero beyond their window. Rows without a match get -1, 0, -1, 0.

    Program = one query. Bytes: 16 a tile, the window once, or the whole row without `best`; B N (rows x columns) x 4
    written if kept. Offsets from the peak, not coordinates, are summed: they are smaller, so they round less.
    """
    ACC: tl.constexpr = score_out.dtype.element_ty
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    active = is_valid(num_keypoints, valid, b, n, first_query, N, valid_b)
    scores += b * scores_b + n.to(tl.int64) * scores_n
    if target_mask is not None:
        target_mask += b * H * W

    lane_cell = tl.zeros((BLOCK,), tl.int32)
    if best is not None:
        lane_key = tl.full((BLOCK,), 0, tl.int64) + least(tl.full((), 0, tl.int64))
        count = tl.num_programs(0).to(tl.int64) * tiles
        for start in range(0, tiles, BLOCK):
            tile = start + tl.arange(0, BLOCK)
            slot = program.to(tl.int64) * tiles + tile
            key = tl.load(best + slot, mask=tile < tiles, other=-0x8000000000000000)
            cell = tl.load(best + count + slot, mask=tile < tiles, other=0).to(tl.int32)
            lane_cell = tl.where(key > lane_key, cell, lane_cell)
            lane_key = tl.maximum(key, lane_key)
    else:
        lane_key = ordered(tl.zeros((BLOCK,), ACC))
        lane_key = tl.zeros_like(lane_key) + least(lane_key)
        for start in range(0, H * W, BLOCK):
            m = start + tl.arange(0, BLOCK)
            selectable = m < H * W
            if target_mask is not None:
                selectable = selectable & (tl.load(target_mask + m, mask=selectable, other=0) != 0)
            y = m // W
            pointer = scores + (y.to(tl.int64) * scores_h + (m - y * W).to(tl.int64) * scores_w)
            key = ordered(tl.load(pointer, mask=selectable, other=0.0).to(ACC))
            key = tl.where(selectable, key, least(key))
            lane_cell = tl.where(key > lane_key, m, lane_cell)
            lane_key = tl.maximum(key, lane_key)
    top_key = tl.max(lane_key, 0)
    active = active & (top_key != least(top_key))
    peak = tl.min(tl.where(lane_key == top_key, lane_cell, H * W), 0)
    peak = tl.where(active, peak, 0)

    peak_y = peak // W
    peak_x = peak - peak_y * W
    pointer = scores + (peak_y.to(tl.int64) * scores_h + peak_x.to(tl.int64) * scores_w)
    score = tl.load(pointer, mask=active, other=0.0).to(ACC)
    if temperature is not None:
        T = tl.load(temperature + (b * temperature_b + n.to(tl.int64) * temperature_n)).to(ACC)
        T = tl.where(T > 0, T, float("nan"))  # the row becomes NaN
    else:
        T = tl.full((), temperature_value, tl.float64).to(ACC)
    top, left, bottom, right = window_bounds(peak, H, W, window_height, window_width, SHIFT)
    copy = window_scores
    if window_scores is not None:
        copy = window_scores + (b * kept_b + n) * (rows * columns)
    largest, total, mean_x, mean_y, _n, _x, _y = soft_argmax(
        scores, scores_h, scores_w, score, peak_x, peak_y, target_mask, copy, active, n < kept,
        T, outside_value, sigma, H, W, window_height, window_width, rows, columns, top, left, bottom, right,
        DISC, GAUSSIAN, OUTSIDE, ACC, BLOCK,
    )  # fmt: skip

    lost = (score != score) | (T != T) | (largest - largest != 0)
    mean_x, mean_y = tl.where(lost, float("nan"), mean_x), tl.where(lost, float("nan"), mean_y)
    offset = tl.full((), output_offset, tl.float64)
    x = affine(peak_x.to(tl.float64) + mean_x.to(tl.float64), numerator_x, shift_x, divisor_x, reciprocal_x) + offset
    y = affine(peak_y.to(tl.float64) + mean_y.to(tl.float64), numerator_y, shift_y, divisor_y, reciprocal_y) + offset
    row = b * out_b + n
    tl.store(keypoints_out + 2 * row, tl.where(active, x, -1.0).to(ACC))
    tl.store(keypoints_out + 2 * row + 1, tl.where(active, y, -1.0).to(ACC))
    tl.store(score_out + row, tl.where(active, score, 0.0))
    tl.store(peak_out + row, tl.where(active, peak, -1).to(tl.int64))
    # A largest score that isn't finite, or is NaN, is what the exponentials add up to, and has no expectation.
    largest = tl.where(score == score, largest, score)
    log_sum_exp = largest / T + tl.where(tl.abs(largest) < float("inf"), tl.log(total), 0.0)
    tl.store(log_sum_exp_out + row, tl.where(active, log_sum_exp, 0.0))
