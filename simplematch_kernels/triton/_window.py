# mypy: ignore-errors
"""The walk over a window and its soft-argmax, shared by `localize` and `localize_backward`."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, when
from ._records import Bounds, Expectation, Extent

SQUARE = tl.constexpr(0)  # codes of simplematch.h
PLUS = tl.constexpr(1)
CLOSED_DISC = tl.constexpr(3)


@triton.jit
def window_size(encoded):
    disc_height, disc_width = None, None
    if encoded.disc_height is not None:
        disc_height = sum_of(encoded.disc_height, encoded.disc_height_rest, encoded.disc_height_last)
        disc_width = sum_of(encoded.disc_width, encoded.disc_width_rest, encoded.disc_width_last)
    return Extent(
        decode(encoded.height), decode(encoded.width), decode(encoded.rows), decode(encoded.columns),
        disc_height, disc_width,
    )  # fmt: skip


@triton.jit
def sum_of(first, rest, last):
    """The float64 that came as three float32."""
    total = tl.full((), 0.0, tl.float64)
    return total + first + rest + last


@triton.jit
def window_bounds(peak, H, W, window, SHIFT: tl.constexpr):
    """The window around flat `peak`, clipped to the map."""
    height, width = window.height, window.width
    y = peak // W
    top = y - height // 2
    left = (peak - y * W) - width // 2
    if SHIFT:
        top = tl.minimum(tl.maximum(top, 0), tl.maximum(H - height, 0))
        left = tl.minimum(tl.maximum(left, 0), tl.maximum(W - width, 0))
    bottom, right = tl.minimum(top + height, H), tl.minimum(left + width, W)
    return Bounds(tl.maximum(top, 0), tl.maximum(left, 0), bottom, right)


@triton.jit
def windows_of(peak, n, N, H, W, window, SHIFT: tl.constexpr):
    """The windows of queries n of an image, and which of these have one.

    peak: a pointer to that of its first query, or None: a window is the whole map.
    """
    active = n < N
    if peak is not None:
        cell = tl.load(peak + n, mask=active, other=-1).to(tl.int32)  # (BLOCK_N,)
        active = active & (cell >= 0)
        bounds = window_bounds(tl.maximum(cell, 0), H, W, window, SHIFT)
    else:
        bounds = Bounds(n * 0, n * 0, n * 0 + H, n * 0 + W)
    return bounds, active


@triton.jit
def in_windows(bounds, active, x, y, in_map):
    """Which cells (x, y) lie in the windows of which queries: (BLOCK_N, BLOCK_M)."""
    inside = active[:, None] & in_map[None, :]
    inside = inside & (y[None, :] >= bounds.top[:, None]) & (y[None, :] < bounds.bottom[:, None])
    return inside & (x[None, :] >= bounds.left[:, None]) & (x[None, :] < bounds.right[:, None])


@triton.jit
def corner_offset(n, bounds, strides, OFFSET: tl.constexpr):
    """Where cell (0, 0) of the map would lie, of which the windows begin with their own first cells."""
    return n.to(OFFSET) * strides.n - bounds.top.to(OFFSET) * strides.h - bounds.left.to(OFFSET) * strides.w


@triton.jit
def window_cell(i, box, bounds, active):
    """Column and row of entry i of a box of cells, and whether the window has it."""
    row = i // box.columns
    x, y = box.column + (i - row * box.columns), box.row + row
    inside = active & (y >= bounds.top) & (y < bounds.bottom) & (x >= bounds.left) & (x < bounds.right)
    return x, y, inside


@triton.jit
def temperature_of(temperature, value, b, n, sizes, ACC: tl.constexpr):
    """T of query n of image b; NaN if it is not above 0."""
    if temperature is not None:
        offset = b * decode(sizes.temperature_b) + n.to(tl.int64) * decode(sizes.temperature_n)
        T = tl.load(temperature + offset).to(ACC)
        T = tl.where(T > 0, T, float("nan"))
    else:
        T = tl.full((), value, tl.float64).to(ACC)
    return T


@triton.jit
def in_disc(dx, dy, window, CLOSED: tl.constexpr):
    """Whether cells at offsets from the peak lie in a disc: `Window.ellipse`."""
    height, width = window.disc_height, window.disc_width
    circle = height == width
    half = tl.where(circle, height / 2, height * width / 2)
    edge = tl.full((), 3.552713678800501e-15, tl.float64)  # 2^-48
    most = half * half * (1 + edge if CLOSED else 1 - edge)
    across, down = tl.where(circle, 1.0, height * height), tl.where(circle, 1.0, width * width)
    x, y = dx.to(tl.float64), dy.to(tl.float64)
    return across * (x * x) + down * (y * y) <= most


@triton.jit
def support_of(x, y, inside, row, match, WINDOW: tl.constexpr):
    """Offsets (dx, dy) from the peak, whether a cell takes part in the softmax, and the weight of its score."""
    ACC: tl.constexpr = match.peak.score.dtype
    dx, dy = x - match.peak.x, y - match.peak.y
    support = inside
    if WINDOW.SHAPE == PLUS:
        support = support & ((dx == 0) | (dy == 0))
    elif WINDOW.SHAPE != SQUARE:
        support = support & in_disc(dx, dy, match.window, WINDOW.SHAPE == CLOSED_DISC)
    if row.target_mask is not None:
        selectable = tl.load(row.target_mask + (y.to(tl.int64) * row.W + x), mask=support, other=0)  # (BLOCK,)
        support = support & (selectable != 0)
    if WINDOW.GAUSSIAN:
        squared = (dx * dx + dy * dy).to(ACC)
        spread = tl.full((), match.sigma, tl.float64).to(ACC)
        weight = tl.exp(-squared / (2 * spread * spread))
    else:
        weight = tl.full(x.shape, 1.0, ACC)
    return dx, dy, support, weight


@triton.jit
def weigh(score, weight):
    """s' = s times its weight; infinity stays that, also where the gaussian vanishes."""
    return tl.where(tl.abs(score) < float("inf"), score * weight, score)


@triton.jit
def soft_argmax(row, match, box, copy, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    """largest = max_m s'[m], total = sum_m exp((s'[m] - largest) / T), and the mean offset from the peak.

    s' are the weighted scores of the window, and `outside_value` in the cells outside of it if WINDOW.OUTSIDE: these
    are counted (outside_n, and the sums outside_x, outside_y of their offsets), not visited. copy: None, or where to
    copy the scores of the box, and whether to.
    """
    ACC: tl.constexpr = match.peak.score.dtype
    T = match.T
    largest = match.peak.score
    total = tl.full((), 0.0, ACC)
    sum_x = tl.full((), 0.0, ACC)
    sum_y = tl.full((), 0.0, ACC)
    inside_n = tl.full((), 0, tl.int64)
    inside_x = tl.full((), 0, tl.int64)
    inside_y = tl.full((), 0, tl.int64)
    for start in range(0, box.rows * box.columns, BLOCK):
        i = start + tl.arange(0, BLOCK)
        in_box = i < box.rows * box.columns
        x, y, inside = window_cell(i, box, match.bounds, when(match.active, in_box))
        pointer = row.pointer + (y.to(tl.int64) * row.stride_h + x.to(tl.int64) * row.stride_w)
        score = tl.load(pointer, mask=inside, other=0.0).to(ACC)  # (BLOCK,)
        if copy is not None:
            tl.store(copy[0] + i, score, mask=when(copy[1], in_box))
        dx, dy, support, weight = support_of(x, y, inside, row, match, WINDOW)
        weighted = weigh(score, weight)
        larger = tl.maximum(largest, tl.max(tl.where(support, weighted, float("-inf")), 0))
        shrink = tl.where(largest == larger, 1.0, tl.exp((largest - larger) / T))
        p = tl.where(support & (weighted != float("-inf")), tl.exp((weighted - larger) / T), 0.0)
        total = total * shrink + tl.sum(p, 0)
        sum_x = sum_x * shrink + tl.sum(p * dx.to(ACC), 0)
        sum_y = sum_y * shrink + tl.sum(p * dy.to(ACC), 0)
        largest = larger
        if WINDOW.OUTSIDE:
            inside_n += tl.sum(support.to(tl.int64), 0)
            inside_x += tl.sum(tl.where(support, dx, 0).to(tl.int64), 0)
            inside_y += tl.sum(tl.where(support, dy, 0).to(tl.int64), 0)

    outside_n, outside_x, outside_y = -inside_n, -inside_x, -inside_y
    if WINDOW.OUTSIDE:
        map_n, map_x, map_y = sums_of_map(row, match.peak, BLOCK)
        outside_n += map_n
        outside_x += map_x
        outside_y += map_y
        value = tl.full((), match.outside_value, tl.float64).to(ACC)
        larger = tl.where(outside_n > 0, tl.maximum(largest, value), largest)
        shrink = tl.where(largest == larger, 1.0, tl.exp((largest - larger) / T))
        each = tl.where(outside_n > 0, tl.exp((value - larger) / T), 0.0)
        total = total * shrink + each * outside_n.to(ACC)
        sum_x = sum_x * shrink + each * outside_x.to(ACC)
        sum_y = sum_y * shrink + each * outside_y.to(ACC)
        largest = larger
    return Expectation(largest, total, sum_x / total, sum_y / total, outside_n, outside_x, outside_y)


@triton.jit
def sums_of_map(row, peak, BLOCK: tl.constexpr):
    """How many cells of the whole map take part, and the sums of their offsets from the peak."""
    H, W = row.H, row.W
    if row.target_mask is None:
        n = tl.full((), 1, tl.int64) * H * W
        x = tl.full((), 1, tl.int64) * H * W * (W - 1) // 2 - n * peak.x
        y = tl.full((), 1, tl.int64) * W * H * (H - 1) // 2 - n * peak.y
    else:
        n = tl.full((), 0, tl.int64)
        x = tl.full((), 0, tl.int64)
        y = tl.full((), 0, tl.int64)
        for start in range(0, H * W, BLOCK):
            m = start + tl.arange(0, BLOCK)
            selectable = tl.load(row.target_mask + m, mask=m < H * W, other=0) != 0  # (BLOCK,)
            line = m // W
            n += tl.sum(selectable.to(tl.int64), 0)
            x += tl.sum(tl.where(selectable, m - line * W - peak.x, 0).to(tl.int64), 0)
            y += tl.sum(tl.where(selectable, line - peak.y, 0).to(tl.int64), 0)
    return n, x, y


@triton.jit
def squares(row, match, box, mean, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    """(xx, xy, yy): sums over the window of exp((s' - largest) / T) times products of offsets from the mean."""
    ACC: tl.constexpr = match.peak.score.dtype
    xx = tl.full((), 0.0, ACC)
    xy = tl.full((), 0.0, ACC)
    yy = tl.full((), 0.0, ACC)
    for start in range(0, box.rows * box.columns, BLOCK):
        i = start + tl.arange(0, BLOCK)
        in_box = i < box.rows * box.columns
        x, y, inside = window_cell(i, box, match.bounds, when(match.active, in_box))
        pointer = row.pointer + (y.to(tl.int64) * row.stride_h + x.to(tl.int64) * row.stride_w)
        score = tl.load(pointer, mask=inside, other=0.0).to(ACC)  # (BLOCK,)
        dx, dy, support, weight = support_of(x, y, inside, row, match, WINDOW)
        weighted = weigh(score, weight)
        p = tl.where(support & (weighted != float("-inf")), tl.exp((weighted - mean.largest) / match.T), 0.0)
        across, down = dx.to(ACC) - mean.x, dy.to(ACC) - mean.y
        xx += tl.sum(p * across * across, 0)
        xy += tl.sum(p * across * down, 0)
        yy += tl.sum(p * down * down, 0)
    return xx, xy, yy


@triton.jit
def outside_squares(row, match, mean, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    """(xx, xy, yy): sums of products of offsets from the mean, over the cells outside the window that take part."""
    ACC: tl.constexpr = match.peak.score.dtype
    bounds = match.bounds
    xx = tl.full((), 0.0, ACC)
    xy = tl.full((), 0.0, ACC)
    yy = tl.full((), 0.0, ACC)
    for start in range(0, row.H * row.W, BLOCK):
        m = start + tl.arange(0, BLOCK)
        takes_part = when(match.active, m < row.H * row.W)
        if row.target_mask is not None:
            takes_part = takes_part & (tl.load(row.target_mask + m, mask=takes_part, other=0) != 0)  # (BLOCK,)
        y = m // row.W
        x = m - y * row.W
        inside = (y >= bounds.top) & (y < bounds.bottom) & (x >= bounds.left) & (x < bounds.right)
        dx, dy, support, _ = support_of(x, y, takes_part & inside, row, match, WINDOW)
        outside = takes_part & (support == 0)
        across, down = dx.to(ACC) - mean.x, dy.to(ACC) - mean.y
        xx += tl.sum(tl.where(outside, across * across, 0.0), 0)
        xy += tl.sum(tl.where(outside, across * down, 0.0), 0)
        yy += tl.sum(tl.where(outside, down * down, 0.0), 0)
    return xx, xy, yy
