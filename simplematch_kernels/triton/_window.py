# mypy: ignore-errors
"""The walk over a window and its soft-argmax, shared by `localize` and `localize_backward`."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import when


@triton.jit
def window_bounds(peak, H, W, window_height, window_width, SHIFT: tl.constexpr):
    """(top, left, bottom, right) of the window around flat `peak`, clipped to the map."""
    y = peak // W
    top = y - window_height // 2
    left = (peak - y * W) - window_width // 2
    if SHIFT:
        top = tl.minimum(tl.maximum(top, 0), tl.maximum(H - window_height, 0))
        left = tl.minimum(tl.maximum(left, 0), tl.maximum(W - window_width, 0))
    bottom, right = tl.minimum(top + window_height, H), tl.minimum(left + window_width, W)
    return tl.maximum(top, 0), tl.maximum(left, 0), bottom, right


@triton.jit
def window_cell(i, first_row, first_column, columns, top, left, bottom, right, active):
    """Column and row of entry i of a box of cells, and whether the window has it."""
    row = i // columns
    x, y = first_column + (i - row * columns), first_row + row
    inside = active & (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return x, y, inside


@triton.jit
def support_of(
    score, x, y, inside, peak_x, peak_y, target_mask, W, window_height, window_width, sigma,
    DISC: tl.constexpr, GAUSSIAN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Offsets (dx, dy) from the peak, whether a cell takes part in the softmax, and the weight of its score."""
    dx, dy = x - peak_x, y - peak_y
    support = inside
    if DISC:
        across, down = 2 * dx.to(tl.int64) * window_height, 2 * dy.to(tl.int64) * window_width
        size = tl.full((), 1, tl.int64) * window_height * window_width
        support = support & (across * across + down * down < size * size)
    if target_mask is not None:
        support = support & (tl.load(target_mask + (y.to(tl.int64) * W + x), mask=support, other=0) != 0)
    if GAUSSIAN:
        squared = (dx * dx + dy * dy).to(ACC)
        spread = tl.full((), sigma, tl.float64).to(ACC)
        weight = tl.exp(-squared / (2 * spread * spread))
    else:
        weight = tl.full(score.shape, 1.0, ACC)
    return dx, dy, support, weight


@triton.jit
def weigh(score, weight):
    """s' = s times its weight; infinity stays that, also where the gaussian vanishes."""
    return tl.where(tl.abs(score) < float("inf"), score * weight, score)


@triton.jit
def soft_argmax(
    scores, stride_y, stride_x, peak_score, peak_x, peak_y, target_mask, copy, active, boxed, T, outside_value, sigma,
    H, W, window_height, window_width, rows, columns, top, left, bottom, right,
    DISC: tl.constexpr, GAUSSIAN: tl.constexpr, OUTSIDE: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """largest = max_m s'[m], total = sum_m exp((s'[m] - largest) / T), and the mean offset from the peak.

    s' are the weighted scores of the window, and `outside_value` in the cells outside of it if OUTSIDE: these are
    counted (outside_n, and the sums outside_x, outside_y of their offsets), not visited. The scores of the box
    (rows, columns) are copied to `copy` if that is not None and `boxed`.
    """
    largest = peak_score
    total = tl.full((), 0.0, ACC)
    sum_x = tl.full((), 0.0, ACC)
    sum_y = tl.full((), 0.0, ACC)
    inside_n = tl.full((), 0, tl.int64)
    inside_x = tl.full((), 0, tl.int64)
    inside_y = tl.full((), 0, tl.int64)
    for start in range(0, rows * columns, BLOCK):
        i = start + tl.arange(0, BLOCK)
        in_box = i < rows * columns
        x, y, inside = window_cell(i, top, left, columns, top, left, bottom, right, when(active, in_box))
        score = tl.load(scores + (y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x), mask=inside, other=0.0)
        score = score.to(ACC)
        if copy is not None:
            tl.store(copy + i, score, mask=when(boxed, in_box))
        dx, dy, support, weight = support_of(
            score, x, y, inside, peak_x, peak_y, target_mask, W, window_height, window_width, sigma,
            DISC, GAUSSIAN, ACC,
        )  # fmt: skip
        weighted = weigh(score, weight)
        larger = tl.maximum(largest, tl.max(tl.where(support, weighted, float("-inf")), 0))
        shrink = tl.where(largest == larger, 1.0, tl.exp((largest - larger) / T))
        p = tl.where(support & (weighted != float("-inf")), tl.exp((weighted - larger) / T), 0.0)
        total = total * shrink + tl.sum(p, 0)
        sum_x = sum_x * shrink + tl.sum(p * dx.to(ACC), 0)
        sum_y = sum_y * shrink + tl.sum(p * dy.to(ACC), 0)
        largest = larger
        if OUTSIDE:
            inside_n += tl.sum(support.to(tl.int64), 0)
            inside_x += tl.sum(tl.where(support, dx, 0).to(tl.int64), 0)
            inside_y += tl.sum(tl.where(support, dy, 0).to(tl.int64), 0)

    outside_n, outside_x, outside_y = -inside_n, -inside_x, -inside_y
    if OUTSIDE:
        if target_mask is None:
            count = tl.full((), 1, tl.int64) * H * W
            outside_n += count
            outside_x += tl.full((), 1, tl.int64) * H * W * (W - 1) // 2 - count * peak_x
            outside_y += tl.full((), 1, tl.int64) * W * H * (H - 1) // 2 - count * peak_y
        else:
            for start in range(0, H * W, BLOCK):
                m = start + tl.arange(0, BLOCK)
                selectable = tl.load(target_mask + m, mask=m < H * W, other=0) != 0
                y = m // W
                outside_n += tl.sum(selectable.to(tl.int64), 0)
                outside_x += tl.sum(tl.where(selectable, m - y * W - peak_x, 0).to(tl.int64), 0)
                outside_y += tl.sum(tl.where(selectable, y - peak_y, 0).to(tl.int64), 0)
        value = tl.full((), outside_value, tl.float64).to(ACC)
        larger = tl.where(outside_n > 0, tl.maximum(largest, value), largest)
        shrink = tl.where(largest == larger, 1.0, tl.exp((largest - larger) / T))
        each = tl.where(outside_n > 0, tl.exp((value - larger) / T), 0.0)
        total = total * shrink + each * outside_n.to(ACC)
        sum_x = sum_x * shrink + each * outside_x.to(ACC)
        sum_y = sum_y * shrink + each * outside_y.to(ACC)
        largest = larger
    return largest, total, sum_x / total, sum_y / total, outside_n, outside_x, outside_y
