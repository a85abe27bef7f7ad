# mypy: ignore-errors
"""What a query has besides its match: the covariance of the expected point, and the best cell outside a window."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, least, maps_from_cells, names, ordered, score_strides, slopes
from ._records import Box, Match, Peak, Row
from ._window import outside_squares, soft_argmax, squares, support_of, temperature_of, window_bounds, window_size


@triton.jit
def covariance_of(row, match, box, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    """(xx, xy, yy) in cells squared: sum_m P[m] (c_m - out) (c_m - out)^T. NaN in a lost row."""
    mean = soft_argmax(row, match, box, None, WINDOW, BLOCK)
    xx, xy, yy = squares(row, match, box, mean, WINDOW, BLOCK)
    total = mean.total
    if WINDOW.OUTSIDE:
        value = tl.full((), match.outside_value, tl.float64).to(total.dtype)
        each = tl.where(mean.outside_n > 0, tl.exp((value - mean.largest) / match.T), 0.0)
        more_xx, more_xy, more_yy = outside_squares(row, match, mean, WINDOW, BLOCK)
        xx += each * more_xx
        xy += each * more_xy
        yy += each * more_yy
    lost = (match.peak.score != match.peak.score) | (match.T != match.T) | (mean.largest - mean.largest != 0)
    total = tl.where(lost, float("nan"), total)
    return xx / total, xy / total, yy / total


@triton.jit
def second_best(row, best, program, tiles, around, SECOND: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr):
    """The key and cell of the best cell outside the window of `around`: the least key if there is none.

    best: (2, B, N, tiles), the best cells of tiles of TILE cells, or None. Only the tiles that meet the rows of the
    window have their scores looked at again.
    """
    H, W = row.H, row.W
    bounds = around.bounds
    none = least(tl.full((), 0, tl.int64))
    lane_key = tl.zeros((BLOCK,), tl.int64) + none
    lane_cell = tl.zeros((BLOCK,), tl.int32) + H * W
    first = bounds.top * 0
    last = first + H * W
    if best is not None:
        first_tile, end = bounds.top * W // TILE, tl.cdiv(bounds.bottom * W, TILE)
        first, last = first_tile * TILE, tl.minimum(end * TILE, H * W)
        count = tl.num_programs(0).to(tl.int64) * tiles
        for start in range(0, tiles, BLOCK):
            tile = start + tl.arange(0, BLOCK)
            away = (tile < tiles) & ((tile < first_tile) | (tile >= end))
            slot = program.to(tl.int64) * tiles + tile
            key = tl.load(best + slot, mask=away, other=-0x8000000000000000)  # (BLOCK,)
            cell = tl.load(best + count + slot, mask=away, other=0).to(tl.int32)  # (BLOCK,)
            lane_cell = tl.where(key > lane_key, cell, lane_cell)
            lane_key = tl.maximum(key, lane_key)
    for start in range(first, last, BLOCK):
        m = start + tl.arange(0, BLOCK)
        selectable = m < last
        if row.target_mask is not None:
            selectable = selectable & (tl.load(row.target_mask + m, mask=selectable, other=0) != 0)  # (BLOCK,)
        y = m // W
        x = m - y * W
        inside = (y >= bounds.top) & (y < bounds.bottom) & (x >= bounds.left) & (x < bounds.right)
        whole = Row(row.pointer, H, W, row.stride_h, row.stride_w, None)
        _, _, inside, _ = support_of(x, y, inside, whole, around, SECOND)
        selectable = selectable & (inside == 0)
        pointer = row.pointer + (y.to(tl.int64) * row.stride_h + x.to(tl.int64) * row.stride_w)
        key = ordered(tl.load(pointer, mask=selectable, other=0.0).to(around.peak.score.dtype)).to(tl.int64)  # (BLOCK,)
        key = tl.where(selectable, key, none)
        better = (key > lane_key) | ((key == lane_key) & (m < lane_cell))
        lane_cell = tl.where(better, m, lane_cell)
        lane_key = tl.maximum(key, lane_key)
    top = tl.max(lane_key, 0)
    return top, tl.min(tl.where(lane_key == top, lane_cell, H * W), 0)


@triton.jit(
    do_not_specialize=names(
        "scores best peak target_mask temperature target_sizes covariance_out second_score_out second_peak_out"
    )
)
def details_kernel(
    scores, best, peak, target_mask, temperature, target_sizes, covariance_out, second_score_out, second_peak_out,
    sizes, scores_strides, window, second, from_cells,
    temperature_value: tl.float64, outside_value: tl.float64, sigma: tl.float64,
    WINDOW: tl.constexpr, SECOND: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """covariance = sum_m P[m] (c_m - out) (c_m - out)^T;  second = argmax of s[m] over m outside `second`

    scores (B, N, H, W), any strides and dtype. peak (B, out_b rows): what `localize` found, below 0 in padding. best
    (2, B, N, tiles) from `similarity`, in tiles of TILE cells, or None. Outputs as those of `localize`, None where not
    wanted; 0, 0 and -1 in padding, -inf and -1 where no cell is outside.

    Program = one query. Bytes: the window twice, mostly out of the nearest cache; for the second best 16 a tile that
    misses the rows of the window, the scores of the others, or the whole row without `best`.
    """
    N, H, W = decode(sizes.N), decode(sizes.H), decode(sizes.W)
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    slot = b * decode(sizes.out_b) + n
    index = tl.load(peak + slot).to(tl.int32)
    active = index >= 0
    index = tl.maximum(index, 0)
    strides = score_strides(scores_strides)
    if target_mask is not None:
        target_mask += b * decode(sizes.mask_b) + n.to(tl.int64) * decode(sizes.mask_n)
    scores += b * strides.b + n.to(tl.int64) * strides.n
    row = Row(scores, H, W, strides.h, strides.w, target_mask)
    ACC: tl.constexpr = tl.float64 if scores.dtype.element_ty == tl.float64 else tl.float32
    y = index // W
    x = index - y * W
    score = tl.load(scores + (y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w), mask=active, other=0.0).to(ACC)
    T = temperature_of(temperature, temperature_value, b, n, sizes, ACC)
    at = Peak(x, y, score)
    if covariance_out is not None:
        window = window_size(window)
        bounds = window_bounds(index, H, W, window, WINDOW.SHIFT)
        match = Match(at, bounds, window, T, outside_value, sigma, active)
        box = Box(bounds.top, bounds.left, window.rows, window.columns)
        xx, xy, yy = covariance_of(row, match, box, WINDOW, BLOCK)
        rate_x, rate_y = slopes(maps_from_cells(from_cells, target_sizes, b, H, W))
        to = covariance_out + 4 * slot
        tl.store(to, tl.where(active, xx * rate_x * rate_x, 0.0).to(ACC))
        tl.store(to + 1, tl.where(active, xy * rate_x * rate_y, 0.0).to(ACC))
        tl.store(to + 2, tl.where(active, xy * rate_x * rate_y, 0.0).to(ACC))
        tl.store(to + 3, tl.where(active, yy * rate_y * rate_y, 0.0).to(ACC))
    if second_peak_out is not None:
        size = window_size(second)
        around = Match(at, window_bounds(index, H, W, size, SECOND.SHIFT), size, T, outside_value, sigma, active)
        key, cell = second_best(row, best, program, decode(sizes.tiles), around, SECOND, TILE, BLOCK)
        there = active & (key != least(key))
        cell = tl.where(there, cell, 0)
        y = cell // W
        x = cell - y * W
        pointer = scores + (y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w)
        found = tl.load(pointer, mask=there, other=float("-inf")).to(ACC)
        tl.store(second_score_out + slot, tl.where(active, found, 0.0))
        tl.store(second_peak_out + slot, tl.where(there, cell, -1).to(tl.int64))
