# mypy: ignore-errors
"""What the kernels share: products, ordering, coordinates, samples of a map, windows.

Names in every kernel: B images, N queries, C channels, H x W = M cells (m = y * W + x), BLOCK_* the tile of a program.
Switches (tl.constexpr) are upper case. Offsets are 64 bit; within one image they are 32 bit where that image allows
it (WIDE is False), because 64-bit address arithmetic on whole tiles costs registers.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

from ._groups import AffineMaps, MapStrides, PointStrides, ScoreStrides
from ._records import Image, Points

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")

# The codes of simplematch.h; DESCRIPTORS: queries are not sampled.
FLOOR = tl.constexpr(0)
ROUND = tl.constexpr(1)
BILINEAR = tl.constexpr(2)
DESCRIPTORS = tl.constexpr(3)

COSINE = tl.constexpr(0)
DOT = tl.constexpr(1)
L2 = tl.constexpr(2)
L1 = tl.constexpr(3)


def names(text: str) -> list[str]:
    """The arguments of a kernel that Triton is not to compile it for: their values don't make its loads wider."""
    return text.split()


@triton.jit
def multiply(a, b, total, PRECISION: tl.constexpr):
    """total + a @ b, where each operand is the features' dtype or that of the total.

    A bfloat16 operand meets a float32 one as two bfloat16 products (high and low half), which keeps 16 bits.
    PRECISION names the float32 product. "sum" takes its place for float64 on chips that have no product of it, and in
    the interpreter, where the rounding of a column depends on its place.
    """
    if PRECISION == "sum":
        wide_a, wide_b = a.to(total.dtype), b.to(total.dtype)
        total += tl.sum(wide_a[:, :, None] * wide_b[None, :, :], 1)
    elif a.dtype == b.dtype:
        total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)
    elif a.dtype == tl.bfloat16:
        high = b.to(tl.bfloat16)
        low = (b - high.to(b.dtype)).to(tl.bfloat16)
        total = tl.dot(a, low, total, out_dtype=total.dtype)
        total = tl.dot(a, high, total, out_dtype=total.dtype)
    elif b.dtype == tl.bfloat16:
        high = a.to(tl.bfloat16)
        low = (a - high.to(a.dtype)).to(tl.bfloat16)
        total = tl.dot(low, b, total, out_dtype=total.dtype)
        total = tl.dot(high, b, total, out_dtype=total.dtype)
    else:
        total = tl.dot(a.to(total.dtype), b.to(total.dtype), total, input_precision=PRECISION, out_dtype=total.dtype)
    return total


@triton.jit
def ordered(x):
    """An integer that sorts like x, with NaN above everything and -0 equal to 0; above the smallest integer."""
    x = tl.where(x == 0, 0.0, x)
    if x.dtype == tl.float64:
        bits = x.to(tl.int64, bitcast=True)
        largest = tl.full((), 0x7FFFFFFFFFFFFFFF, tl.int64)
    else:
        bits = x.to(tl.int32, bitcast=True)
        largest = tl.full((), 0x7FFFFFFF, tl.int32)
    key = tl.where(bits < 0, bits ^ largest, bits)
    return tl.where(x != x, largest, key)


@triton.jit
def least(key):
    """The smallest integer of a key's type: no score has it, it marks that there is none."""
    if key.dtype == tl.int64:
        smallest = tl.full((), -0x8000000000000000, tl.int64)
    else:
        smallest = tl.full((), -0x80000000, tl.int32)
    return smallest


@triton.jit
def square_root(x):
    if x.dtype == tl.float64:
        root = tl.sqrt(x)
    else:
        root = tl.sqrt_rn(x)
    return root


@triton.jit
def denominator(norm, eps, CLAMP_EPS: tl.constexpr):
    """|x| + eps, or max(|x|, eps) with NaN kept; 1 for a zero vector without eps, whose cosine is 0."""
    limit = tl.full((), eps, tl.float64).to(norm.dtype)
    if CLAMP_EPS:
        divisor = tl.where(norm < limit, limit, norm)
    else:
        divisor = norm + limit
    return tl.where(divisor == 0, 1.0, divisor)


@triton.jit
def scale_and_inverse(norm, eps, METRIC: tl.constexpr):
    """The factors of a vector x in the gradient of the score: of the other vector, and of x in its own term.

    cosine: 1 / D(x) and 1 / |x|, the latter 0 where D is constant, x is zero, or 1 / |x| overflows (then eps is much
    larger, or the gradient overflows too). dot, l2 and l1: 1 and 1.
    """
    one = tl.full(norm.shape, 1.0, norm.dtype)
    if METRIC.KIND == COSINE:
        scale = one / denominator(norm, eps, METRIC.CLAMP_EPS)
        varies = ~(norm < 1.1754943508222875e-38)
        if METRIC.CLAMP_EPS:
            varies = varies & ~(norm < tl.full((), eps, tl.float64).to(norm.dtype))
        inverse = tl.where(varies, one / tl.where(varies, norm, one), 0.0)
    else:
        scale, inverse = one, one
    return scale, inverse


@triton.jit
def power_of_two(x):
    """The greatest power of two that is not above x > 0, kept inside the normal numbers; 1 for NaN."""
    if x.dtype == tl.float64:
        x = tl.minimum(tl.maximum(x, 2.2250738585072014e-308), 8.98846567431158e307)
        bits = x.to(tl.int64, bitcast=True) & 0x7FF0000000000000
        power = bits.to(tl.float64, bitcast=True)
    else:
        x = tl.minimum(tl.maximum(x, 1.1754943508222875e-38), 1.7014118346046923e38)
        bits = x.to(tl.int32, bitcast=True) & 0x7F800000
        power = bits.to(tl.float32, bitcast=True)
    return tl.where(x == x, power, 1.0)


@triton.jit
def decode(x):
    """The integer of which x is the `encode`d form."""
    return x >> 2


@triton.jit
def map_strides(encoded):
    return MapStrides(decode(encoded.b), decode(encoded.c), decode(encoded.h), decode(encoded.w))


@triton.jit
def point_strides(encoded):
    return PointStrides(decode(encoded.b), decode(encoded.n), decode(encoded.d))


@triton.jit
def score_strides(encoded):
    return ScoreStrides(decode(encoded.b), decode(encoded.n), decode(encoded.h), encoded.w)


@triton.jit
def quotient(x, divisor):
    """x / divisor in float64, correctly rounded, for a divisor (float64) that is an integer of at most 31 bits.

    Newton steps with fused multiply-adds: two refine a float32 reciprocal to float64, and two refine the quotient. A
    float64 division would call a subroutine.
    """
    if INTERPRETED:  # its fma rounds twice
        result = x / divisor
    else:
        reciprocal = (1.0 / divisor.to(tl.float32)).to(tl.float64)
        reciprocal = tl.fma(tl.fma(-reciprocal, divisor, 1.0), reciprocal, reciprocal)
        reciprocal = tl.fma(tl.fma(-reciprocal, divisor, 1.0), reciprocal, reciprocal)
        result = x * reciprocal
        result = tl.fma(tl.fma(-result, divisor, x), reciprocal, result)
        result = tl.fma(tl.fma(-result, divisor, x), reciprocal, result)
    return result


@triton.jit
def rescale(coordinates, old, new):
    """The encoded numbers of the affine map from an axis of `old` steps to one of `new`, between pixels and cells."""
    corner, half_pixel, moves = coordinates == 0, coordinates == 1, old > 1
    numerator = tl.where(corner, new, tl.where(half_pixel, 2 * new, tl.where(moves, new - 1, 0)))
    shift = tl.where(half_pixel, new - old, 0)
    divisor = tl.where(corner, old, tl.where(half_pixel, 2 * old, tl.where(moves, old - 1, 1)))
    return 4 * numerator + 3, 4 * shift + 3, 4 * divisor + 3


@triton.jit
def maps_to_cells(maps, sizes, b, H, W):
    """The maps from pixels of image b to H x W cells: `maps`, or by its row of sizes (B, 2), height and width."""
    if sizes is not None:
        coordinates = decode(maps.coordinates)
        numerator_y, shift_y, divisor_y = rescale(coordinates, tl.load(sizes + 2 * b), H)
        numerator_x, shift_x, divisor_x = rescale(coordinates, tl.load(sizes + 2 * b + 1), W)
        of_image = AffineMaps(
            numerator_x, shift_x, divisor_x, numerator_y, shift_y, divisor_y, maps.coordinates
        )  # fmt: skip
    else:
        of_image = maps
    return of_image


@triton.jit
def maps_from_cells(maps, sizes, b, H, W):
    """The maps from H x W cells to pixels of image b, as `maps_to_cells`."""
    if sizes is not None:
        coordinates = decode(maps.coordinates)
        numerator_y, shift_y, divisor_y = rescale(coordinates, H, tl.load(sizes + 2 * b))
        numerator_x, shift_x, divisor_x = rescale(coordinates, W, tl.load(sizes + 2 * b + 1))
        of_image = AffineMaps(
            numerator_x, shift_x, divisor_x, numerator_y, shift_y, divisor_y, maps.coordinates
        )  # fmt: skip
    else:
        of_image = maps
    return of_image


@triton.jit
def affine_x(x, maps):
    numerator, shift = decode(maps.numerator_x).to(tl.float64), decode(maps.shift_x).to(tl.float64)
    return quotient(x.to(tl.float64) * numerator + shift, decode(maps.divisor_x).to(tl.float64))


@triton.jit
def affine_y(y, maps):
    numerator, shift = decode(maps.numerator_y).to(tl.float64), decode(maps.shift_y).to(tl.float64)
    return quotient(y.to(tl.float64) * numerator + shift, decode(maps.divisor_y).to(tl.float64))


@triton.jit
def slopes(maps):
    """The derivatives of `affine_x` and `affine_y`."""
    x = quotient(decode(maps.numerator_x).to(tl.float64), decode(maps.divisor_x).to(tl.float64))
    y = quotient(decode(maps.numerator_y).to(tl.float64), decode(maps.divisor_y).to(tl.float64))
    return x, y


@triton.jit
def is_finite(x):
    return tl.abs(x) < float("inf")


@triton.jit
def keypoint_cells(keypoints, strides, n, active, H, W, to_cells, SAMPLING: tl.constexpr):
    """Where queries n of an image sample a map of H x W cells, whole cells unless bilinear, and whether that is finite.

    keypoints: a pointer to those of the image. Rows that are not active sit at (0, 0). A coordinate that is not finite
    reads cell 0.
    """
    pointer = keypoints + n.to(tl.int64) * strides.n
    x = affine_x(tl.load(pointer, mask=active, other=0.0), to_cells)  # (n,)
    y = affine_y(tl.load(pointer + strides.d, mask=active, other=0.0), to_cells)  # (n,)
    finite = is_finite(x) & is_finite(y)
    x, y = tl.where(finite, x, 0.0), tl.where(finite, y, 0.0)
    if SAMPLING.MODE == BILINEAR:
        if SAMPLING.BORDER:
            x, y = clamp(x, W), clamp(y, H)
    else:
        x, y = clamp(nearest(x, SAMPLING), W), clamp(nearest(y, SAMPLING), H)
    return Points(x, y, n, active), finite


@triton.jit
def clamp(x, cells):
    return tl.minimum(tl.maximum(x, 0.0), cells - 1)


@triton.jit
def nearest(x, SAMPLING: tl.constexpr):
    """The cell of coordinate x. Truncation equals floor here: they differ only below 0, where the map ends."""
    cell = tl.floor(x)
    if SAMPLING.MODE == ROUND:
        cell = rounded(x)
    return cell


@triton.jit
def rounded(x):
    """x to the nearest integer, halves to the even one."""
    below = tl.floor(x)
    rest = x - below
    odd = below - 2 * tl.floor(below * 0.5)
    return below + tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1)), 1.0, 0.0)


@triton.jit
def bilinear_corner(x, y, H, W, i: tl.constexpr, j: tl.constexpr):
    """One of the four cells around (x, y): column, row, the weights along x and y, and whether the map has it."""
    column, row = tl.floor(x) + i, tl.floor(y) + j
    inside = (column >= 0) & (column < W) & (row >= 0) & (row < H)
    weight_x, weight_y = 1 - tl.abs(x - column), 1 - tl.abs(y - row)
    return tl.where(inside, column, 0.0), tl.where(inside, row, 0.0), weight_x, weight_y, inside


@triton.jit
def image_of(pointer, H, W, strides):
    """The map (C, H, W) of one image, with the strides of its (B, C, H, W) tensor."""
    return Image(pointer, H, W, strides.b, strides.c, strides.h, strides.w)


@triton.jit
def cell_offset(x, y, strides):
    return y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w


@triton.jit
def read_queries(image, points, c, C, SAMPLING: tl.constexpr, NATIVE: tl.constexpr, ACC: tl.constexpr):
    """Descriptors (BLOCK_N, BLOCK_C) of the points in channels c; zeros where not active.

    In the dtype of the source if NATIVE, else in ACC.
    """
    channel = c.to(tl.int64)[None, :] * image.c
    in_channels = c < C
    if SAMPLING.MODE == BILINEAR:
        tile = tl.zeros((points.n.shape[0], c.shape[0]), ACC)
        for i in tl.static_range(2):
            for j in tl.static_range(2):
                column, row, weight_x, weight_y, inside = bilinear_corner(points.x, points.y, image.H, image.W, i, j)
                weight = tl.where(inside, weight_x * weight_y, 0.0).to(ACC)
                pointer = image.pointer + (cell_offset(column, row, image)[:, None] + channel)
                mask = ((weight != 0) & points.active)[:, None] & in_channels[None, :]
                tile += weight[:, None] * tl.load(pointer, mask=mask, other=0.0).to(ACC)  # (BLOCK_N, BLOCK_C)
    else:
        if SAMPLING.MODE == DESCRIPTORS:
            offset = points.n.to(tl.int64) * image.w
        else:
            offset = cell_offset(points.x, points.y, image)
        mask = points.active[:, None] & in_channels[None, :]
        tile = tl.load(image.pointer + (offset[:, None] + channel), mask=mask, other=0.0)  # (BLOCK_N, BLOCK_C)
        if not NATIVE:
            tile = tile.to(ACC)
    return tile


@triton.jit
def cell_offsets(m, W, strides, WALK: tl.constexpr):
    """Offsets of cells m in one image.

    FLAT: the rows of the map follow each other, so the stride of columns leads from any cell to the next.
    """
    OFFSET: tl.constexpr = tl.int64 if WALK.WIDE else tl.int32
    cell = m.to(OFFSET)
    if WALK.FLAT:
        cell = cell * strides.w
    else:
        cell = (cell // W) * strides.h + (cell % W) * strides.w
    return cell


@triton.jit
def channel_offsets(c, strides, WALK: tl.constexpr):
    OFFSET: tl.constexpr = tl.int64 if WALK.WIDE else tl.int32
    return c.to(OFFSET) * strides.c


@triton.jit
def map_offsets(m, c, W, strides, WALK: tl.constexpr):
    """Offsets of cells m and channels c in one image: (m, c) if CHANNELS_LAST, else (c, m)."""
    cell, channel = cell_offsets(m, W, strides, WALK), channel_offsets(c, strides, WALK)
    return cell[:, None] + channel[None, :] if WALK.CHANNELS_LAST else cell[None, :] + channel[:, None]


@triton.jit
def when(condition, mask):
    """mask & condition, for a scalar condition (the interpreter's `&` of a block and a scalar is no mask)."""
    return tl.where(mask, condition, False)


@triton.jit
def by_cell(x, WALK: tl.constexpr):
    """A number per cell, broadcast over the channels of a tile in the layout of `map_offsets`."""
    return x[:, None] if WALK.CHANNELS_LAST else x[None, :]


@triton.jit
def by_channel(x, WALK: tl.constexpr):
    """A number per channel, broadcast over the cells."""
    return x[None, :] if WALK.CHANNELS_LAST else x[:, None]


@triton.jit
def is_valid(num_keypoints, valid, b, n, first_query, N, valid_b):
    """Whether rows n of image b are no padding."""
    active = n < N
    if num_keypoints is not None:
        active = active & (n + first_query < tl.load(num_keypoints + b))
    if valid is not None:
        active = active & (tl.load(valid + b * valid_b + n, mask=active, other=0) != 0)
    return active
