"""The option `top_k`: the best cells of every query, in blocks of queries under the score budget."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _resolved
from .._options import LocalizationOptions, MetricOptions
from .._result_options import ResultOptions
from .._types import Matches, Rows, accumulation_dtype, as_detailed
from ..operators import cosine_similarity as similarity_operator
from ..operators import localize as localize_operator
from ._shared import rows_of_block

_PEAK = LocalizationOptions("argmax", fixed_temperature=1.0).checked()


class Best(NamedTuple):
    """score (B, N, K) and flat cell (B, N, K) int64, best first."""

    score: Tensor
    peak: Tensor


def best(
    descriptors: Tensor, target: Tensor, rows: Rows, metric: MetricOptions, results: ResultOptions, backend: str
) -> Best | None:
    """Of descriptors (B, N, C) in a target (B, C, H, W), whose scores exist for a block of queries at a time."""
    if results.top_k is None:
        return None
    queries, (batch, _, height, width) = descriptors.shape[1], target.shape
    most = _resolved.queries_within_budget(batch * height * width * accumulation_dtype(target).itemsize)
    found = []
    with torch.no_grad():
        for first in range(0, max(queries, 1), most):
            last = min(first + most, queries)
            arguments = similarity_operator.Arguments(descriptors[:, first:last], target, metric, backend)
            scores = similarity_operator.run(arguments).scores
            found.append(best_of_scores(scores, rows_of_block(rows, first, last), results, backend))
    return Best(*(torch.cat(parts, 1) for parts in zip(*[x for x in found if x is not None], strict=True)))


def best_of_scores(scores: Tensor, rows: Rows, results: ResultOptions, backend: str) -> Best | None:
    """Of scores (B, N, H, W): the peak, and again the peak without the cells around those found before.

    Each round is the argmax of `localize`, so its rules for ties, NaN, masks and padding hold for every rank. Without
    another cell, or where all others score -inf, a rank holds -inf and -1.
    """
    if results.top_k is None:
        return None
    left, ranks = scores.detach(), []
    for rank in range(results.top_k):
        found = localize_operator.run(localize_operator.Arguments(left, rows, None, None, _PEAK, backend))
        none = (found.score == -torch.inf) & (found.peak >= 0)
        ranks.append((found.score.detach(), torch.where(none, -1, found.peak)))
        if rank + 1 < results.top_k:
            left = left.masked_fill(_around(found.peak, results.top_radius, left), -torch.inf)
    return Best(*(torch.stack(of_ranks, -1) for of_ranks in zip(*ranks, strict=True)))


def with_best(matches: Matches, found: Best | None) -> Matches:
    return matches if found is None else as_detailed(matches, top_score=found.score, top_peak=found.peak)


def _around(peak: Tensor, radius: int, scores: Tensor) -> Tensor:
    """(B, N, H, W) bool: the cells within `radius` rows and columns of flat cells (B, N)."""
    height, width = scores.shape[-2:]
    y, x = (torch.arange(n, device=scores.device) for n in (height, width))
    near_y = ((peak // width)[..., None] - y).abs() <= radius
    near_x = ((peak % width)[..., None] - x).abs() <= radius
    return near_y[..., :, None] & near_x[..., None, :]
