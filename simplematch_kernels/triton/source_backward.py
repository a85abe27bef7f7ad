# mypy: ignore-errors
"""`source_backward`: every cell of the source gathers from the keypoints that read it."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    BILINEAR,
    affine_x,
    affine_y,
    bilinear_corner,
    by_cell,
    by_channel,
    cell_offset,
    clamp,
    decode,
    image_of,
    is_finite,
    keypoint_cells,
    map_offsets,
    map_strides,
    maps_to_cells,
    names,
    point_strides,
    slopes,
    when,
)
from ._records import Keypoints, Parts


@triton.jit
def summed_row(dq, b, n, c, C, ACC: tl.constexpr):
    """dq_n of channels c: the sum of its partial sums."""
    total = tl.zeros(c.shape, ACC)
    pointer = dq.pointer + b * dq.b + n.to(tl.int64) * dq.n + c.to(tl.int64) * dq.c
    for _ in range(dq.splits):
        total += tl.load(pointer, mask=c < C, other=0.0).to(ACC)  # (BLOCK_C,)
        pointer += dq.s
    return total


@triton.jit
def fill_cells(
    program, dq, keypoints, out, N, C, SAMPLING: tl.constexpr, WALK: tl.constexpr,
    BLOCK_N: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One tile of dFs_m = sum_n weight[n, m] dq_n, zeros included. TILE: (BLOCK_M, BLOCK_C)."""
    ACC: tl.constexpr = tl.float64 if out.pointer.dtype.element_ty == tl.float64 else tl.float32
    BLOCK_M: tl.constexpr = TILE[0]
    BLOCK_C: tl.constexpr = TILE[1]
    H, W = out.H, out.W
    channel_tiles, cell_tiles = tl.cdiv(C, BLOCK_C), tl.cdiv(H * W, BLOCK_M)
    i_c, i_m = program % channel_tiles, (program // channel_tiles) % cell_tiles
    b = (program // channel_tiles // cell_tiles).to(tl.int64)
    m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    y = m // W
    x = m - y * W
    first, last = i_m * BLOCK_M, i_m * BLOCK_M + BLOCK_M
    if WALK.CHANNELS_LAST:
        total = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    else:
        total = tl.zeros((BLOCK_C, BLOCK_M), ACC)
    to_cells = maps_to_cells(keypoints.to_cells, keypoints.sizes, b, H, W)
    for n0 in range(0, N, BLOCK_N):
        n = n0 + tl.arange(0, BLOCK_N)
        active = n < N
        if keypoints.peak is not None:
            active = active & (tl.load(keypoints.peak + (b * N + n), mask=active, other=-1) >= 0)  # (BLOCK_N,)
        pointer = keypoints.pointer + b * keypoints.strides.b
        points, finite = keypoint_cells(
            pointer, keypoints.strides, n, active, H, W, to_cells, SAMPLING
        )  # fmt: skip
        # The first cell that a keypoint reads; bilinear, the last is a row and a column further.
        first_cell = tl.floor(points.y).to(tl.int32) * W + tl.floor(points.x).to(tl.int32)
        reach = W + 1 if SAMPLING.MODE == BILINEAR else 0
        meets = active & finite & (first_cell + reach >= first) & (first_cell < last)
        last_added = n0 - 1
        for _ in range(tl.sum(meets.to(tl.int32), 0)):
            one = tl.min(tl.where(meets & (n > last_added), n, N), 0)
            last_added = one
            here = n == one
            if SAMPLING.MODE == BILINEAR:
                one_x = tl.sum(tl.where(here, points.x, 0.0), 0)
                one_y = tl.sum(tl.where(here, points.y, 0.0), 0)
                weight_x, weight_y = 1 - tl.abs(x - one_x), 1 - tl.abs(y - one_y)
                weight = tl.where((weight_x > 0) & (weight_y > 0), weight_x * weight_y, 0.0).to(ACC)
            else:
                weight = (m == tl.sum(tl.where(here, first_cell, 0), 0)).to(ACC)
            row = summed_row(dq, b, one, c, C, ACC)
            weight, row = by_cell(weight, WALK), by_channel(row, WALK)
            total += tl.where(weight != 0, weight * row, 0.0)
    offset = map_offsets(m, c, W, out, WALK)
    mask = by_cell(m < H * W, WALK) & by_channel(c < C, WALK)
    tl.store(out.pointer + b * out.b + offset, total.to(out.pointer.dtype.element_ty), mask=mask)


@triton.jit
def fill_keypoint(
    row, dq, keypoints, source, out, out_strides, N, C, SAMPLING: tl.constexpr, BLOCK_ROW: tl.constexpr
):  # fmt: skip
    """dp_n = sum_c dq_n[c] * d q_n[c] / d p_n, through the weights of the four cells."""
    ACC: tl.constexpr = tl.float64 if source.pointer.dtype.element_ty == tl.float64 else tl.float32
    H, W = source.H, source.W
    b = (row // N).to(tl.int64)
    n = row % N
    active = n >= 0
    if keypoints.peak is not None:
        active = tl.load(keypoints.peak + row) >= 0
    pointer = keypoints.pointer + b * keypoints.strides.b + n.to(tl.int64) * keypoints.strides.n
    to_cells = maps_to_cells(keypoints.to_cells, keypoints.sizes, b, H, W)
    raw_x = affine_x(tl.load(pointer, mask=active, other=0.0), to_cells)
    raw_y = affine_y(tl.load(pointer + keypoints.strides.d, mask=active, other=0.0), to_cells)
    x, y, free_x, free_y = raw_x, raw_y, active, active
    if SAMPLING.BORDER:  # a clamped coordinate does not move
        x, y = clamp(raw_x, W), clamp(raw_y, H)
        free_x, free_y = x == raw_x, y == raw_y
    sum_x = tl.zeros((BLOCK_ROW,), tl.float64)
    sum_y = tl.zeros((BLOCK_ROW,), tl.float64)
    for c0 in range(0, C, BLOCK_ROW):
        c = c0 + tl.arange(0, BLOCK_ROW)
        one = summed_row(dq, b, n, c, C, ACC)
        for i in tl.static_range(2):
            for j in tl.static_range(2):
                column, line, weight_x, weight_y, inside = bilinear_corner(x, y, H, W, i, j)
                offset = cell_offset(column, line, source) + c.to(tl.int64) * source.c
                cell = source.pointer + b * source.b + offset
                f = tl.load(cell, mask=when(inside & active, c < C), other=0.0).to(ACC)  # (BLOCK_ROW,)
                moment = tl.where(when(inside, one != 0), one.to(tl.float64) * f.to(tl.float64), 0.0)
                sum_x += tl.where(weight_y != 0, (2 * i - 1) * weight_y * moment, 0.0)
                sum_y += tl.where(weight_x != 0, (2 * j - 1) * weight_x * moment, 0.0)
    slope_x, slope_y = slopes(to_cells)
    dx = tl.where(free_x, tl.sum(sum_x, 0) * slope_x, 0.0)
    dy = tl.where(free_y, tl.sum(sum_y, 0) * slope_y, 0.0)
    finite = is_finite(raw_x) & is_finite(raw_y)
    dx, dy = tl.where(finite, dx, 0.0), tl.where(finite, dy, 0.0)
    pointer = out + b * out_strides.b + n.to(tl.int64) * out_strides.n
    tl.store(pointer, tl.where(active, dx, 0.0).to(out.dtype.element_ty))
    tl.store(pointer + out_strides.d, tl.where(active, dy, 0.0).to(out.dtype.element_ty))


@triton.jit(do_not_specialize=names("peak keypoints source keypoints_out source_sizes"))
def source_backward_kernel(
    gradient, peak, keypoints, source, source_out, keypoints_out, source_sizes,
    C, W, sizes, gradient_strides, keypoints_strides, source_strides, out_strides, keypoints_out_strides, to_cells,
    SAMPLING: tl.constexpr, WALK: tl.constexpr,
    BLOCK_N: tl.constexpr, TILE: tl.constexpr, BLOCK_ROW: tl.constexpr,
):  # fmt: skip
    """dFs_m = sum_n weight[n, m] dq_n;    dp_n = sum_c dq_n[c] * d q_n[c] / d p_n (bilinear)

    gradient (splits, B, N, C), any strides: dq as partial sums. peak (B, N) contiguous: below 0 is padding; or None.
    source, source_out (B, C, H, W), any strides: all of the latter is written. keypoints_out (B, N, 2), or None.

    The first `source_programs` programs = BLOCK_M cells x BLOCK_C channels of one image, the others one keypoint each.
    A keypoint's row is added only to the tiles that it falls in, in the order of the queries: bitwise repeatable, and a
    NaN stays in its own cells. Bytes: dFs written, 4 N C read. Floor at the paper's shape: 97.5 MB float32, 23 us at
    4.3 TB/s, half in bfloat16.
    """
    N, H = decode(sizes.N), decode(sizes.H)
    source_programs = decode(sizes.source_programs)
    of_dq = gradient_strides
    dq = Parts(gradient, decode(sizes.splits), of_dq.s, of_dq.b, of_dq.n, of_dq.c)
    points = Keypoints(keypoints, point_strides(keypoints_strides), to_cells, source_sizes, peak)
    program = tl.program_id(0)
    if program < source_programs:
        out = image_of(source_out, H, W, out_strides)
        fill_cells(program, dq, points, out, N, C, SAMPLING, WALK, BLOCK_N, TILE)
    elif keypoints_out is not None:
        image = image_of(source, H, W, map_strides(source_strides))
        of_out = point_strides(keypoints_out_strides)
        row = program - source_programs
        fill_keypoint(row, dq, points, image, keypoints_out, of_out, N, C, SAMPLING, BLOCK_ROW)
