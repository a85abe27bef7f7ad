"""Fits a calibration to points with and without a match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._files import DataError
from ...data.records import FloatArray
from .conformal import conformal_quantile, enough_scores, fit_covariance, held_out_scores
from .logistic import fit_logistic
from .record import Calibration, features_of, finite_rows
from .samples import Samples

LEVELS = (0.5, 0.8, 0.9, 0.95)
FEWEST_PHOTOGRAPHS = 10
FEWEST_UNMATCHED = 100
FALSE_ALARMS = 0.05  # share of the pairs of the same things that are told to show different ones


def fit_calibration(
    matched: Samples,
    unmatched: Sequence[Samples],
    same: Samples,
    *,
    side: float,
    levels: Sequence[float] = LEVELS,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Calibration:
    """Fit a calibration.

    Args:
        matched: points of pairs that show the same things, all with a match.
        unmatched: samples that have points without a match, such as pairs of different categories and copies hidden in
            part.
        same: salient points of pairs that show the same things.
        side: side of the model's input in pixels.
        levels: the levels of the radii.
        model, data: as in `Calibration`.

    Raises:
        DataError: there are too few points, or photographs; the sentence says how many are needed.
    """
    everything = (matched, *unmatched, same)
    if not all(finite_rows(samples.evidence).all() for samples in everything):
        raise DataError("the model's similarities must be finite for a calibration, got NaN or infinities.")
    _check_counts(matched, unmatched, levels)
    scores = held_out_scores(matched.errors, matched.evidence.spread, matched.scale, _numbers(matched.photographs))
    scale, floor = fit_covariance(matched.errors, matched.evidence.spread)
    kinds, positive = _kinds(matched, unmatched, side)
    found = Calibration(
        model=model,
        scale=scale,
        floor=floor,
        radii={level: conformal_quantile(scores, level) for level in sorted(levels)},
        no_match=fit_logistic(kinds, positive),
        different_above=1.0,
        data=data,
    )
    threshold = float(np.quantile(pair_means(found, same, side), 1 - FALSE_ALARMS))
    return replace(found, different_above=threshold)


def pair_means(calibration: Calibration, samples: Samples, side: float) -> FloatArray:
    """Return the mean probability of "no match" of every pair of samples."""
    probability = calibration.no_match_probability(samples.evidence, side)
    _, pair = np.unique(samples.pair, return_inverse=True)
    return np.asarray(np.bincount(pair, probability) / np.bincount(pair))


def _kinds(matched: Samples, unmatched: Sequence[Samples], side: float) -> tuple[list[FloatArray], list[bool]]:
    """Return the features of each kind of points, and whether its points have no match.

    Points of different origin are kinds of their own, because those with a match in a copy of their image are unlike
    those in another photograph: with a single boundary, one would be mistaken for points without a match of the other.
    """
    kinds, positive = [], []
    for samples in (matched, *unmatched):
        features, lost = features_of(samples.evidence, side), samples.unmatched
        for wanted in (False, True):
            if (lost == wanted).any():
                kinds.append(features[lost == wanted])
                positive.append(wanted)
    return kinds, positive


def _check_counts(matched: Samples, unmatched: Sequence[Samples], levels: Sequence[float]) -> None:
    if not levels:
        raise DataError("levels must hold at least one level, got none.")
    highest = max(levels)
    if not 0 < min(levels) <= highest < 1:
        raise ValueError(f"levels must be between 0 and 1, got {', '.join(f'{x:g}' for x in levels)}")
    needed = enough_scores(highest)
    if len(matched) < needed:
        raise DataError(
            f"a calibration at level {highest:g} needs at least {needed} keypoints with a match, got {len(matched)} "
            f"of {matched.pairs} pairs: use more pairs, or lower levels."
        )
    photographs = len(np.unique(matched.photographs))
    if photographs < FEWEST_PHOTOGRAPHS:
        raise DataError(
            f"a calibration needs at least {FEWEST_PHOTOGRAPHS} photographs, got {photographs}: use more pairs."
        )
    without = sum(int(samples.unmatched.sum()) for samples in unmatched)
    if without < FEWEST_UNMATCHED:
        raise DataError(
            f"a calibration needs at least {FEWEST_UNMATCHED} points without a match, got {without}: use more pairs."
        )


def _numbers(photographs: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    numbers = np.unique(photographs, return_inverse=True)[1]
    return np.asarray(numbers.reshape(photographs.shape), dtype=np.int64)
