# mypy: ignore-errors
"""Norms of the cells of a map."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import names, power_of_two, square_root
from .match_all import read_cells


@triton.jit(do_not_specialize=names("cells"))
def norms_kernel(
    x, norm, cells, C, W, strides, WALK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """norm[b, m] = |x_m|, from squares of numbers up to 2: they neither overflow nor vanish.

    x (B, C, H, W), any strides; norm (B, M). Program = BLOCK_M cells. Bytes: x, twice, the second time out of L2.
    """
    ACC: tl.constexpr = norm.dtype.element_ty
    tiles = tl.cdiv(cells, BLOCK_M)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    m = tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    in_set = m < cells
    x += b * strides.b
    largest = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    for c0 in range(0, C, BLOCK_C):
        f = read_cells(x, m, c0 + tl.arange(0, BLOCK_C), in_set, C, W, strides, WALK).to(ACC)
        largest = tl.maximum(largest, tl.abs(f))
    shrink = power_of_two(1 / tl.max(largest, 1))
    squares = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    for c0 in range(0, C, BLOCK_C):
        f = read_cells(x, m, c0 + tl.arange(0, BLOCK_C), in_set, C, W, strides, WALK).to(ACC) * shrink[:, None]
        squares += f * f
    tl.store(norm + b * cells + m, square_root(tl.sum(squares, 1)) / shrink, mask=in_set)
