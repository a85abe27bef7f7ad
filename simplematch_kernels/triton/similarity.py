# mypy: ignore-errors
"""`similarity`: the scores of every query with every target cell, read from the maps once (paper eq. 6-9)."""

from __future__ import annotations

import triton
import triton.language as tl

from ._absolute import add_differences
from ._common import (
    COSINE,
    DESCRIPTORS,
    INTERPRETED,
    L1,
    L2,
    by_cell,
    by_channel,
    cell_offsets,
    channel_offsets,
    decode,
    denominator,
    image_of,
    is_finite,
    is_valid,
    keypoint_cells,
    least,
    map_offsets,
    maps_to_cells,
    multiply,
    names,
    ordered,
    read_queries,
    square_root,
    when,
)
from ._groups import PointStrides
from ._records import Cells, Points, Scores


@triton.jit
def is_safe(square, least_square):
    """Whether float32 sums of squares give the norm: neither vanished, as far as eps lets it count, nor overflowed."""
    return (square >= least_square) & (square <= 2.1267647932558654e37)


@triton.jit
def exact_row(
    source, target, points, cells, C, eps, SAMPLING: tl.constexpr, METRIC: tl.constexpr, WALK: tl.constexpr
):  # fmt: skip
    """Scores of one query (points: blocks of one number) with cells, and their norms, from float64 products.

    One channel at a time, so that this rare path takes few registers of the kernel's usual one.
    """
    ACC: tl.constexpr = tl.float64 if target.pointer.dtype.element_ty == tl.float64 else tl.float32
    STEP: tl.constexpr = 64 if INTERPRETED else 1  # the interpreter takes as long for one as for many
    total = tl.zeros(cells.m.shape, tl.float64)
    query_square = tl.zeros((1,), tl.float64)
    target_square = tl.zeros(cells.m.shape, tl.float64)
    for c0 in range(0, C, STEP):
        c = c0 + tl.arange(0, STEP)
        q = tl.trans(read_queries(source, points, c, C, SAMPLING, False, ACC)).to(tl.float64)  # (STEP, 1)
        offset = channel_offsets(c, target, WALK)[:, None]
        offset = offset + cell_offsets(cells.m, target.W, target, WALK)[None, :]
        mask = (c < C)[:, None] & cells.in_map[None, :]
        f = tl.load(target.pointer + offset, mask=mask, other=0.0).to(tl.float64)  # (STEP, BLOCK_M)
        if METRIC.KIND == L2:
            total -= tl.sum((q - f) * (q - f), 0)
        else:
            total += tl.sum(q * f, 0)
        query_square += tl.sum(q * q, 0)
        target_square += tl.sum(f * f, 0)
    target_norm = tl.sqrt(target_square)
    if METRIC.KIND == COSINE:
        total = total / denominator(tl.sqrt(query_square), eps, METRIC.CLAMP_EPS)
        total = total / denominator(target_norm, eps, METRIC.CLAMP_EPS)
    return total.to(ACC)[None, :], target_norm.to(ACC)


@triton.jit
def exact_where_needed(
    made, cells, source, target, points, C, eps, SAMPLING: tl.constexpr, METRIC: tl.constexpr, WALK: tl.constexpr
):
    """Scores and norms, made again by `exact_row` where float32 sums of products and squares do not give them."""
    score, target_norm = made.score, made.target_norm
    tiny = (METRIC.KIND == COSINE) & (eps < 1.1368683772161603e-13)
    least_square = tl.where(tiny, 4.930380657631324e-32, 0.0).to(score.dtype)
    unsafe_query = points.active & ~is_safe(made.query_square, least_square)
    unsafe_target = cells.in_map & ~is_safe(made.target_square, least_square)
    if METRIC.KIND == COSINE:
        unsafe = unsafe_query[:, None] | unsafe_target[None, :]
    else:
        unsafe = ~is_finite(score)
        if METRIC.KIND == L2:  # where most digits cancel
            unsafe = unsafe | (-score <= 0.125 * (made.query_square[:, None] + made.target_square[None, :]))
    unsafe = unsafe & points.active[:, None] & cells.in_map[None, :]
    wrong = tl.max((unsafe | unsafe_target[None, :]).to(tl.int32), 1)
    if tl.max(wrong, 0) > 0:
        rows = tl.arange(0, score.shape[0])
        one = tl.zeros((1,), tl.int32)
        for row in range(0, score.shape[0]):
            here = rows == row
            if tl.max(tl.where(here, wrong, 0), 0) > 0:
                point = Points(
                    one + tl.sum(tl.where(here, points.x, 0), 0), one + tl.sum(tl.where(here, points.y, 0), 0),
                    one + tl.sum(tl.where(here, points.n, 0), 0),
                    one + tl.sum(tl.where(here, points.active.to(tl.int32), 0), 0) > 0,
                )  # fmt: skip
                exact, exact_norm = exact_row(source, target, point, cells, C, eps, SAMPLING, METRIC, WALK)
                score = tl.where(unsafe & here[:, None], exact, score)
                target_norm = tl.where(unsafe_target, exact_norm, target_norm)
    return score, target_norm


@triton.jit
def store_best(best, score, selectable, slot, count, first_cell, in_rows):
    """The largest score of each row of a tile as an integer that sorts like it, and the first cell that has it.

    selectable: (BLOCK_N or 1, BLOCK_M).
    """
    key = ordered(score)
    key = tl.where(selectable, key, least(key))
    top, index = tl.max(key, 1, return_indices=True, return_indices_tie_break_left=True)
    wide = top.to(tl.int64)
    wide = tl.where(top == least(top), least(wide), wide)
    tl.store(best + slot, wide, mask=in_rows)
    tl.store(best + count + slot, first_cell + index, mask=in_rows)


@triton.jit(
    do_not_specialize=names(
        "keypoints num_keypoints valid target_mask N source_H source_W first_query valid_b keypoints_b keypoints_n "
        "keypoints_d source_sizes"
    )
)
def similarity_kernel(
    source, keypoints, source_sizes, num_keypoints, valid, target, target_mask, scores, norms, best,
    N, C, M, W, source_H, source_W, first_query, valid_b, source_strides, keypoints_b, keypoints_n, keypoints_d,
    mask_strides, target_strides, to_cells, eps: tl.float64,
    SAMPLING: tl.constexpr, NATIVE: tl.constexpr, METRIC: tl.constexpr, PRECISION: tl.constexpr, WALK: tl.constexpr,
    PREFETCH: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """s[n, m] = <q_n, f_m> / D(q_n) / D(f_m), or <q_n, f_m>, or -|q_n - f_m|^2, or -sum_c |q_nc - f_mc|; q_n is
    sampled from the source.

    Scores that float32 sums of products and squares do not give are made again by `exact_row`, where a tile has any.

    source (B, C, Hs, Ws), target (B, C, H, W): any strides. keypoints (B, N, 2), or None: query n is
    source[:, :, 0, n].
    target_mask (B, M), or (B, N, M) with its strides, or None. scores (B, N, M) contiguous; norms (B, M) = |f_m|, or
    None; best (2, B, N, tiles) int64, or None: the largest score of each tile of cells, as an integer that sorts like
    it, and the first cell that has it.

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
    image = image_of(source + b * source_strides.b, source_H, source_W, source_strides)
    if SAMPLING.MODE == DESCRIPTORS:
        points, finite = Points(n, n, n, active), n
    else:
        strides = PointStrides(keypoints_b, keypoints_n, keypoints_d)
        pointer = keypoints + b * strides.b
        to_cells = maps_to_cells(to_cells, source_sizes, b, image.H, image.W)
        points, finite = keypoint_cells(pointer, strides, n, active, image.H, image.W, to_cells, SAMPLING)
    target += b * target_strides.b

    product = tl.zeros((BLOCK_N, BLOCK_M), ACC)
    query_squares = tl.zeros((BLOCK_N, BLOCK_C), ACC)
    if WALK.CHANNELS_LAST:
        target_squares = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    else:
        target_squares = tl.zeros((BLOCK_C, BLOCK_M), ACC)
    if PREFETCH:
        next_q = read_queries(image, points, tl.arange(0, BLOCK_C), C, SAMPLING, NATIVE, ACC)
    for c0 in range(0, C, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        mask = by_cell(in_map, WALK)
        if not WALK.EVEN_C:
            mask = mask & by_channel(c < C, WALK)
        f = tl.load(target + map_offsets(m, c, W, target_strides, WALK), mask=mask, other=0.0)  # by WALK
        if PREFETCH:
            q = next_q
            next_q = read_queries(image, points, c + BLOCK_C, C, SAMPLING, NATIVE, ACC)
        else:
            q = read_queries(image, points, c, C, SAMPLING, NATIVE, ACC)  # (BLOCK_N, BLOCK_C)
        if METRIC.KIND == L1:
            product = add_differences(q, tl.trans(f) if WALK.CHANNELS_LAST else f, product)
        else:
            product = multiply(q, tl.trans(f) if WALK.CHANNELS_LAST else f, product, PRECISION)
        target_squares += f.to(ACC) * f.to(ACC)
        query_squares += q.to(ACC) * q.to(ACC)

    query_square = tl.sum(query_squares, 1)
    target_square = tl.sum(target_squares, 1 if WALK.CHANNELS_LAST else 0)
    target_norm = square_root(target_square)
    score = product
    if METRIC.KIND == COSINE:
        query_divisor = denominator(square_root(query_square), eps, METRIC.CLAMP_EPS)
        score = product / query_divisor[:, None] / denominator(target_norm, eps, METRIC.CLAMP_EPS)[None, :]
    elif METRIC.KIND == L2:
        score = 2 * product - query_square[:, None] - target_square[None, :]
    elif METRIC.KIND == L1:
        score = 0.0 - product
    if METRIC.KIND == L2 or (METRIC.KIND != L1 and ACC == tl.float32):  # noqa: SIM300
        score, target_norm = exact_where_needed(
            Scores(score, target_norm, query_square, target_square), Cells(m, in_map),
            image, image_of(target, 0, W, target_strides), points, C, eps, SAMPLING, METRIC, WALK,
        )  # fmt: skip
    if SAMPLING.MODE != DESCRIPTORS:
        score = tl.where(finite[:, None], score, float("nan"))

    row = b * N + n
    in_scores = (n < N)[:, None] & in_map[None, :]
    tl.store(scores + (row.to(tl.int64) * M)[:, None] + m[None, :], score, mask=in_scores)
    if norms is not None:
        tl.store(norms + b * M + m, target_norm, mask=when(i_n == 0, in_map))
    if best is not None:
        selectable = in_map[None, :]
        if mask_strides is not None:
            masks = target_mask + (b * decode(mask_strides.b) + n.to(tl.int64) * decode(mask_strides.n))[:, None]
            selectable = tl.load(masks + m[None, :], mask=in_scores, other=0) != 0  # (BLOCK_N, BLOCK_M)
        elif target_mask is not None:
            selectable = (tl.load(target_mask + b * M + m, mask=in_map, other=0) != 0)[None, :]
        slot = row.to(tl.int64) * cell_tiles + i_m
        count = tl.num_programs(0).to(tl.int64) // query_tiles * N
        store_best(best, score, selectable, slot, count, i_m.to(tl.int64) * BLOCK_M, n < N)
