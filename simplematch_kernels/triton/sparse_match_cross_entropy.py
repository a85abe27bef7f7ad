# mypy: ignore-errors
"""`cross_entropy` and `cross_entropy_backward`: the softmax over a whole map beside a Gaussian round the true point.

G[n, m] = exp(-|m - c_n|^2 / (2 sigma^2)) over its sum on W_n        c_n: the true point in cells
loss_n  = sum_m G[n, m] (log sum_l exp(s[n, l] / T) - s[n, m] / T)
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    affine_x,
    affine_y,
    clamp,
    decode,
    image_of,
    is_finite,
    is_valid,
    map_strides,
    names,
    point_strides,
    rounded,
    score_strides,
    when,
)
from ._queries import fill_query, query_points
from ._records import Bounds, Box, Gaussian, Keypoints, Match, Peak, QueryOutputs, Row, Sums, TruePoint
from ._window import soft_argmax, temperature_of


@triton.jit
def true_point(points, encoded, to_cells, kernel_size, b, n, H, W):
    """The `TruePoint` of query n of image b; up to a cell outside, the nearest point of the map takes its place."""
    strides = point_strides(encoded)
    pointer = points + (b * strides.b + n.to(tl.int64) * strides.n)
    x, y = affine_x(tl.load(pointer), to_cells), affine_y(tl.load(pointer + strides.d), to_cells)
    known = is_finite(x) & is_finite(y)
    x, y = tl.where(known, x, 0.0), tl.where(known, y, 0.0)
    inside = (x > -1) & (x < W) & (y > -1) & (y < H)
    x, y = clamp(x, W), clamp(y, H)
    column, row = rounded(x).to(tl.int32), rounded(y).to(tl.int32)
    top, left = row - kernel_size // 2, column - kernel_size // 2
    bottom, right = tl.minimum(top + kernel_size, H), tl.minimum(left + kernel_size, W)
    bounds = Bounds(tl.maximum(top, 0), tl.maximum(left, 0), bottom, right)
    return TruePoint(x, y, row * W + column, bounds, known, inside)


@triton.jit
def squared_distance(x, y, point):
    """Of cells to the true point."""
    dx, dy = x.to(tl.float64) - point.x, y.to(tl.float64) - point.y
    return dx * dx + dy * dy


@triton.jit
def covered(x, y, in_map, row, point):
    """Which cells are in W_n: in its bounds and in the mask."""
    bounds = point.bounds
    inside = in_map & (y >= bounds.top) & (y < bounds.bottom) & (x >= bounds.left) & (x < bounds.right)
    if row.target_mask is not None:
        inside = inside & (tl.load(row.target_mask + (y.to(tl.int64) * row.W + x), mask=inside, other=0) != 0)
    return inside


@triton.jit
def weight_of(x, y, inside, gaussian):
    """exp(-(d^2 - least) / (2 sigma^2)): from the least distance, so that a narrow Gaussian keeps the nearest cell."""
    squared = squared_distance(x, y, gaussian.point) - gaussian.least
    return tl.where(inside, tl.exp(-squared / (2 * gaussian.sigma * gaussian.sigma)), 0.0)


@triton.jit
def gaussian_of(row, point, sigma, BLOCK: tl.constexpr):
    """The `Gaussian` of a point; its total is 0 if no cell of W_n is in the mask."""
    bounds = point.bounds
    columns = bounds.right - bounds.left
    cells = (bounds.bottom - bounds.top) * columns
    least = tl.full((), float("inf"), tl.float64)
    for start in range(0, cells, BLOCK):
        i = start + tl.arange(0, BLOCK)
        x, y = bounds.left + i % columns, bounds.top + i // columns
        inside = covered(x, y, i < cells, row, point)
        least = tl.minimum(least, tl.min(tl.where(inside, squared_distance(x, y, point), float("inf")), 0))
    found = Gaussian(point, tl.full((), sigma, tl.float64), least, least)
    total = tl.full((), 0.0, tl.float64)
    for start in range(0, cells, BLOCK):
        i = start + tl.arange(0, BLOCK)
        x, y = bounds.left + i % columns, bounds.top + i // columns
        total += tl.sum(weight_of(x, y, covered(x, y, i < cells, row, point), found), 0)
    return Gaussian(point, found.sigma, least, total)


@triton.jit
def whole_softmax(row, T, active, WINDOW: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """The largest score of a map's cells in the mask, and the sum of exp((s - largest) / T), as an `Expectation`."""
    zero = active.to(tl.int32) * 0
    bounds = Bounds(zero, zero, row.H, row.W)
    lowest = tl.full((), float("-inf"), ACC)
    match = Match(Peak(zero, zero, lowest), bounds, None, T, None, None, active)
    return soft_argmax(row, match, Box(zero, zero, row.H, row.W), None, WINDOW, BLOCK)


@triton.jit(do_not_specialize=names("scores points num_keypoints valid target_mask temperature loss_out cell_out"))
def cross_entropy_kernel(
    scores, points, num_keypoints, valid, target_mask, temperature, loss_out, cell_out,
    sizes, scores_strides, points_strides, to_cells, temperature_value: tl.float64, sigma: tl.float64,
    WINDOW: tl.constexpr, BLOCK: tl.constexpr, BLOCK_TRUE: tl.constexpr,
):  # fmt: skip
    """loss = log sum_m exp((s[m] - largest) / T) + sum_m G[m] (largest - s[m]) / T, and the cell nearest to the point.

    scores (B, N, H, W), points (B, N, 2), any strides. loss_out, cell_out (B, out_b rows): 0 and -1 in rows that are
    padding, whose point lies outside, or whose W_n is empty; NaN where the largest score, T or the point isn't finite.

    Program = one query. Bytes: its row of scores, and k^2 of them again.
    """
    ACC: tl.constexpr = loss_out.dtype.element_ty
    N, H, W = decode(sizes.N), decode(sizes.H), decode(sizes.W)
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    active = is_valid(num_keypoints, valid, b, n, decode(sizes.first_query), N, decode(sizes.valid_b))
    strides = score_strides(scores_strides)
    if target_mask is not None:
        target_mask += b * decode(sizes.mask_b) + n.to(tl.int64) * decode(sizes.mask_n)
    row = Row(scores + (b * strides.b + n.to(tl.int64) * strides.n), H, W, strides.h, strides.w, target_mask)
    T = temperature_of(temperature, temperature_value, b, n, sizes, ACC)
    point = true_point(points, points_strides, to_cells, decode(sizes.kernel_size), b, n, H, W)
    gaussian = gaussian_of(row, point, sigma, BLOCK_TRUE)
    active = active & point.inside & (gaussian.total > 0)
    mean = whole_softmax(row, T, active, WINDOW, BLOCK, ACC)

    bounds = point.bounds
    columns = bounds.right - bounds.left
    cells = (bounds.bottom - bounds.top) * columns
    below = tl.full((), 0.0, ACC)
    for start in range(0, cells, BLOCK_TRUE):
        i = start + tl.arange(0, BLOCK_TRUE)
        x, y = bounds.left + i % columns, bounds.top + i // columns
        inside = covered(x, y, when(active, i < cells), row, point)
        pointer = row.pointer + (y.to(tl.int64) * row.stride_h + x.to(tl.int64) * row.stride_w)
        score = tl.load(pointer, mask=inside, other=0.0).to(ACC)  # (BLOCK_TRUE,)
        weight = (weight_of(x, y, inside, gaussian) / gaussian.total).to(ACC)
        below += tl.sum(tl.where(weight > 0, weight * (mean.largest - score), 0.0), 0)
    lost = ~is_finite(mean.largest) | (T != T) | ~point.known
    loss = tl.where(lost, float("nan"), tl.log(mean.total) + below / T)
    slot = b * decode(sizes.out_b) + n
    tl.store(loss_out + slot, tl.where(active, loss, 0.0))
    tl.store(cell_out + slot, tl.where(active, point.cell, -1).to(tl.int64))


@triton.jit(
    do_not_specialize=names(
        "scores points cell loss target_mask temperature upstream source keypoints ds_out temperature_out queries "
        "query_scale query_own source_sizes"
    )
)
def cross_entropy_backward_kernel(
    scores, points, cell, loss, target_mask, temperature, upstream,
    source, keypoints, ds_out, temperature_out, queries, query_scale, query_own, source_sizes,
    sizes, scores_strides, points_strides, source_strides, keypoints_strides, true_to_cells, to_cells,
    temperature_value: tl.float64, sigma: tl.float64, eps: tl.float64,
    WINDOW: tl.constexpr, SAMPLING: tl.constexpr, METRIC: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_TRUE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """ds[m] = g / T (P[m] - G[m]),  dT = -g / T^2 sum_m (P[m] - G[m]) (s[m] - largest)

    g: upstream (B, N). scores and ds_out (B, N, H, W) of the same strides. cell, loss (B, cell_b rows): the forward's.
    A row to which zero arrives gets ds = 0. Else one whose loss or g isn't finite gets NaN in the cells of its softmax.
    queries, query_scale and query_own: as in `localize_backward`.

    Program = one query. Bytes: B N M x 4 read twice and written once, B N C sampled and written.
    """
    ACC: tl.constexpr = ds_out.dtype.element_ty
    N, H, W = decode(sizes.N), decode(sizes.H), decode(sizes.W)
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    wide_n = n.to(tl.int64)
    kept, slot = b * decode(sizes.cell_b) + n, b * decode(sizes.scalar_b) + n
    active = tl.load(cell + kept) >= 0
    g = tl.load(upstream + (b * decode(sizes.upstream_b) + wide_n * decode(sizes.upstream_n)), mask=active, other=0.0)
    g = g.to(ACC)
    passes = active & (g != 0)
    lost = ~is_finite(tl.load(loss + kept)) | ~is_finite(g)
    strides = score_strides(scores_strides)
    if target_mask is not None:
        target_mask += b * decode(sizes.mask_b) + wide_n * decode(sizes.mask_n)
    of_row = b * strides.b + wide_n * strides.n
    row = Row(scores + of_row, H, W, strides.h, strides.w, target_mask)
    T = temperature_of(temperature, temperature_value, b, n, sizes, ACC)
    point = true_point(points, points_strides, true_to_cells, decode(sizes.kernel_size), b, n, H, W)
    gaussian = gaussian_of(row, point, sigma, BLOCK_TRUE)
    mean = whole_softmax(row, T, passes, WINDOW, BLOCK, ACC)

    sum_ds = tl.full((), 0.0, ACC)
    sum_ds_score = tl.full((), 0.0, ACC)
    moment = tl.full((), 0.0, ACC)
    for start in range(0, H * W, BLOCK):
        m = start + tl.arange(0, BLOCK)
        in_map = m < H * W
        y = m // W
        x = m - y * W
        support = when(passes, in_map)
        if target_mask is not None:
            support = support & (tl.load(target_mask + m, mask=in_map, other=0) != 0)
        offset = y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w
        score = tl.load(row.pointer + offset, mask=support, other=0.0).to(ACC)  # (BLOCK,)
        from_largest = score - mean.largest
        G = weight_of(x, y, covered(x, y, support, row, point), gaussian) / gaussian.total
        difference = tl.where(support, tl.exp(from_largest / T) / mean.total, 0.0) - G.to(ACC)
        ds = tl.where(support, tl.where(lost, float("nan"), g / T * difference), 0.0)
        tl.store(ds_out + of_row + offset, ds, mask=in_map)
        sum_ds += tl.sum(ds, 0)
        sum_ds_score += tl.sum(tl.where(ds == 0, 0.0, ds * score), 0)
        moment += tl.sum(tl.where(support & (difference != 0), difference * from_largest, 0.0), 0)
    if temperature_out is not None:
        dT = tl.where(lost, float("nan"), -g * moment / T / T)
        tl.store(temperature_out + slot, tl.where(passes, dT, 0.0))
    if queries is not None:
        of_source = map_strides(source_strides)
        image = image_of(source + b * of_source.b, decode(sizes.source_rows), decode(sizes.source_columns), of_source)
        where, finite = query_points(
            image, Keypoints(keypoints, keypoints_strides, to_cells, source_sizes, None), b, n, active, SAMPLING
        )  # fmt: skip
        C = decode(sizes.C)
        values = queries + (b * decode(sizes.queries_b) + wide_n * C)
        outputs = QueryOutputs(values, query_scale + slot, query_own + slot, C)
        sums = Sums(sum_ds, sum_ds_score, moment)
        fill_query(image, where, finite, sums, active, outputs, eps, SAMPLING, METRIC, BLOCK_C)
