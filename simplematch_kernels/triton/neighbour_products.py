# mypy: ignore-errors
"""`neighbour_products`: inner products of every cell with itself and its neighbours, and its backward."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, names


@triton.jit
def read_cells(features, y, x, c, inside, C, strides):
    """features[c, y, x] as (BLOCK_C, BLOCK_M); 0 where not inside."""
    offset = y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w
    pointer = features + c.to(tl.int64)[:, None] * strides.c + offset[None, :]
    return tl.load(pointer, mask=(c < C)[:, None] & inside[None, :], other=0.0)


@triton.jit(do_not_specialize=names("products"))
def neighbour_products_kernel(
    features, products, C, sizes, features_strides, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """products[k, m] = <f at m + first offset, f at m + second offset>: itself, right, below, diagonal, antidiagonal.

    features (B, C, H, W), any strides; products (B, 5, H, W) float64, contiguous, summed in float64.
    Program = BLOCK_M cells of one image. Bytes: B C M read, each about twice from the cache; 40 B M written.
    """
    H, W = decode(sizes.H), decode(sizes.W)
    tiles = tl.cdiv(H * W, BLOCK_M)
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    m = program % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    y = m // W
    x = m - y * W
    here = m < H * W
    right, below = here & (x + 1 < W), here & (y + 1 < H)
    diagonal = right & below
    features += b * features_strides.b
    own = tl.zeros((BLOCK_C, BLOCK_M), tl.float64)
    with_right, with_below, with_diagonal, across = own, own, own, own
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        f = read_cells(features, y, x, c, here, C, features_strides).to(tl.float64)
        f_right = read_cells(features, y, x + 1, c, right, C, features_strides).to(tl.float64)
        f_below = read_cells(features, y + 1, x, c, below, C, features_strides).to(tl.float64)
        f_diagonal = read_cells(features, y + 1, x + 1, c, diagonal, C, features_strides).to(tl.float64)
        own += f * f
        with_right += f * f_right
        with_below += f * f_below
        with_diagonal += f * f_diagonal
        across += f_right * f_below
    cells = (H * W).to(tl.int64)
    out = products + b * 5 * cells + m
    tl.store(out, tl.sum(own, 0), mask=here)
    tl.store(out + cells, tl.where(right, tl.sum(with_right, 0), 0.0), mask=here)
    tl.store(out + 2 * cells, tl.where(below, tl.sum(with_below, 0), 0.0), mask=here)
    tl.store(out + 3 * cells, tl.where(diagonal, tl.sum(with_diagonal, 0), 0.0), mask=here)
    tl.store(out + 4 * cells, tl.where(diagonal, tl.sum(across, 0), 0.0), mask=here)


@triton.jit
def add_neighbour(total, gradient, features, y, x, c, inside, C, strides):
    """total + g f of a neighbour; where g is 0, f may be anything."""
    g = tl.load(gradient, mask=inside, other=0.0).to(total.dtype)
    f = read_cells(features, y, x, c, inside & (g != 0), C, strides).to(total.dtype)
    return total + g[None, :] * f


@triton.jit(do_not_specialize=names("upstream"))
def neighbour_products_backward_kernel(
    features, upstream, gradient, C, sizes, features_strides, gradient_strides,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """df = 2 g0 f + g1 right + g1' left + g2 below + g2' above + g3 below right + g3' above left + g4 ... g4' ...

    g' is the gradient of the neighbour's product. upstream (B, 5, H, W) float64, contiguous; gradient as features.
    Program = BLOCK_M cells x BLOCK_C channels of one image. Bytes: B C M read, nine times from the cache, and written.
    """
    ACC: tl.constexpr = tl.float64 if features.dtype.element_ty == tl.float64 else tl.float32
    H, W = decode(sizes.H), decode(sizes.W)
    tiles, parts = tl.cdiv(H * W, BLOCK_M), tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    c = program % parts * BLOCK_C + tl.arange(0, BLOCK_C)
    b = (program // parts // tiles).to(tl.int64)
    m = program // parts % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    y = m // W
    x = m - y * W
    here = m < H * W
    left, right = here & (x > 0), here & (x + 1 < W)
    above, below = here & (y > 0), here & (y + 1 < H)
    features += b * features_strides.b
    cells = (H * W).to(tl.int64)
    g0 = upstream + b * 5 * cells + m
    g1, g2, g3, g4 = g0 + cells, g0 + 2 * cells, g0 + 3 * cells, g0 + 4 * cells
    s = features_strides
    total = tl.zeros((BLOCK_C, BLOCK_M), ACC)
    total = 2 * add_neighbour(total, g0, features, y, x, c, here, C, s)
    total = add_neighbour(total, g1, features, y, x + 1, c, right, C, s)
    total = add_neighbour(total, g1 - 1, features, y, x - 1, c, left, C, s)
    total = add_neighbour(total, g2, features, y + 1, x, c, below, C, s)
    total = add_neighbour(total, g2 - W, features, y - 1, x, c, above, C, s)
    total = add_neighbour(total, g3, features, y + 1, x + 1, c, below & right, C, s)
    total = add_neighbour(total, g3 - W - 1, features, y - 1, x - 1, c, above & left, C, s)
    total = add_neighbour(total, g4 - 1, features, y + 1, x - 1, c, below & left, C, s)
    total = add_neighbour(total, g4 - W, features, y - 1, x + 1, c, above & right, C, s)
    offset = y.to(tl.int64) * gradient_strides.h + x.to(tl.int64) * gradient_strides.w
    pointer = gradient + b * gradient_strides.b + c.to(tl.int64)[:, None] * gradient_strides.c + offset[None, :]
    tl.store(pointer, total.to(gradient.dtype.element_ty), mask=(c < C)[:, None] & here[None, :])
