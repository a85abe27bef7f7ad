"""Scores of chosen pairs, from the rows that a gather reads.

The reference and Triton use these, each with its own gather. The compiled kernels have an operator of their own, whose
definition these are. The tangents are always these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _resolved
from .._resolved import IDENTITY, Sampling
from .._types import (
    Backend,
    GatherGradients,
    GatherProblem,
    GatherResult,
    GatherUpstream,
    Given,
    PairGradients,
    PairProblem,
    PairResult,
    PairUpstream,
    accumulation_dtype,
)
from .similarity import query_backward, similarity, target_backward
from .tangents import of_scores

_CELLS = Sampling(IDENTITY, IDENTITY, "floor", "zeros")


class Gathers(NamedTuple):
    """The functions of a backend that read rows of a set, and sum gradients of rows."""

    gather_keypoints: Callable[[GatherProblem], GatherResult]
    gather_keypoints_backward: Callable[[GatherProblem, GatherUpstream, GatherGradients[bool]], GatherGradients[Given]]


def pair_scores(p: PairProblem, backend: Gathers | Backend) -> PairResult:
    """scores[k] = s[index_a[k], index_b[k]], 0 where an index is negative and NaN where one is beyond its set.

    Sums are made in float64, so they are right at every magnitude. The rows of one block of pairs are in memory at a
    time.
    """
    (batch, pairs), dtype = p.index_a.shape, accumulation_dtype(p.a)
    found = [similarity(*_rows(p, block, backend), p.metric).view(batch, -1).to(dtype) for block in _blocks(p)]
    scores = torch.cat(found, 1) if found else torch.zeros((batch, pairs), dtype=dtype, device=p.a.device)
    return PairResult(_where_pairs(p, scores))


def pair_scores_backward(
    p: PairProblem,
    result: PairResult,
    upstream: PairUpstream,
    needs: PairGradients[bool],
    backend: Gathers | Backend,
) -> PairGradients[Given]:
    """da[n] = sum over the pairs k of n of ds[k] d s/d a_n; summed in the order of k by the backward of the gather.

    A pair without an upstream gradient passes on zeros; else one whose upstream gradient or score isn't finite NaN. An
    index beyond its set has no row of a gradient.
    """
    ds = upstream.scores.to(result.scores.dtype)
    ds = torch.where((ds == 0) | (ds.isfinite() & result.scores.isfinite()), ds, torch.nan)
    ds = torch.where(_part(p), ds, 0)
    shape = (*p.index_a.shape, p.a.shape[1])
    wide = accumulation_dtype(p.a)  # 16-bit rows would overflow where their sums do not
    d_a, d_b = (torch.zeros(shape, dtype=wide, device=ds.device) if need else None for need in needs)
    for block in _blocks(p):
        q, f = _rows(p, block, backend)
        of_pair, score = (x[:, block].double().reshape(-1, 1, 1) for x in (ds, result.scores))
        if d_a is not None:
            d_a[:, block] = query_backward(of_pair, score, q, f, p.metric).view(d_a[:, block].shape).to(d_a.dtype)
        if d_b is not None:
            d_b[:, block] = target_backward(of_pair, score, q, f, p.metric).view(d_b[:, block].shape).to(d_b.dtype)

    def scattered(x: Tensor, index: Tensor, rows: Given) -> Given:
        if rows is None or x.shape[2] * x.shape[3] == 0:
            return None if rows is None else torch.empty_like(x)
        rows = torch.where((index < x.shape[2] * x.shape[3])[..., None], rows, 0)
        arriving, needed = GatherUpstream(rows), GatherGradients(True, False)
        shaped = torch.empty_like(x, dtype=wide)
        found = backend.gather_keypoints_backward(_gather_problem(shaped, index), arriving, needed).features
        return None if found is None else found.to(x.dtype)

    return PairGradients(scattered(p.a, p.index_a, d_a), scattered(p.b, p.index_b, d_b))


def pair_scores_jvp(
    p: PairProblem, result: PairResult, tangents: PairGradients[Given], backend: Gathers | Backend
) -> PairUpstream:
    d_scores = torch.zeros_like(result.scores)
    moved = p._replace(
        a=torch.zeros_like(p.a) if tangents.a is None else tangents.a,
        b=torch.zeros_like(p.b) if tangents.b is None else tangents.b,
    )
    for block in _blocks(p):
        (q, f), (dq, df) = _rows(p, block, backend), _rows(moved, block, backend)
        score = result.scores[:, block].double().reshape(-1, 1, 1)
        ds = of_scores(score, q, f, p.metric, dq, df)
        d_scores[:, block] = ds.view(d_scores[:, block].shape).to(d_scores.dtype)
    return PairUpstream(_where_pairs(p, d_scores))


def _blocks(p: PairProblem) -> list[slice]:
    """Of pairs whose rows fit the budget; none where a set is empty, so that no pair can be."""
    if 0 in (p.a.shape[2] * p.a.shape[3], p.b.shape[2] * p.b.shape[3], p.a.shape[0]):
        return []
    if torch.compiler.is_compiling():  # symbols say nothing of how many blocks there are
        return [slice(0, p.index_a.shape[1])]
    pairs, step = p.index_a.shape[1], _resolved.queries_within_budget(2 * 8 * p.a.shape[0] * p.a.shape[1])
    return [slice(first, min(first + step, pairs)) for first in range(0, pairs, step)]


def _rows(p: PairProblem, block: slice, backend: Gathers | Backend) -> tuple[Tensor, Tensor]:
    """Float64 rows of a (B * K, 1, C) and of b (B * K, C, 1); zeros where there is no pair."""
    part = _part(p)[:, block, None]
    q, f = (
        torch.where(
            part, backend.gather_keypoints(_gather_problem(x, index[:, block])).descriptors.double(), 0
        ).flatten(0, 1)
        for x, index in ((p.a, p.index_a), (p.b, p.index_b))
    )
    return q[:, None, :], f[:, :, None]


def _gather_problem(x: Tensor, index: Tensor) -> GatherProblem:
    """The rows of a map's cells; an index outside the map reads the nearest cell."""
    cells = index.clamp(0, x.shape[2] * x.shape[3] - 1)
    return GatherProblem(x, torch.stack((cells % x.shape[3], cells // x.shape[3]), -1).double(), _CELLS)


def _part(p: PairProblem) -> Tensor:
    return (p.index_a >= 0) & (p.index_b >= 0)


def _where_pairs(p: PairProblem, scores: Tensor) -> Tensor:
    beyond = (p.index_a >= p.a.shape[2] * p.a.shape[3]) | (p.index_b >= p.b.shape[2] * p.b.shape[3])
    return torch.where(_part(p), torch.where(beyond, torch.nan, scores), 0)
