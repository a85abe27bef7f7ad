# mypy: ignore-errors
"""`match_all`: the norms of two sets, their scores tile by tile, and the results of the tiles put together."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    COSINE,
    INTERPRETED,
    L1,
    L2,
    cell_offsets,
    channel_offsets,
    denominator,
    is_finite,
    is_valid,
    least,
    map_offsets,
    multiply,
    names,
    ordered,
    power_of_two,
)
from ._records import Best


@triton.jit
def value_of(key):
    """The score of which key is the `ordered` form; -inf where there is none."""
    if key.dtype == tl.int64:
        largest = tl.full((), 0x7FFFFFFFFFFFFFFF, tl.int64)
    else:
        largest = tl.full((), 0x7FFFFFFF, tl.int32)
    bits = tl.where(key < 0, key ^ largest, key)
    if key.dtype == tl.int64:
        value = bits.to(tl.float64, bitcast=True)
    else:
        value = bits.to(tl.float32, bitcast=True)
    return tl.where(key == least(key), float("-inf"), value)


@triton.jit
def anchor(key):
    """The number that exponents count from: the largest score, or 0 if it is not finite."""
    value = value_of(key)
    return tl.where(is_finite(value), value, 0.0)


@triton.jit
def moved(total, old, new, T):
    """A sum of exponentials that counted from `old`, counted from `new`."""
    return tl.where(total == 0, 0.0, total * tl.exp((old - new) / T))


@triton.jit
def merged(x, y, T, SUM: tl.constexpr, SECOND: tl.constexpr):
    """Two `Best`, of which x has the lower indices."""
    later = y.top > x.top
    top = tl.where(later, y.top, x.top)
    index = tl.where(later, y.index, x.index)
    second, total = x.second, x.total
    if SECOND:
        second = tl.where(later, tl.maximum(x.top, y.second), tl.maximum(x.second, y.top))
    if SUM:
        new = anchor(top)
        total = moved(x.total, anchor(x.top), new, T) + moved(y.total, anchor(y.top), new, T)
    return Best(top, index, second, total)


@triton.jit
def best_of_tile(key, score, first, T, AXIS: tl.constexpr, SUM: tl.constexpr, SECOND: tl.constexpr):
    """`Best` along an axis of a tile; `first` is the index of its first entry."""
    top, place = tl.max(key, AXIS, return_indices=True, return_indices_tie_break_left=True)
    second, total = top, tl.zeros(top.shape, score.dtype)
    if SECOND:
        places = tl.expand_dims(tl.arange(0, key.shape[AXIS]), 1 - AXIS)
        second = tl.max(tl.where(places == tl.expand_dims(place, AXIS), least(key), key), AXIS)
    if SUM:
        exponent = (score - tl.expand_dims(anchor(top), AXIS)) / T
        total = tl.sum(tl.where(key == least(key), 0.0, tl.exp(exponent)), AXIS)
    return Best(top, first + place.to(tl.int32), second, total)


@triton.jit
def nothing(BLOCK: tl.constexpr, ACC: tl.constexpr):
    """`Best` of no candidates."""
    KEY: tl.constexpr = tl.int64 if tl.float64 == ACC else tl.int32
    none = tl.zeros((BLOCK,), KEY)
    none += least(none)
    return Best(none, tl.zeros((BLOCK,), tl.int32) - 1, none, tl.zeros((BLOCK,), ACC))


@triton.jit
def store_part(parts, offset, best, mask, SUM: tl.constexpr, SECOND: tl.constexpr):
    tl.store(parts.top + offset, best.top, mask=mask)
    tl.store(parts.index + offset, best.index, mask=mask)
    if SECOND:
        tl.store(parts.second + offset, best.second, mask=mask)
    if SUM:
        tl.store(parts.total + offset, best.total, mask=mask)


@triton.jit
def read_cells(pointer, m, c, in_set, C, W, strides, WALK: tl.constexpr):
    """(cells, channels) of a map; zeros outside."""
    offset = map_offsets(m, c, W, strides, WALK)
    if WALK.CHANNELS_LAST:
        tile = tl.load(pointer + offset, mask=in_set[:, None] & (c < C)[None, :], other=0.0)
    else:
        tile = tl.trans(tl.load(pointer + offset, mask=(c < C)[:, None] & in_set[None, :], other=0.0))
    return tile


@triton.jit
def factors(norm, eps, METRIC: tl.constexpr, SCALED: tl.constexpr):
    """Of each vector x: the power of two that products take it times, and what divides them afterwards."""
    divisor = tl.full(norm.shape, 1.0, norm.dtype)
    power = divisor
    if METRIC.KIND == COSINE:
        divisor = denominator(norm, eps, METRIC.CLAMP_EPS)
    if SCALED:
        if METRIC.KIND == COSINE:
            power = power_of_two(1 / divisor)
        else:
            power = power_of_two(1 / norm)
    return power, divisor * power


@triton.jit
def distances(
    a, b, n, m, in_a, in_b, C, W_a, W_b, a_strides, b_strides,
    METRIC: tl.constexpr, WALKS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Sums of squared (l2) or absolute (l1) differences, (n, m), channel by channel: nothing cancels."""
    STEP: tl.constexpr = 64 if INTERPRETED else 1  # the interpreter takes as long for one as for many
    total = tl.zeros((n.shape[0], m.shape[0]), ACC)
    of_a = a + cell_offsets(n, W_a, a_strides, WALKS[0])
    of_b = b + cell_offsets(m, W_b, b_strides, WALKS[1])
    for c0 in range(0, C, STEP):
        c = c0 + tl.arange(0, STEP)
        q = tl.load(of_a[:, None] + channel_offsets(c, a_strides, WALKS[0])[None, :],
                    mask=in_a[:, None] & (c < C)[None, :], other=0.0).to(ACC)  # fmt: skip
        f = tl.load(of_b[:, None] + channel_offsets(c, b_strides, WALKS[1])[None, :],
                    mask=in_b[:, None] & (c < C)[None, :], other=0.0).to(ACC)  # fmt: skip
        difference = q[:, None, :] - f[None, :, :]
        total += tl.sum(tl.abs(difference) if METRIC.KIND == L1 else difference * difference, 2)
    return total


@triton.jit(
    do_not_specialize=names(
        "num_a valid_a num_b valid_b temperature N M first_tile row_tiles splits valid_a_b valid_b_b temperature_b"
    )
)
def match_all_kernel(
    a, b, norm_a, norm_b, num_a, valid_a, num_b, valid_b, temperature, rows, columns,
    N, M, C, W_a, W_b, first_tile, row_tiles, splits, valid_a_b, valid_b_b, temperature_b, a_strides, b_strides,
    eps: tl.float64, fixed_temperature: tl.float64,
    METRIC: tl.constexpr, PRECISION: tl.constexpr, SCALED: tl.constexpr, WALKS: tl.constexpr, SUM: tl.constexpr,
    SECOND: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """`Best` of the scores s[n, m] = <a_n, b_m> / D(a_n) / D(b_m), or <a_n, b_m>, or -|a_n - b_m|^2, or
    -sum_c |a_nc - b_mc|, both ways.

    a (B, C, H, W) of N cells, b of M cells: any strides. norm_a (B, N), norm_b (B, M). rows: parts (splits, B, N), each
    of M / splits columns. columns: parts (1 + row_tiles, B, M), of which a program writes that of its BLOCK_N rows; the
    first holds what earlier launches gave.

    Program = BLOCK_N rows x the columns of a split, tile by tile. Scores are never stored. Vectors are multiplied by
    powers of two, so that no product of float32 overflows or vanishes. Floor: 2 B N M C of products; bytes: a once, b
    for each tile of rows, out of L2 where it fits.
    """
    ACC: tl.constexpr = norm_a.dtype.element_ty
    program = tl.program_id(0)
    i_n, split = program % row_tiles, program // row_tiles % splits
    i_b = (program // row_tiles // splits).to(tl.int64)
    first_row = (first_tile + i_n) * BLOCK_N
    n = first_row + tl.arange(0, BLOCK_N)
    in_a = is_valid(num_a, valid_a, i_b, n, 0, N, valid_a_b)
    a += i_b * a_strides.b
    b += i_b * b_strides.b
    T = tl.full((), fixed_temperature, tl.float64).to(ACC)
    if temperature is not None:
        T = tl.load(temperature + i_b * temperature_b)
    of_a, divisor_a = factors(tl.load(norm_a + i_b * N + n, mask=n < N, other=1.0), eps, METRIC, SCALED)
    best = nothing(BLOCK_N, ACC)
    per_split = tl.cdiv(tl.cdiv(M, BLOCK_M), splits) * BLOCK_M
    for m0 in range(split * per_split, tl.minimum(M, split * per_split + per_split), BLOCK_M):
        m = m0 + tl.arange(0, BLOCK_M)
        in_b = is_valid(num_b, valid_b, i_b, m, 0, M, valid_b_b)
        if METRIC.KIND == L2 or METRIC.KIND == L1:
            score = -distances(a, b, n, m, in_a, in_b, C, W_a, W_b, a_strides, b_strides, METRIC, WALKS, ACC)
        else:
            of_b, divisor_b = factors(tl.load(norm_b + i_b * M + m, mask=m < M, other=1.0), eps, METRIC, SCALED)
            score = tl.zeros((BLOCK_N, BLOCK_M), ACC)
            for c0 in range(0, C, BLOCK_C):
                c = c0 + tl.arange(0, BLOCK_C)
                q = read_cells(a, n, c, in_a, C, W_a, a_strides, WALKS[0])  # (BLOCK_N, BLOCK_C)
                f = read_cells(b, m, c, in_b, C, W_b, b_strides, WALKS[1])  # (BLOCK_M, BLOCK_C)
                if SCALED:
                    q = (q.to(ACC) * of_a[:, None]).to(a.dtype.element_ty)
                    f = (f.to(ACC) * of_b[:, None]).to(b.dtype.element_ty)
                score = multiply(q, tl.trans(f), score, PRECISION)
            score = score / divisor_a[:, None] / divisor_b[None, :]
        key = ordered(score)
        key = tl.where(in_a[:, None] & in_b[None, :], key, least(key))
        best = merged(best, best_of_tile(key, score, m0, T, 1, SUM, SECOND), T, SUM, SECOND)
        down = best_of_tile(key, score, first_row, T, 0, SUM, SECOND)
        slot = (1 + i_n).to(tl.int64) * (tl.num_programs(0) // row_tiles // splits) + i_b
        store_part(columns, slot * M + m, down, m < M, SUM, SECOND)
    slot = split.to(tl.int64) * (tl.num_programs(0) // row_tiles // splits) + i_b
    store_part(rows, slot * N + n, best, n < N, SUM, SECOND)


@triton.jit(
    do_not_specialize=names(
        "num valid temperature bin_score cells others first_slot slots last valid_b temperature_b bin_b index_a"
    )
)
def match_all_reduce_kernel(
    parts, num, valid, temperature, bin_score, index, score, log_sum_exp, second, mutual, index_a,
    B, cells, others, first_slot, slots, last, valid_b, temperature_b, bin_b,
    fixed_temperature: tl.float64, fixed_bin: tl.float64,
    BIN: tl.constexpr, SUM: tl.constexpr, SECOND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The results of one side from its parts (slots, B, cells), put together in order: no result depends on timing.

    index, score, log_sum_exp, second (B, cells). If this is not the `last` launch, what is known so far becomes the
    first part instead. mutual (B, N): cleared by side a, which has no index_a; side b sets it where index_a[n] is m.

    Program = BLOCK cells of one image. Bytes: the parts, once.
    """
    ACC: tl.constexpr = score.dtype.element_ty
    tiles = tl.cdiv(cells, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    m = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    in_set = m < cells
    T = tl.full((), fixed_temperature, tl.float64).to(ACC)
    if temperature is not None:
        T = tl.load(temperature + b * temperature_b)
    best = nothing(BLOCK, ACC)
    none = best
    for slot in range(first_slot, slots):
        offset = (slot * B + b) * cells + m
        top = tl.load(parts.top + offset, mask=in_set, other=0)  # (BLOCK,)
        part = Best(top, tl.load(parts.index + offset, mask=in_set, other=0), none.second, none.total)
        if SECOND:
            part = Best(part.top, part.index, tl.load(parts.second + offset, mask=in_set, other=0), part.total)
        if SUM:
            part = Best(part.top, part.index, part.second, tl.load(parts.total + offset, mask=in_set, other=0.0))
        best = merged(best, part, T, SUM, SECOND)
    if last == 0:
        store_part(parts, b * cells + m, best, in_set, SUM, SECOND)
    else:
        part = is_valid(num, valid, b, m, 0, cells, valid_b)
        found = part & (best.top != least(best.top))
        at = b * cells + m
        partner = tl.where(found, best.index, -1)
        tl.store(index + at, partner.to(tl.int64), mask=in_set)
        tl.store(score + at, tl.where(found, value_of(best.top), 0.0), mask=in_set)
        if SECOND:
            tl.store(second + at, tl.where(found, value_of(best.second), 0.0), mask=in_set)
        if SUM:
            total, top = best.total, best.top
            if BIN:
                z = tl.full((), fixed_bin, tl.float64).to(ACC)
                if bin_score is not None:
                    z = tl.load(bin_score + b * bin_b)
                z += tl.zeros((BLOCK,), ACC)
                top = tl.maximum(best.top, ordered(z))
                total = moved(best.total, anchor(best.top), anchor(top), T)
                total += tl.exp((z - anchor(top)) / T)
            largest = value_of(top)
            result = largest / T
            result = tl.where(is_finite(largest), result + tl.log(total), result)
            result = tl.where(T > 0, result, float("nan"))
            counts = part if BIN else found
            tl.store(log_sum_exp + at, tl.where(counts, result, 0.0), mask=in_set)
        if index_a is None:
            tl.store(mutual + at, m < 0, mask=in_set)
        else:
            here = b * others + partner
            theirs = tl.load(index_a + here, mask=found, other=-1)
            tl.store(mutual + here, m >= 0, mask=found & (theirs == m))
