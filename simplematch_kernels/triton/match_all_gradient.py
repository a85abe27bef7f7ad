# mypy: ignore-errors
"""`match_all_gradient`: ds from what arrives at both sides, and the queries for the two steps that follow."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, image_of, is_finite, is_valid, map_strides, names, score_strides
from ._queries import fill_query, query_points
from ._records import Keypoints, QueryOutputs, Sums


@triton.jit(
    do_not_specialize=names(
        "index score log_sum_exp of_score of_log_sum_exp num valid temperature peaked weight count score_b score_n "
        "log_sum_exp_b log_sum_exp_n valid_b temperature_b"
    )
)
def match_all_upstream_kernel(
    index, score, log_sum_exp, of_score, of_log_sum_exp, num, valid, temperature, peaked, weight,
    count, score_b, score_n, log_sum_exp_b, log_sum_exp_n, valid_b, temperature_b, fixed_temperature: tl.float64,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """peaked[b, n] = h_n and weight[b, n] = l_n / T, which arrive at score and log_sum_exp, (B, count) each.

    0 in padding. NaN where an upstream gradient that is not zero, or what it arrives at, isn't finite.

    Program = BLOCK numbers. Bytes, in float32: 24 B count read and 8 B count written.
    """
    ACC: tl.constexpr = score.dtype.element_ty
    tiles = tl.cdiv(count, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    n = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    in_set = n < count
    at = b * count + n
    part = is_valid(num, valid, b, n, 0, count, valid_b)
    h = tl.zeros((BLOCK,), ACC)
    if of_score is not None:
        h = tl.load(of_score + b * score_b + n.to(tl.int64) * score_n, mask=part, other=0.0).to(ACC)
        found = tl.load(index + at, mask=in_set, other=-1) >= 0
        s = tl.load(score + at, mask=in_set, other=0.0)
        h = tl.where(found & (h != 0), tl.where(is_finite(h) & is_finite(s), h, float("nan")), 0.0)
    tl.store(peaked + at, h, mask=in_set)
    if of_log_sum_exp is not None:
        T = tl.full((), fixed_temperature, tl.float64).to(ACC)
        if temperature is not None:
            T = tl.load(temperature + b * temperature_b)
        pointer = of_log_sum_exp + b * log_sum_exp_b + n.to(tl.int64) * log_sum_exp_n
        w = tl.load(pointer, mask=part, other=0.0).to(ACC)
        total = tl.load(log_sum_exp + at, mask=in_set, other=0.0)
        w = tl.where(w != 0, tl.where(is_finite(w) & is_finite(total), w / T, float("nan")), 0.0)
        tl.store(weight + at, w, mask=in_set)


@triton.jit(
    do_not_specialize=names(
        "scores ds_out num_b valid_b_mask temperature index_a peaked_a log_sum_exp_a weight_a index_b peaked_b "
        "log_sum_exp_b weight_b moment source keypoints queries query_scale query_own first_row N valid_b temperature_b"
    )
)
def match_all_gradient_kernel(
    scores, ds_out, num_b, valid_b_mask, temperature, index_a, peaked_a, log_sum_exp_a, weight_a,
    index_b, peaked_b, log_sum_exp_b, weight_b, moment, source, keypoints, queries, query_scale, query_own,
    first_row, N, valid_b, temperature_b, sizes, scores_strides, source_strides, keypoints_strides, to_cells,
    fixed_temperature: tl.float64, eps: tl.float64,
    OF_A: tl.constexpr, OF_B: tl.constexpr, SAMPLING: tl.constexpr, METRIC: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    """ds[n, m] = weight_a[n] exp(s / T - log_sum_exp_a[n]) + peaked_a[n] [m == index_a[n]] + the same of b with m

    scores, ds_out (B, rows, H, W) of rows [first_row, ...) of a, contiguous maps of M cells. index, peaked, weight and
    log_sum_exp: (B, N) and (B, M); OF_A, OF_B: whether there are weights. moment (B, N): sum_m of the weighted part of
    ds times s. The other outputs are those of `localize_backward`.

    Program = one row. Bytes: 8 B N M in float32, and 20 B N M of what arrives at b out of L2.
    """
    ACC: tl.constexpr = query_scale.dtype.element_ty
    rows, C, M = decode(sizes.N), decode(sizes.C), decode(sizes.H) * decode(sizes.W)
    program = tl.program_id(0)
    b = (program // rows).to(tl.int64)
    row = program % rows
    n = first_row + row
    at = b * N + n
    T = tl.full((), fixed_temperature, tl.float64).to(ACC)
    if temperature is not None:
        T = tl.load(temperature + b * temperature_b)
    of_scores = score_strides(scores_strides)
    start = b * of_scores.b + row.to(tl.int64) * of_scores.n
    peak, of_peak = tl.load(index_a + at), tl.load(peaked_a + at)
    of_row = tl.full((), 0.0, ACC)
    total_row = tl.full((), 0.0, ACC)
    active = peak >= 0
    if OF_A:
        of_row = tl.load(weight_a + at)
        total_row = tl.load(log_sum_exp_a + at)
    sum_ds = tl.full((), 0.0, ACC)
    sum_ds_score = tl.full((), 0.0, ACC)
    sum_moment = tl.full((), 0.0, ACC)
    for m0 in range(0, M, BLOCK):
        m = m0 + tl.arange(0, BLOCK)
        in_set = m < M
        part = is_valid(num_b, valid_b_mask, b, m, 0, M, valid_b) & (tl.zeros((BLOCK,), tl.int64) + peak >= 0)
        score = tl.load(scores + start + m, mask=in_set, other=0.0).to(ACC)  # (BLOCK,)
        ds = tl.zeros((BLOCK,), ACC)
        if OF_A:
            ds += tl.where(of_row != 0, of_row * tl.exp(score / T - total_row), 0.0)
        if OF_B:
            of_column = tl.load(weight_b + b * M + m, mask=in_set, other=0.0)
            total = tl.load(log_sum_exp_b + b * M + m, mask=in_set, other=0.0)
            ds += tl.where(of_column != 0, of_column * tl.exp(score / T - total), 0.0)
        sum_moment += tl.sum(tl.where(part & (ds != 0), ds * score, 0.0), 0)
        ds += tl.where(m == peak, of_peak, 0.0)
        theirs = tl.load(index_b + b * M + m, mask=in_set, other=-1)
        ds += tl.where(theirs == n, tl.load(peaked_b + b * M + m, mask=in_set, other=0.0), 0.0)
        ds = tl.where(part, ds, 0.0)
        tl.store(ds_out + start + m, ds, mask=in_set)
        sum_ds += tl.sum(ds, 0)
        sum_ds_score += tl.sum(tl.where(ds == 0, 0.0, ds * score), 0)
    tl.store(moment + at, sum_moment)

    strides = map_strides(source_strides)
    image = image_of(source + b * strides.b, decode(sizes.source_rows), decode(sizes.source_columns), strides)
    points, finite = query_points(
        image, Keypoints(keypoints, keypoints_strides, to_cells, None, None), b, row, active, SAMPLING
    )  # fmt: skip
    slot = b * decode(sizes.scalar_b) + row
    outputs = QueryOutputs(
        queries + (b * decode(sizes.queries_b) + row.to(tl.int64) * C), query_scale + slot, query_own + slot, C
    )
    sums = Sums(sum_ds, sum_ds_score, sum_ds)
    fill_query(image, points, finite, sums, active, outputs, eps, SAMPLING, METRIC, BLOCK_C)
