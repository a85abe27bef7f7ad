# mypy: ignore-errors
"""From scores of coarse cells to those of fine ones, and the transpose of that: the kernels around `localize`.

A fine cell j of an axis of F fine and f coarse cells lies at t_j / 2F, t_j = clamp((2 j + 1) f - F, 0, (f - 1) 2F); the
weight of coarse cell i is max(0, 1 - |t_j / 2F - i|). Positions are integers, so that every backend has the same cells.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import COSINE, L2, decode, denominator, names, score_strides, square_root


@triton.jit
def position(j, cells, fine):
    """t_j; 2F is its unit."""
    wide = cells.to(tl.int64)
    t = (2 * j + 1).to(tl.int64) * wide - fine
    return tl.minimum(tl.maximum(t, 0), (wide - 1) * 2 * fine)


@triton.jit
def lower_cell(j, cells, fine, ACC: tl.constexpr):
    """The cell below fine cell j, and the weight of the one after."""
    t = position(j, cells, fine)
    unit = 2 * fine.to(tl.int64)
    low = t // unit
    rest = (t - low * unit).to(ACC)
    return low.to(tl.int32), rest / unit.to(ACC)


@triton.jit
def weight_of(t, i, fine, ACC: tl.constexpr):
    """The weight of coarse cell i at position t."""
    unit = 2 * fine.to(tl.int64)
    return tl.maximum(unit - tl.abs(t - i.to(tl.int64) * unit), 0).to(ACC) / unit.to(ACC)


@triton.jit
def fine_range(i, cells, fine):
    """[first, last): the fine cells that coarse cell i has a part in, a few more at most."""
    wide, unit = cells.to(tl.int64), 2 * fine.to(tl.int64)
    first = ((i.to(tl.int64) - 1) * unit + fine - wide) // (2 * wide)
    last = ((i.to(tl.int64) + 1) * unit + fine - wide) // (2 * wide) + 2
    first = tl.where(i <= 1, 0, tl.maximum(first, 0))
    last = tl.where(i >= cells - 2, fine, tl.minimum(tl.maximum(last, 0), fine))
    return first.to(tl.int32), last.to(tl.int32)


@triton.jit
def times(weight, value):
    return tl.where(weight == 0, 0.0, weight * value)


@triton.jit
def square_norm(products, y, x, w_y, w_x, w, cells, mask):
    """|F|^2 of fine cells, and sum_i w_i |f_i|^2, from the products of the image; float64."""
    v_y, v_x = 1 - w_y, 1 - w_x
    corner = products + y * w + x
    right, below = mask & (w_x != 0), mask & (w_y != 0)
    diagonal = right & below
    p00 = tl.load(corner, mask=mask, other=0.0)
    p01 = tl.load(corner + 1, mask=right, other=0.0)
    p10 = tl.load(corner + w, mask=below, other=0.0)
    p11 = tl.load(corner + w + 1, mask=diagonal, other=0.0)
    top = tl.load(corner + cells, mask=right, other=0.0)
    bottom = tl.load(corner + cells + w, mask=diagonal, other=0.0)
    left = tl.load(corner + 2 * cells, mask=below, other=0.0)
    side = tl.load(corner + 2 * cells + 1, mask=diagonal, other=0.0)
    across = tl.load(corner + 3 * cells, mask=diagonal, other=0.0)
    across += tl.load(corner + 4 * cells, mask=diagonal, other=0.0)
    squares = v_y * v_y * (v_x * v_x * p00 + w_x * w_x * p01) + w_y * w_y * (v_x * v_x * p10 + w_x * w_x * p11)
    mixed = v_x * w_x * (v_y * v_y * top + w_y * w_y * bottom) + v_y * w_y * (v_x * v_x * left + w_x * w_x * side)
    square = squares + 2 * (mixed + v_y * w_y * v_x * w_x * across)
    mean = v_y * (v_x * p00 + w_x * p01) + w_y * (v_x * p10 + w_x * p11)
    return tl.where(square < 0, 0.0, square), mean


@triton.jit(do_not_specialize=names("products sums out"))
def upsampled_terms_kernel(
    products, sums, out, sizes, eps: tl.float64, METRIC: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """What fine scores are multiplied by, 1 / D(F) (cosine), or what is added, sum_i w_i |f_i|^2 - |F|^2 (l2).

    With sums (B, H, W) over queries of ds s (cosine) or ds (l2), the gradient dL/d|F|^2 instead.
    products (B, 5, h, w) float64, out (B, H, W), contiguous. Program = BLOCK fine cells. Bytes: 4 B H W written.
    """
    h, w, H, W = decode(sizes.coarse_height), decode(sizes.coarse_width), decode(sizes.H), decode(sizes.W)
    tiles = tl.cdiv(H * W, BLOCK)
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    m = program % tiles * BLOCK + tl.arange(0, BLOCK)
    mask = m < H * W
    y, w_y = lower_cell(m // W, h, H, tl.float64)
    x, w_x = lower_cell(m % W, w, W, tl.float64)
    cells = (h * w).to(tl.int64)
    square, mean = square_norm(products + b * 5 * cells, y, x, w_y, w_x, w, cells, mask)
    slot = b * H * W + m
    norm = square_root(square)
    divisor = denominator(norm, eps, METRIC.CLAMP_EPS)
    if sums is None:
        result = 1 / divisor if METRIC.KIND == COSINE else mean - square
    else:
        result = -tl.load(sums + slot, mask=mask, other=0.0).to(tl.float64)
        if METRIC.KIND == COSINE:
            moves = norm > 0
            if METRIC.CLAMP_EPS:
                moves = moves & (norm >= tl.full((), eps, tl.float64))
            zero = (result == 0) | (~moves & (result == result))
            result = tl.where(zero, 0.0, result / divisor / tl.where(moves, 2 * norm, 1.0))
    tl.store(out + slot, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def read_score(row, norms, y, x, strides, w, mask, ACC: tl.constexpr):
    """Scores of coarse cells, times D(f) if there are norms."""
    s = tl.load(row + (y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w), mask=mask, other=0.0).to(ACC)
    if norms is not None:
        s = s * tl.load(norms + y * w + x, mask=mask, other=0.0)
    return s


@triton.jit(do_not_specialize=names("scores norms terms out"))
def upsample_kernel(
    scores, norms, terms, out, sizes, scores_strides, METRIC: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """dot: s = u = sum_i w_i s_i;  cosine: u of D(f_i) s_i, s = u / D(F);  l2: s = min(0, u + v).

    scores (B, N, h, w) of any strides, norms (B, h, w), terms (B, H, W), out (B, N, H, W) contiguous.
    Program = BLOCK fine cells of one query. Bytes: 4 B N H W written; the coarse scores come from the cache.
    """
    ACC: tl.constexpr = out.dtype.element_ty
    N, h, w, H, W = (
        decode(sizes.N),
        decode(sizes.coarse_height),
        decode(sizes.coarse_width),
        decode(sizes.H),
        decode(sizes.W),
    )
    tiles = tl.cdiv(H * W, BLOCK)
    program = tl.program_id(0)
    row, n = program // tiles, program // tiles % N
    b = (row // N).to(tl.int64)
    m = program % tiles * BLOCK + tl.arange(0, BLOCK)
    mask = m < H * W
    y, w_y = lower_cell(m // W, h, H, ACC)
    x, w_x = lower_cell(m % W, w, W, ACC)
    strides = score_strides(scores_strides)
    scores += b * strides.b + n.to(tl.int64) * strides.n
    if norms is not None:
        norms += b * h * w
    right, below = mask & (w_x != 0), mask & (w_y != 0)
    s00 = read_score(scores, norms, y, x, strides, w, mask, ACC)
    s01 = read_score(scores, norms, y, x + 1, strides, w, right, ACC)
    s10 = read_score(scores, norms, y + 1, x, strides, w, below, ACC)
    s11 = read_score(scores, norms, y + 1, x + 1, strides, w, right & below, ACC)
    above = tl.where(w_x == 0, s00, (1 - w_x) * s00 + w_x * s01)
    under = tl.where(w_x == 0, s10, (1 - w_x) * s10 + w_x * s11)
    u = tl.where(w_y == 0, above, (1 - w_y) * above + w_y * under)
    if terms is not None:
        term = tl.load(terms + b * H * W + m, mask=mask, other=0.0)
        if METRIC.KIND == L2:
            moved = u + term
            u = tl.where(u - u == 0, tl.where(moved > 0, 0.0, moved), u)
        else:
            u = u * term
    tl.store(out + row.to(tl.int64) * (H * W) + m, u, mask=mask)


@triton.jit(do_not_specialize=names("given factors out out_factors"))
def reduce_axis_kernel(
    given, factors, out, out_factors, sizes, out_strides, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out[i] = sum_j w_i(j) given[j] along the rows (ROWS) or the columns of each query's map, in the order of j.

    given (B, N, H, W), of `factors` (B, H, W) times as much; out (B, N, H, w), or with ROWS from (B, N, H, w) to
    (B, N, h, w) of any strides, times `out_factors` (B, h, w). Where a number of `given` or a sum is 0, its factor
    has no part. Program = BLOCK cells of one query's out. Bytes: given read about twice, out written.
    """
    ACC: tl.constexpr = given.dtype.element_ty
    N, h, w, H, W = (
        decode(sizes.N),
        decode(sizes.coarse_height),
        decode(sizes.coarse_width),
        decode(sizes.H),
        decode(sizes.W),
    )
    if ROWS:
        cells, fine, outer, inner = h, H, h, w
    else:
        cells, fine, outer, inner = w, W, H, w
    tiles = tl.cdiv(outer * inner, BLOCK)
    program = tl.program_id(0)
    row, n = program // tiles, program // tiles % N
    b = (row // N).to(tl.int64)
    m = program % tiles * BLOCK + tl.arange(0, BLOCK)
    mask = m < outer * inner
    y = m // inner
    x = m - y * inner
    if ROWS:
        i, start, step, length = y, x, w, H * w
    else:
        i, start, step, length = x, y * W, 1, H * W
    given += row.to(tl.int64) * length
    first, last = fine_range(i, cells, fine)
    last = tl.where(mask, last, first)
    total = tl.zeros((BLOCK,), ACC)
    for k in range(0, tl.max(last - first, 0)):
        j = first + k
        weight = weight_of(position(j, cells, fine), i, fine, ACC)
        takes = (j < last) & (weight != 0)
        g = tl.load(given + start + j * step, mask=takes, other=0.0)
        if factors is not None:
            factor = tl.load(factors + b * H * W + start + j * step, mask=takes & (g != 0), other=0.0)
            g = tl.where(g == 0, 0.0, g * factor)
        total += tl.where(takes, weight * g, 0.0)
    if out_factors is not None:
        factor = tl.load(out_factors + b * h * w + m, mask=mask, other=0.0)
        total = tl.where(total == 0, 0.0, total * factor)
    strides = score_strides(out_strides)
    pointer = (
        out + b * strides.b + n.to(tl.int64) * strides.n + (y.to(tl.int64) * strides.h + x.to(tl.int64) * strides.w)
    )
    tl.store(pointer, total.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=names("gradient scores sums"))
def sum_queries_kernel(
    gradient, scores, sums, sizes, gradient_strides, scores_strides, FIRST: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """sums[m] (+)= sum_n gradient[n, m] scores[n, m], or without scores of the gradient, in the order of n.

    gradient, scores (B, N, H, W), any strides; sums (B, H, W) contiguous, added to unless FIRST. Program = BLOCK cells.
    Bytes, in float32: 8 B N H W read, half of that without scores, and B H W sums written.
    """
    N, H, W = decode(sizes.N), decode(sizes.H), decode(sizes.W)
    tiles = tl.cdiv(H * W, BLOCK)
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    m = program % tiles * BLOCK + tl.arange(0, BLOCK)
    mask = m < H * W
    y = (m // W).to(tl.int64)
    x = (m % W).to(tl.int64)
    of_gradient, of_scores = score_strides(gradient_strides), score_strides(scores_strides)
    gradient += b * of_gradient.b + (y * of_gradient.h + x * of_gradient.w)
    if scores is not None:
        scores += b * of_scores.b + (y * of_scores.h + x * of_scores.w)
    slot = sums + b * H * W + m
    total = tl.zeros((BLOCK,), sums.dtype.element_ty)
    if not FIRST:
        total = tl.load(slot, mask=mask, other=0.0)
    for _ in range(0, N):
        g = tl.load(gradient, mask=mask, other=0.0).to(total.dtype)
        gradient += of_gradient.n
        if scores is not None:
            s = tl.load(scores, mask=mask & (g != 0), other=0.0).to(total.dtype)
            scores += of_scores.n
            g = tl.where(g == 0, 0.0, g * s)
        total += g
    tl.store(slot, total, mask=mask)


@triton.jit(do_not_specialize=names("products squares coarse out"))
def upsampled_products_kernel(
    products, squares, coarse, out, sizes, eps: tl.float64, METRIC: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """dL/d products (B, 5, h, w) from squares = dL/d|F|^2 (B, H, W), and from coarse = sum_n ds_i s_i (cosine).

    own: sum w_y^2 w_x^2 g;  right: 2 sum w_y^2 w_x w_x' g;  below, diagonal and antidiagonal likewise, over the fine
    cells around a coarse one. All float64 and contiguous. Program = BLOCK coarse cells. Bytes: 32 B H W.
    """
    h, w, H, W = decode(sizes.coarse_height), decode(sizes.coarse_width), decode(sizes.H), decode(sizes.W)
    tiles = tl.cdiv(h * w, BLOCK)
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    m = program % tiles * BLOCK + tl.arange(0, BLOCK)
    mask = m < h * w
    i = m // w
    j = m - i * w
    first_y, last_y = fine_range(i, h, H)
    first_x, last_x = fine_range(j, w, W)
    last_y = tl.where(mask, last_y, first_y)
    last_x = tl.where(mask, last_x, first_x)
    own = tl.zeros((BLOCK,), tl.float64)
    right, below, across = own, own, own
    squares += b * H * W
    columns = tl.max(last_x - first_x, 0)
    for k in range(0, tl.max(last_y - first_y, 0) * columns):
        y, x = first_y + k // columns, first_x + k % columns
        inside = (y < last_y) & (x < last_x)
        t_y, t_x = position(y, h, H), position(x, w, W)
        w_y, w_x = weight_of(t_y, i, H, tl.float64), weight_of(t_x, j, W, tl.float64)
        next_y, next_x = weight_of(t_y, i + 1, H, tl.float64), weight_of(t_x, j + 1, W, tl.float64)
        g = tl.load(squares + y * W + x, mask=inside & (w_y != 0) & (w_x != 0), other=0.0)
        own += times(w_y * w_y * w_x * w_x, g)
        if METRIC.KIND == L2:
            own -= times(w_y * w_x, g)
        right += times(2 * w_y * w_y * w_x * next_x, g)
        below += times(2 * w_y * next_y * w_x * w_x, g)
        across += times(2 * w_y * next_y * w_x * next_x, g)
    cells = (h * w).to(tl.int64)
    if METRIC.KIND == COSINE:
        norm = square_root(tl.load(products + b * 5 * cells + m, mask=mask, other=0.0))
        g = tl.load(coarse + b * cells + m, mask=mask, other=0.0)
        moves = norm > 0
        if METRIC.CLAMP_EPS:
            moves = moves & (norm >= tl.full((), eps, tl.float64))
        divisor = denominator(norm, eps, METRIC.CLAMP_EPS)
        zero = (g == 0) | (~moves & (g == g))
        own += tl.where(zero, 0.0, g / divisor / tl.where(moves, 2 * norm, 1.0))
    out += b * 5 * cells + m
    tl.store(out, own, mask=mask)
    tl.store(out + cells, right, mask=mask)
    tl.store(out + 2 * cells, below, mask=mask)
    tl.store(out + 3 * cells, across, mask=mask)
    tl.store(out + 4 * cells, across, mask=mask)
