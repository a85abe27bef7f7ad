# mypy: ignore-errors
"""`source_backward`: every cell of the source gathers from the keypoints that read it."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    BILINEAR,
    affine,
    bilinear_corner,
    by_cell,
    by_channel,
    cell_offset,
    is_finite,
    keypoint_cells,
    map_offsets,
    names,
    when,
)


@triton.jit
def summed_row(gradient, b, n, c, C, splits, gradient_s, gradient_b, gradient_n, gradient_c, ACC: tl.constexpr):
    """dq_n of channels c: the sum of its partial sums."""
    total = tl.zeros(c.shape, ACC)
    pointer = gradient + b * gradient_b + n.to(tl.int64) * gradient_n + c.to(tl.int64) * gradient_c
    for _ in range(splits):
        total += tl.load(pointer, mask=c < C, other=0.0).to(ACC)
        pointer += gradient_s
    return total


@triton.jit
def fill_cells(
    program,
    gradient, peak, keypoints, source_out, N, C, H, W, splits, gradient_s, gradient_b, gradient_n, gradient_c,
    keypoints_b, keypoints_n, keypoints_d, out_b, out_c, out_h, out_w,
    numerator_x, shift_x, divisor_x, reciprocal_x, numerator_y, shift_y, divisor_y, reciprocal_y,
    SAMPLING: tl.constexpr, BORDER: tl.constexpr, ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One tile of dFs_m = sum_n weight[n, m] dq_n, zeros included."""
    channel_tiles, cell_tiles = tl.cdiv(C, BLOCK_C), tl.cdiv(H * W, BLOCK_M)
    i_c, i_m = program % channel_tiles, (program // channel_tiles) % cell_tiles
    b = (program // channel_tiles // cell_tiles).to(tl.int64)
    m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    y = m // W
    x = m - y * W
    first, last = i_m * BLOCK_M, i_m * BLOCK_M + BLOCK_M
    if CHANNELS_LAST:
        total = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    else:
        total = tl.zeros((BLOCK_C, BLOCK_M), ACC)
    for n0 in range(0, N, BLOCK_N):
        n = n0 + tl.arange(0, BLOCK_N)
        active = n < N
        if peak is not None:
            active = active & (tl.load(peak + (b * N + n), mask=active, other=-1) >= 0)
        point_x, point_y, finite = keypoint_cells(
            keypoints + b * keypoints_b, keypoints_n, keypoints_d, n, active, H, W,
            numerator_x, shift_x, divisor_x, reciprocal_x,
            numerator_y, shift_y, divisor_y, reciprocal_y, SAMPLING, BORDER,
        )  # fmt: skip
        # The first cell that a keypoint reads; bilinear, the last is a row and a column further.
        point = tl.floor(point_y).to(tl.int32) * W + tl.floor(point_x).to(tl.int32)
        reach = W + 1 if SAMPLING == BILINEAR else 0
        meets = active & finite & (point + reach >= first) & (point < last)
        previous = n0 - 1
        for _ in range(tl.sum(meets.to(tl.int32), 0)):
            one = tl.min(tl.where(meets & (n > previous), n, N), 0)
            previous = one
            here = n == one
            if SAMPLING == BILINEAR:
                one_x = tl.sum(tl.where(here, point_x, 0.0), 0)
                one_y = tl.sum(tl.where(here, point_y, 0.0), 0)
                weight_x, weight_y = 1 - tl.abs(x - one_x), 1 - tl.abs(y - one_y)
                weight = tl.where((weight_x > 0) & (weight_y > 0), weight_x * weight_y, 0.0).to(ACC)
            else:
                weight = (m == tl.sum(tl.where(here, point, 0), 0)).to(ACC)
            row = summed_row(gradient, b, one, c, C, splits, gradient_s, gradient_b, gradient_n, gradient_c, ACC)
            weight, row = by_cell(weight, CHANNELS_LAST), by_channel(row, CHANNELS_LAST)
            total += tl.where(weight != 0, weight * row, 0.0)
    offset = map_offsets(m, c, W, out_c, out_h, out_w, CHANNELS_LAST, FLAT, WIDE)
    mask = by_cell(m < H * W, CHANNELS_LAST) & by_channel(c < C, CHANNELS_LAST)
    tl.store(source_out + b * out_b + offset, total.to(source_out.dtype.element_ty), mask=mask)


@triton.jit
def fill_keypoint(
    row,
    gradient, peak, keypoints, source, keypoints_out, N, C, H, W, splits,
    gradient_s, gradient_b, gradient_n, gradient_c,
    keypoints_b, keypoints_n, keypoints_d, source_b, source_c, source_h, source_w,
    keypoints_out_b, keypoints_out_n, keypoints_out_d,
    numerator_x, shift_x, divisor_x, reciprocal_x, numerator_y, shift_y, divisor_y, reciprocal_y,
    BORDER: tl.constexpr, ACC: tl.constexpr, BLOCK_ROW: tl.constexpr,
):  # fmt: skip
    """dp_n = sum_c dq_n[c] * d q_n[c] / d p_n, through the weights of the four cells."""
    b = (row // N).to(tl.int64)
    n = row % N
    active = n >= 0
    if peak is not None:
        active = tl.load(peak + row) >= 0
    pointer = keypoints + b * keypoints_b + n.to(tl.int64) * keypoints_n
    raw_x = affine(tl.load(pointer, mask=active, other=0.0), numerator_x, shift_x, divisor_x, reciprocal_x)
    raw_y = affine(
        tl.load(pointer + keypoints_d, mask=active, other=0.0), numerator_y, shift_y, divisor_y, reciprocal_y
    )
    x, y, free_x, free_y = raw_x, raw_y, active, active
    if BORDER:  # a clamped coordinate does not move
        x, y = tl.minimum(tl.maximum(raw_x, 0.0), W - 1), tl.minimum(tl.maximum(raw_y, 0.0), H - 1)
        free_x, free_y = x == raw_x, y == raw_y
    sum_x = tl.zeros((BLOCK_ROW,), tl.float64)
    sum_y = tl.zeros((BLOCK_ROW,), tl.float64)
    for c0 in range(0, C, BLOCK_ROW):
        c = c0 + tl.arange(0, BLOCK_ROW)
        dq = summed_row(gradient, b, n, c, C, splits, gradient_s, gradient_b, gradient_n, gradient_c, ACC)
        for i in tl.static_range(2):
            for j in tl.static_range(2):
                column, line, weight_x, weight_y, inside = bilinear_corner(x, y, H, W, i, j)
                offset = cell_offset(column, line, source_h, source_w) + c.to(tl.int64) * source_c
                f = tl.load(source + b * source_b + offset, mask=when(inside & active, c < C), other=0.0).to(ACC)
                moment = tl.where(when(inside, dq != 0), dq.to(tl.float64) * f.to(tl.float64), 0.0)
                sum_x += tl.where(weight_y != 0, (2 * i - 1) * weight_y * moment, 0.0)
                sum_y += tl.where(weight_x != 0, (2 * j - 1) * weight_x * moment, 0.0)
    dx = tl.where(free_x, tl.sum(sum_x, 0) * numerator_x * reciprocal_x, 0.0)
    dy = tl.where(free_y, tl.sum(sum_y, 0) * numerator_y * reciprocal_y, 0.0)
    finite = is_finite(raw_x) & is_finite(raw_y)
    dx, dy = tl.where(finite, dx, 0.0), tl.where(finite, dy, 0.0)
    pointer = keypoints_out + b * keypoints_out_b + n.to(tl.int64) * keypoints_out_n
    tl.store(pointer, tl.where(active, dx, 0.0).to(keypoints_out.dtype.element_ty))
    tl.store(pointer + keypoints_out_d, tl.where(active, dy, 0.0).to(keypoints_out.dtype.element_ty))


@triton.jit(
    do_not_specialize=names(
        "peak keypoints source keypoints_out N H splits source_programs keypoints_b keypoints_n keypoints_d "
        "source_b source_c source_h source_w keypoints_out_b keypoints_out_n keypoints_out_d"
    )
)
def source_backward_kernel(
    gradient, peak, keypoints, source, source_out, keypoints_out,
    N, C, H, W, splits, source_programs,
    gradient_s, gradient_b, gradient_n, gradient_c, keypoints_b, keypoints_n, keypoints_d,
    source_b, source_c, source_h, source_w, out_b, out_c, out_h, out_w,
    keypoints_out_b, keypoints_out_n, keypoints_out_d,
    numerator_x: tl.float64, shift_x: tl.float64, divisor_x: tl.float64, reciprocal_x: tl.float64,
    numerator_y: tl.float64, shift_y: tl.float64, divisor_y: tl.float64, reciprocal_y: tl.float64,
    SAMPLING: tl.constexpr, BORDER: tl.constexpr, ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_ROW: tl.constexpr,
):  # fmt: skip
    """dFs_m = sum_n weight[n, m] dq_n;    dp_n = sum_c dq_n[c] * d q_n[c] / d p_n (bilinear)

    gradient (splits, B, N, C), any strides: dq as partial sums. peak (B, N) contiguous: below 0 is padding; or None.
    source, source_out (B, C, H, W), any strides: all of the latter is written. keypoints_out (B, N, 2), or None.

    The first `source_programs` programs = BLOCK_M cells x BLOCK_C channels of one image, the others one keypoint each.
    A keypoint's row is added only to the tiles that it falls in, in the order of the queries: bitwise repeatable, and a
    NaN stays in its own cells. Bytes: dFs written, 4 N C read. Floor at the paper's shape: 97.5 MB float32, 23 us at
    4.3 TB/s, half in bfloat16.
    """
    program = tl.program_id(0)
    if program < source_programs:
        fill_cells(
            program,
            gradient, peak, keypoints, source_out, N, C, H, W, splits, gradient_s, gradient_b, gradient_n, gradient_c,
            keypoints_b, keypoints_n, keypoints_d, out_b, out_c, out_h, out_w,
            numerator_x, shift_x, divisor_x, reciprocal_x, numerator_y, shift_y, divisor_y, reciprocal_y,
            SAMPLING, BORDER, ACC, CHANNELS_LAST, FLAT, WIDE, BLOCK_N, BLOCK_M, BLOCK_C,
        )  # fmt: skip
    elif keypoints_out is not None:
        fill_keypoint(
            program - source_programs,
            gradient, peak, keypoints, source, keypoints_out, N, C, H, W, splits,
            gradient_s, gradient_b, gradient_n, gradient_c,
            keypoints_b, keypoints_n, keypoints_d, source_b, source_c, source_h, source_w,
            keypoints_out_b, keypoints_out_n, keypoints_out_d,
            numerator_x, shift_x, divisor_x, reciprocal_x, numerator_y, shift_y, divisor_y, reciprocal_y,
            BORDER, ACC, BLOCK_ROW,
        )  # fmt: skip
