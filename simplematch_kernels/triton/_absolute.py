# mypy: ignore-errors
"""What takes the place of products for the metric "l1": sums of absolute differences, and of their signs.

Blocks of three axes, of which one is short: BLOCK_C of the scores, BLOCK_M of the queries' gradient, BLOCK_N of the
target's (see `_launch`). No tensor core takes part.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_differences(q, f, total):
    """total[n, m] + sum_c |q[n, c] - f[c, m]|."""
    difference = q.to(total.dtype)[:, :, None] - f.to(total.dtype)[None, :, :]
    return total + tl.sum(tl.abs(difference), 1)


@triton.jit
def sign(x, y, ACC: tl.constexpr):
    """That of x - y, 0 where both are equal or one is NaN."""
    return (x > y).to(ACC) - (x < y).to(ACC)


@triton.jit
def add_signs_of_cells(w, f, q, total):
    """total[n, c] + sum_m w[n, m] sign(f[m, c] - q[n, c])."""
    signs = sign(f.to(total.dtype)[None, :, :], q[:, None, :], total.dtype)
    return total + tl.sum(w[:, :, None] * signs, 1)


@triton.jit
def add_signs_of_queries(w, q, f, total, CHANNELS_LAST: tl.constexpr):
    """total[m, c] + sum_n w[n, m] sign(q[n, c] - f[m, c]); all but w have channels first unless CHANNELS_LAST."""
    if CHANNELS_LAST:
        signs = sign(q.to(total.dtype)[:, None, :], f[None, :, :], total.dtype)
        total += tl.sum(w[:, :, None] * signs, 0)
    else:
        signs = sign(q.to(total.dtype)[:, :, None], f[:, None, :], total.dtype)
        total += tl.sum(w[None, :, :] * signs, 1)
    return total
