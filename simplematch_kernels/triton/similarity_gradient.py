# mypy: ignore-errors
"""`similarity_gradient`: ds that comes from upstream, and the queries for the two steps that follow."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, image_of, is_finite, map_strides, names, score_strides
from ._queries import fill_query, query_points
from ._records import Keypoints, QueryOutputs, Sums


@triton.jit(do_not_specialize=names("given scores ds_out source queries query_scale query_own"))
def similarity_gradient_kernel(
    given, scores, ds_out, source, queries, query_scale, query_own,
    sizes, given_strides, scores_strides, ds_strides, source_strides, eps: tl.float64,
    SAMPLING: tl.constexpr, METRIC: tl.constexpr, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """ds[n, m] = given[n, m], NaN where it or its score isn't finite, unless it is 0

    given, scores, ds_out (B, N, H, W), any strides. source (B, C, 1, N): the queries. The other outputs are those of
    `localize_backward`.

    Program = one query. Bytes: 12 B N M in float32, B N C read three times (out of L2 but for the first) and written.
    """
    ACC: tl.constexpr = query_scale.dtype.element_ty
    N, C, H, W = decode(sizes.N), decode(sizes.C), decode(sizes.H), decode(sizes.W)
    program = tl.program_id(0)
    b = (program // N).to(tl.int64)
    n = program % N
    wide_n = n.to(tl.int64)
    of_given, of_scores, of_ds = score_strides(given_strides), score_strides(scores_strides), score_strides(ds_strides)
    given += b * of_given.b + wide_n * of_given.n
    scores += b * of_scores.b + wide_n * of_scores.n
    ds_out += b * of_ds.b + wide_n * of_ds.n
    sum_ds = tl.full((), 0.0, ACC)
    sum_ds_score = tl.full((), 0.0, ACC)
    for start in range(0, H * W, BLOCK):
        m = start + tl.arange(0, BLOCK)
        in_map = m < H * W
        y = m // W
        x = (m - y * W).to(tl.int64)
        y = y.to(tl.int64)
        ds = tl.load(given + (y * of_given.h + x * of_given.w), mask=in_map, other=0.0).to(ACC)  # (BLOCK,)
        score = tl.load(scores + (y * of_scores.h + x * of_scores.w), mask=in_map, other=0.0).to(ACC)  # (BLOCK,)
        ds = tl.where((ds == 0) | (is_finite(ds) & is_finite(score)), ds, float("nan"))
        tl.store(ds_out + (y * of_ds.h + x * of_ds.w), ds.to(ds_out.dtype.element_ty), mask=in_map)
        sum_ds += tl.sum(ds, 0)
        sum_ds_score += tl.sum(tl.where(ds == 0, 0.0, ds * score), 0)

    active = n >= 0
    strides = map_strides(source_strides)
    image = image_of(source + b * strides.b, decode(sizes.source_rows), decode(sizes.source_columns), strides)
    points, finite = query_points(image, Keypoints(None, None, None, None, None), b, n, active, SAMPLING)
    slot = b * decode(sizes.scalar_b) + n
    outputs = QueryOutputs(
        queries + (b * decode(sizes.queries_b) + wide_n * C), query_scale + slot, query_own + slot, C
    )
    sums = Sums(sum_ds, sum_ds_score, sum_ds)
    fill_query(image, points, finite, sums, active, outputs, eps, SAMPLING, METRIC, BLOCK_C)
