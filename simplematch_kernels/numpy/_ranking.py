"""The option `top_k`, on arrays; see `functional/_ranking.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._result_options import ResultOptions
from . import _arrays, _run
from ._arrays import Array, Matches
from ._run import Localizing


class Best(NamedTuple):
    """score (B, N, K) and flat cell (B, N, K) int64, best first."""

    score: Array
    peak: Array


def best_of_scores(scores: Array, localizing: Localizing, results: ResultOptions) -> Best | None:
    """Of scores (B, N, H, W)."""
    if results.top_k is None:
        return None
    return overwrite_with_best(np.array(scores, order="C") if results.top_k > 1 else scores, localizing, results)


def overwrite_with_best(scores: Array, localizing: Localizing, results: ResultOptions) -> Best:
    """The peak, and again the peak without the cells around those found before, which -inf overwrites in the scores."""
    assert results.top_k is not None
    ranks: list[tuple[Array, Array]] = []
    for rank in range(results.top_k):
        if rank > 0:
            near = _near(ranks[-1][1], results.top_radius, scores.shape[2:])
            np.put_along_axis(scores.reshape(*scores.shape[:2], -1), near, -np.inf, 2)
        found = _run.localize(scores, localizing.of_peak(localizing.rows))
        none = (found.score == -np.inf) & (found.peak >= 0)
        ranks.append((found.score, np.where(none, -1, found.peak)))
    return Best(*(np.stack(of_ranks, -1) for of_ranks in zip(*ranks, strict=True)))


def with_best(matches: Matches, found: Best | None) -> Matches:
    return matches if found is None else _arrays.as_detailed(matches, top_score=found.score, top_peak=found.peak)


def _near(peak: Array, radius: int, size: tuple[int, int]) -> Array:
    """(B, N, K) flat cells within `radius` rows and columns of flat cells (B, N), some of them more than once."""
    height, width = size
    step = np.arange(-radius, radius + 1)
    y = ((peak.clip(0) // width)[..., None] + step).clip(0, height - 1)
    x = ((peak.clip(0) % width)[..., None] + step).clip(0, width - 1)
    return np.asarray((y[..., :, None] * width + x[..., None, :]).reshape(*peak.shape, -1))
