# mypy: ignore-errors
"""`localize`: from scores to matches (paper eq. 10-12)."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    affine_x,
    affine_y,
    decode,
    is_valid,
    least,
    maps_from_cells,
    names,
    ordered,
    score_strides,
)
from ._records import Box, Match, Peak, Row
from ._window import soft_argmax, temperature_of, window_bounds, window_size


@triton.jit
def best_of_tiles(best, program, tiles, BLOCK: tl.constexpr):
    """The largest key of a query, and the first cell that has it, from those of the tiles of its row."""
    lane_cell = tl.zeros((BLOCK,), tl.int32)
    lane_key = tl.full((BLOCK,), 0, tl.int64) + least(tl.full((), 0, tl.int64))
    count = tl.num_programs(0).to(tl.int64) * tiles
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        slot = program.to(tl.int64) * tiles + tile
        key = tl.load(best + slot, mask=tile < tiles, other=-0x8000000000000000)  # (BLOCK,)
        cell = tl.load(best + count + slot, mask=tile < tiles, other=0).to(tl.int32)  # (BLOCK,)
        lane_cell = tl.where(key > lane_key, cell, lane_cell)
        lane_key = tl.maximum(key, lane_key)
    return lane_key, lane_cell


@triton.jit
def best_of_row(row, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """The same from the scores of the row, without tiles."""
    cells = row.H * row.W
    lane_cell = tl.zeros((BLOCK,), tl.int32)
    lane_key = ordered(tl.zeros((BLOCK,), ACC))
    lane_key = tl.zeros_like(lane_key) + least(lane_key)
    for start in range(0, cells, BLOCK):
        m = start + tl.arange(0, BLOCK)
        selectable = m < cells
        if row.target_mask is not None:
            selectable = selectable & (tl.load(row.target_mask + m, mask=selectable, other=0) != 0)  # (BLOCK,)
        y = m // row.W
        pointer = row.pointer + (y.to(tl.int64) * row.stride_h + (m - y * row.W).to(tl.int64) * row.stride_w)
        key = ordered(tl.load(pointer, mask=selectable, other=0.0).to(ACC))  # (BLOCK,)
        key = tl.where(selectable, key, least(key))
        lane_cell = tl.where(key > lane_key, m, lane_cell)
        lane_key = tl.maximum(key, lane_key)
    return lane_key, lane_cell


@triton.jit(
    do_not_specialize=names(
        "scores best num_keypoints valid target_mask temperature keypoints_out score_out peak_out log_sum_exp_out "
        "window_scores target_sizes"
    )
)
def localize_kernel(
    scores, best, num_keypoints, valid, target_mask, temperature,
    keypoints_out, score_out, peak_out, log_sum_exp_out, window_scores, target_sizes,
    sizes, scores_strides, window, from_cells,
    temperature_value: tl.float64, outside_value: tl.float64, sigma: tl.float64, output_offset: tl.float64,
    WINDOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """peak = argmax_m s[n, m];  P = softmax of s / T over the window;  out = sum_m P[m] (x_m, y_m), in user units.

    scores (B, N, H, W), any strides and dtype. best (2, B, N, tiles) from `similarity`, or None: the row is searched.
    Outputs (B, out_b rows, ...) contiguous; window_scores (B, kept_b, rows, columns): the raw scores of the
    first `kept` queries, zero beyond their window. Rows without a match get -1, 0, -1, 0.

    Program = one query. Bytes: 16 a tile, the window once, or the whole row without `best`; B N (rows x columns) x 4
    written if kept. Offsets from the peak, not coordinates, are summed: they are smaller, so they round less.
    """
    ACC: tl.constexpr = score_out.dtype.element_ty
    N, H, W = decode(sizes.N), decode(sizes.H), decode(sizes.W)
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    active = is_valid(num_keypoints, valid, b, n, decode(sizes.first_query), N, decode(sizes.valid_b))
    strides = score_strides(scores_strides)
    if target_mask is not None:
        target_mask += b * decode(sizes.mask_b) + n.to(tl.int64) * decode(sizes.mask_n)
    pointer = scores + (b * strides.b + n.to(tl.int64) * strides.n)
    row = Row(pointer, H, W, strides.h, strides.w, target_mask)
    if best is not None:
        lane_key, lane_cell = best_of_tiles(best, program, decode(sizes.tiles), BLOCK)
    else:
        lane_key, lane_cell = best_of_row(row, ACC, BLOCK)
    top_key = tl.max(lane_key, 0)
    active = active & (top_key != least(top_key))
    index = tl.min(tl.where(lane_key == top_key, lane_cell, H * W), 0)
    index = tl.where(active, index, 0)

    y = index // W
    x = index - y * W
    pointer = row.pointer + (y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w)
    score = tl.load(pointer, mask=active, other=0.0).to(ACC)
    T = temperature_of(temperature, temperature_value, b, n, sizes, ACC)
    window = window_size(window)
    bounds = window_bounds(index, H, W, window, WINDOW.SHIFT)
    rows, columns = window.rows, window.columns
    copy = None
    if window_scores is not None:
        copy = (window_scores + (b * decode(sizes.kept_b) + n) * (rows * columns), n < decode(sizes.kept))
    match = Match(Peak(x, y, score), bounds, window, T, outside_value, sigma, active)
    mean = soft_argmax(row, match, Box(bounds.top, bounds.left, rows, columns), copy, WINDOW, BLOCK)

    largest = mean.largest
    lost = (score != score) | (T != T) | (largest - largest != 0)
    mean_x, mean_y = tl.where(lost, float("nan"), mean.x), tl.where(lost, float("nan"), mean.y)
    offset = tl.full((), output_offset, tl.float64)
    from_cells = maps_from_cells(from_cells, target_sizes, b, H, W)
    out_x = affine_x(x.to(tl.float64) + mean_x.to(tl.float64), from_cells) + offset
    out_y = affine_y(y.to(tl.float64) + mean_y.to(tl.float64), from_cells) + offset
    slot = b * decode(sizes.out_b) + n
    tl.store(keypoints_out + 2 * slot, tl.where(active, out_x, -1.0).to(ACC))
    tl.store(keypoints_out + 2 * slot + 1, tl.where(active, out_y, -1.0).to(ACC))
    tl.store(score_out + slot, tl.where(active, score, 0.0))
    tl.store(peak_out + slot, tl.where(active, index, -1).to(tl.int64))
    # A largest score that isn't finite, or is NaN, is what the exponentials add up to, and has no expectation.
    largest = tl.where(score == score, largest, score)
    log_sum_exp = largest / T + tl.where(tl.abs(largest) < float("inf"), tl.log(mean.total), 0.0)
    tl.store(log_sum_exp_out + slot, tl.where(active, log_sum_exp, 0.0))
