"""The option `top_k`: the best cells of every query."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._result_options import ResultOptions
from .._types import Matches, as_detailed
from ..operators._torch import is_plain
from ._localize import localize_scores
from ._shared import Localizing, size_of


class Best(NamedTuple):
    """score (B, N, K) and flat cell (B, N, K) int64, best first."""

    score: Tensor
    peak: Tensor


def best_of_scores(scores: Tensor, localizing: Localizing, results: ResultOptions) -> Best | None:
    """Of scores (B, N, H, W)."""
    if results.top_k is None:
        return None
    with torch.no_grad():
        return overwrite_with_best(scores.clone() if results.top_k > 1 else scores, localizing, results)


def overwrite_with_best(scores: Tensor, localizing: Localizing, results: ResultOptions) -> Best:
    """The peak, and again the peak without the cells around those found before, which -inf overwrites in the scores.

    Each round is the argmax of `localize`, so its rules for ties, NaN, masks and padding hold for every rank. Without
    another cell, or where all others score -inf, a rank holds -inf and -1.
    """
    assert results.top_k is not None
    ranks: list[tuple[Tensor, Tensor]] = []
    for rank in range(results.top_k):
        if rank > 0:
            near = _near(ranks[-1][1], results.top_radius, size_of(scores))
            in_place = is_plain((scores,), scores.device)  # vmap has no rule for that
            fill = Tensor.scatter_ if in_place else Tensor.scatter
            scores = fill(scores.flatten(2), 2, near, -torch.inf).view_as(scores)
        found = localize_scores(scores, localizing.of_peak(localizing.rows))
        none = (found.score == -torch.inf) & (found.peak >= 0)
        ranks.append((found.score, torch.where(none, -1, found.peak)))
    return Best(*(torch.stack(of_ranks, -1) for of_ranks in zip(*ranks, strict=True)))


def with_best(matches: Matches, found: Best | None) -> Matches:
    return matches if found is None else as_detailed(matches, top_score=found.score, top_peak=found.peak)


def _near(peak: Tensor, radius: int, size: tuple[int, int]) -> Tensor:
    """(B, N, K) flat cells within `radius` rows and columns of flat cells (B, N), some of them more than once."""
    height, width = size
    step = torch.arange(-radius, radius + 1, device=peak.device)
    y = ((peak.clamp(min=0) // width)[..., None] + step).clamp(0, height - 1)
    x = ((peak.clamp(min=0) % width)[..., None] + step).clamp(0, width - 1)
    return (y[..., :, None] * width + x[..., None, :]).flatten(2)
