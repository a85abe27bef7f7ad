# mypy: ignore-errors
"""`similarity`: the scores of every query with every target cell, read from the maps once (paper eq. 6-9)."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import (
    COSINE,
    DESCRIPTORS,
    INTERPRETED,
    L2,
    by_cell,
    by_channel,
    denominator,
    is_finite,
    is_valid,
    keypoint_cells,
    least,
    map_offsets,
    multiply,
    names,
    ordered,
    read_queries,
    square_root,
    when,
)


@triton.jit
def is_safe(square, least_square):
    """Whether float32 sums of squares give the norm: neither vanished, as far as eps lets it count, nor overflowed."""
    return (square >= least_square) & (square <= 2.1267647932558654e37)


@triton.jit
def exact_row(
    source, target, x, y, n, active, m, in_map, C, W, source_H, source_W,
    source_c, source_h, source_w, target_c, target_h, target_w, eps,
    SAMPLING: tl.constexpr, METRIC: tl.constexpr, CLAMP_EPS: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr,
    ACC: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Scores of one query (x, y, n: blocks of one number) with BLOCK_M cells, and their norms, from float64 products.

    One channel at a time, so that this rare path takes few registers of the kernel's usual one.
    """
    STEP: tl.constexpr = 64 if INTERPRETED else 1  # the interpreter takes as long for one as for many
    total = tl.zeros((BLOCK_M,), tl.float64)
    query_square = tl.zeros((1,), tl.float64)
    target_square = tl.zeros((BLOCK_M,), tl.float64)
    for c0 in range(0, C, STEP):
        c = c0 + tl.arange(0, STEP)
        q = read_queries(
            source, x, y, n, active, c, c < C, source_c, source_h, source_w, source_H, source_W, SAMPLING, False, ACC
        )
        q = tl.trans(q).to(tl.float64)
        offset = map_offsets(m, c, W, target_c, target_h, target_w, False, FLAT, WIDE)
        f = tl.load(target + offset, mask=(c < C)[:, None] & in_map[None, :], other=0.0).to(tl.float64)
        if METRIC == L2:
            total -= tl.sum((q - f) * (q - f), 0)
        else:
            total += tl.sum(q * f, 0)
        query_square += tl.sum(q * q, 0)
        target_square += tl.sum(f * f, 0)
    target_norm = tl.sqrt(target_square)
    if METRIC == COSINE:
        total = total / denominator(tl.sqrt(query_square), eps, CLAMP_EPS) / denominator(target_norm, eps, CLAMP_EPS)
    return total.to(ACC)[None, :], target_norm.to(ACC)


@triton.jit(
    do_not_specialize=names(
        "keypoints num_keypoints valid target_mask N source_H source_W first_query keypoints_b keypoints_n keypoints_d "
        "valid_b"
    )
)
def similarity_kernel(
    source, keypoints, num_keypoints, valid, target, target_mask,
    scores, norms, best,
    N, C, M, W, source_H, source_W, first_query,
    source_b, source_c, source_h, source_w, keypoints_b, keypoints_n, keypoints_d, valid_b,
    target_b, target_c, target_h, target_w,
    numerator_x: tl.float64, shift_x: tl.float64, divisor_x: tl.float64, reciprocal_x: tl.float64,
    numerator_y: tl.float64, shift_y: tl.float64, divisor_y: tl.float64, reciprocal_y: tl.float64, eps: tl.float64,
    SAMPLING: tl.constexpr, BORDER: tl.constexpr, NATIVE: tl.constexpr,
    METRIC: tl.constexpr, CLAMP_EPS: tl.constexpr, PRECISION: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr, EVEN_C: tl.constexpr,
    PREFETCH: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """s[n, m] = <q_n, f_m> / D(q_n) / D(f_m), or <q_n, f_m>, or -|q_n - f_m|^2, with q_n sampled from the source.

    Scores that float32 sums of products and squares do not give are made again by `exact_row`, where a tile has any.

    source (B, C, Hs, Ws), target (B, C, H, W): any strides. keypoints (B, N, 2), or None: query n is
    source[:, :, 0, n].
    scores (B, N, M) contiguous; norms (B, M) = |f_m|, or None; best (2, B, N, tiles) int64, or None: the largest score
    of each tile of cells as an integer that sorts like it, and the first cell that has it.

    Program = BLOCK_N queries x BLOCK_M cells of one image, queries fastest: the programs of one tile of cells run
    together, so the target comes from memory once. Bytes: the target, 4 N M of scores, and per program BLOCK_N
    sampled rows out of L2. Floor at B=8, N=30, C=768, 63x63: 97.5 MB float32, 23 us at 4.3 TB/s, half in bfloat16.
    """
    ACC: tl.constexpr = scores.dtype.element_ty
    query_tiles, cell_tiles = tl.cdiv(N, BLOCK_N), tl.cdiv(M, BLOCK_M)
    program = tl.program_id(0)
    i_n, i_m = program % query_tiles, (program // query_tiles) % cell_tiles
    b = (program // query_tiles // cell_tiles).to(tl.int64)
    n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    in_map = m < M
    active = is_valid(num_keypoints, valid, b, n, first_query, N, valid_b)

    if SAMPLING == DESCRIPTORS:
        x, y, finite = n, n, n
    else:
        x, y, finite = keypoint_cells(
            keypoints + b * keypoints_b, keypoints_n, keypoints_d, n, active, source_H, source_W,
            numerator_x, shift_x, divisor_x, reciprocal_x,
            numerator_y, shift_y, divisor_y, reciprocal_y, SAMPLING, BORDER,
        )  # fmt: skip
    source += b * source_b
    target += b * target_b

    product = tl.zeros((BLOCK_N, BLOCK_M), ACC)
    query_squares = tl.zeros((BLOCK_N, BLOCK_C), ACC)
    if CHANNELS_LAST:
        target_squares = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    else:
        target_squares = tl.zeros((BLOCK_C, BLOCK_M), ACC)
    if PREFETCH:
        first_c = tl.arange(0, BLOCK_C)
        next_q = read_queries(
            source, x, y, n, active, first_c, first_c < C, source_c, source_h, source_w, source_H, source_W,
            SAMPLING, NATIVE, ACC,
        )  # fmt: skip
    for c0 in range(0, C, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        mask = by_cell(in_map, CHANNELS_LAST)
        if not EVEN_C:
            mask = mask & by_channel(c < C, CHANNELS_LAST)
        offset = map_offsets(m, c, W, target_c, target_h, target_w, CHANNELS_LAST, FLAT, WIDE)
        f = tl.load(target + offset, mask=mask, other=0.0)
        if PREFETCH:
            q = next_q
            next_c = c + BLOCK_C
            next_q = read_queries(
                source, x, y, n, active, next_c, next_c < C, source_c, source_h, source_w, source_H, source_W,
                SAMPLING, NATIVE, ACC,
            )  # fmt: skip
        else:
            q = read_queries(
                source, x, y, n, active, c, c < C, source_c, source_h, source_w, source_H, source_W,
                SAMPLING, NATIVE, ACC,
            )  # fmt: skip
        product = multiply(q, tl.trans(f) if CHANNELS_LAST else f, product, PRECISION)
        target_squares += f.to(ACC) * f.to(ACC)
        query_squares += q.to(ACC) * q.to(ACC)

    query_square = tl.sum(query_squares, 1)
    target_square = tl.sum(target_squares, 1 if CHANNELS_LAST else 0)
    target_norm = square_root(target_square)
    score = product
    if METRIC == COSINE:
        query_divisor = denominator(square_root(query_square), eps, CLAMP_EPS)
        score = product / query_divisor[:, None] / denominator(target_norm, eps, CLAMP_EPS)[None, :]
    elif METRIC == L2:
        score = 2 * product - query_square[:, None] - target_square[None, :]

    if METRIC == L2 or ACC == tl.float32:  # noqa: SIM300
        least_square = tl.where((METRIC == COSINE) & (eps < 1.1368683772161603e-13), 4.930380657631324e-32, 0.0)
        unsafe_query = active & ~is_safe(query_square, least_square.to(ACC))
        unsafe_target = in_map & ~is_safe(target_square, least_square.to(ACC))
        if METRIC == COSINE:
            unsafe = unsafe_query[:, None] | unsafe_target[None, :]
        else:
            unsafe = ~is_finite(score)
            if METRIC == L2:  # where most digits cancel
                unsafe = unsafe | (-score <= 0.125 * (query_square[:, None] + target_square[None, :]))
        unsafe = unsafe & active[:, None] & in_map[None, :]
        wrong = tl.max((unsafe | unsafe_target[None, :]).to(tl.int32), 1)
        if tl.max(wrong, 0) > 0:
            rows = tl.arange(0, BLOCK_N)
            for row in range(0, BLOCK_N):
                here = rows == row
                if tl.max(tl.where(here, wrong, 0), 0) > 0:
                    one = tl.zeros((1,), tl.int32)
                    exact, exact_norm = exact_row(
                        source, target, one + tl.sum(tl.where(here, x, 0), 0), one + tl.sum(tl.where(here, y, 0), 0),
                        one + tl.sum(tl.where(here, n, 0), 0),
                        one + tl.sum(tl.where(here, active.to(tl.int32), 0), 0) > 0,
                        m, in_map, C, W, source_H, source_W,
                        source_c, source_h, source_w, target_c, target_h, target_w, eps,
                        SAMPLING, METRIC, CLAMP_EPS, FLAT, WIDE, ACC, BLOCK_M,
                    )  # fmt: skip
                    score = tl.where(unsafe & here[:, None], exact, score)
                    target_norm = tl.where(unsafe_target, exact_norm, target_norm)
    if SAMPLING != DESCRIPTORS:
        score = tl.where(finite[:, None], score, float("nan"))

    row = b * N + n
    in_scores = (n < N)[:, None] & in_map[None, :]
    tl.store(scores + (row.to(tl.int64) * M)[:, None] + m[None, :], score, mask=in_scores)
    if norms is not None:
        tl.store(norms + b * M + m, target_norm, mask=when(i_n == 0, in_map))
    if best is not None:
        key = ordered(score)
        selectable = in_map
        if target_mask is not None:
            selectable = selectable & (tl.load(target_mask + b * M + m, mask=in_map, other=0) != 0)
        key = tl.where(selectable[None, :], key, least(key))
        top, index = tl.max(key, 1, return_indices=True, return_indices_tie_break_left=True)
        wide = top.to(tl.int64)
        wide = tl.where(top == least(top), least(wide), wide)
        slot = row.to(tl.int64) * cell_tiles + i_m
        count = tl.num_programs(0).to(tl.int64) // query_tiles * N
        tl.store(best + slot, wide, mask=n < N)
        tl.store(best + count + slot, i_m.to(tl.int64) * BLOCK_M + index, mask=n < N)
