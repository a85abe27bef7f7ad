"""The option `top_k`, on arrays; see `functional/_ranking.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import _resolved
from .._options import LocalizationOptions
from .._resolved import Metric
from .._result_options import ResultOptions
from ..native._records import _C
from . import _arrays, _run
from ._arrays import Array, Matches, Rows

_PEAK = LocalizationOptions("argmax", fixed_temperature=1.0).checked()


class Best(NamedTuple):
    """score (B, N, K) and flat cell (B, N, K) int64, best first."""

    score: Array
    peak: Array


def best(
    descriptors: Array, target: Array, rows: Rows, metric: Metric, results: ResultOptions, device: _C.Device
) -> Best | None:
    """Of descriptors (B, C, 1, N) in a target (B, C, H, W), whose scores exist for a block of queries at a time."""
    if results.top_k is None:
        return None
    queries, (batch, _, height, width) = descriptors.shape[3], target.shape
    most = _resolved.queries_within_budget(batch * height * width * _arrays.accumulation_dtype(target).itemsize)
    found = []
    for first in range(0, max(queries, 1), most):
        last = min(first + most, queries)
        scores = _run.similarity(descriptors[..., first:last], target, metric, device)
        found.append(best_of_scores(scores, _run.rows_of_block(rows, first, last), results, device))
    return Best(*(np.concatenate(parts, 1) for parts in zip(*[x for x in found if x is not None], strict=True)))


def best_of_scores(scores: Array, rows: Rows, results: ResultOptions, device: _C.Device) -> Best | None:
    """Of scores (B, N, H, W): the peak, and again the peak without the cells around those found before."""
    if results.top_k is None:
        return None
    localization, left, ranks = _PEAK.resolve(*scores.shape[2:]), scores, []
    for rank in range(results.top_k):
        found = _run.localize(left, rows, None, localization, None, device)
        none = (found.score == -np.inf) & (found.peak >= 0)
        ranks.append((found.score, np.where(none, -1, found.peak)))
        if rank + 1 < results.top_k:
            left = np.where(_around(found.peak, results.top_radius, left), left.dtype.type(-np.inf), left)
    return Best(*(np.stack(of_ranks, -1) for of_ranks in zip(*ranks, strict=True)))


def with_best(matches: Matches, found: Best | None) -> Matches:
    return matches if found is None else _arrays.as_detailed(matches, top_score=found.score, top_peak=found.peak)


def _around(peak: Array, radius: int, scores: Array) -> Array:
    """(B, N, H, W) bool: the cells within `radius` rows and columns of flat cells (B, N)."""
    height, width = scores.shape[2:]
    near_y = np.abs((peak // width)[..., None] - np.arange(height)) <= radius
    near_x = np.abs((peak % width)[..., None] - np.arange(width)) <= radius
    return np.asarray(near_y[..., :, None] & near_x[..., None, :])
