"""Measures a calibration on photographs that it was not fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...data.records import BoolArray, FloatArray
from .conformal import relative_errors, scaled_covariance
from .fit import pair_means
from .logistic import area_under_curve
from .record import Calibration
from .samples import Samples

_DRAWS = 500  # of the bootstrap


def measure_coverage(calibration: Calibration, matched: Samples) -> dict[str, Any]:
    """Measure which share of the truths lies within the radii, over all points and by category.

    Returns:
        For each level and category: the coverage, its standard error over photographs, and the radius in pixels of
        the model's input (median, mean). Points of one photograph err together, so the photographs are drawn anew.
    """
    covariance = scaled_covariance(matched.evidence.spread, calibration.scale, calibration.floor)
    scores = relative_errors(matched.errors, covariance, matched.scale)
    deviations = np.sqrt(np.trace(covariance, axis1=1, axis2=2) / 2)
    groups = {"all": np.ones(len(matched), bool)}
    groups |= {str(name): matched.category == name for name in np.unique(matched.category)}
    found: dict[str, Any] = {}
    for name, rows in groups.items():
        found[name] = {"points": int(rows.sum()), "median_error": float(np.median(_lengths(matched)[rows]))}
        for level, factor in calibration.radii.items():
            inside = scores[rows] <= factor
            found[name][f"{level:g}"] = {
                "coverage": float(inside.mean()),
                "standard_error": _standard_error(inside, matched.photographs[rows, 1]),
                "median_radius": float(np.median(factor * deviations[rows])),
            }
    return found


def measure_no_match(calibration: Calibration, samples: Samples, others: Samples | None, side: float) -> dict[str, Any]:
    """Measure how well the probability of "no match" tells the points without a match from those with one.

    Args:
        calibration: the calibration.
        samples: points with a match, and without one unless `others` has them.
        others: further points.
        side: side of the model's input.
    """
    parts = [samples] if others is None else [samples, others]
    probability = np.concatenate([calibration.no_match_probability(x.evidence, side) for x in parts])
    label = np.concatenate([x.unmatched for x in parts])
    category = np.concatenate([x.category for x in parts])
    found: dict[str, Any] = {"all": _separation(probability, label)}
    for name in np.unique(category):
        rows = category == name
        if label[rows].any() and not label[rows].all():
            found[str(name)] = _separation(probability[rows], label[rows])
    return found


def measure_pairs(calibration: Calibration, same: Samples, different: Samples, side: float) -> dict[str, Any]:
    """Measure how often pairs of the same and of different categories are told right."""
    means = [pair_means(calibration, samples, side) for samples in (same, different)]
    label = np.repeat([False, True], [len(x) for x in means])
    return {
        "auroc": area_under_curve(np.concatenate(means), label),
        "same_told_different": float((means[0] > calibration.different_above).mean()),
        "different_told_different": float((means[1] > calibration.different_above).mean()),
        "pairs": [len(x) for x in means],
    }


def _separation(probability: FloatArray, label: BoolArray) -> dict[str, Any]:
    return {
        "auroc": area_under_curve(probability, label),
        "flagged_without_match": float((probability[label] > 0.5).mean()),
        "flagged_with_match": float((probability[~label] > 0.5).mean()),
        "without_match": int(label.sum()),
        "with_match": int((~label).sum()),
    }


def _lengths(samples: Samples) -> FloatArray:
    return np.asarray(np.linalg.norm(samples.errors, axis=1))


def _standard_error(inside: BoolArray, photograph: Any) -> float:
    """Bootstrap the standard error of a share over photographs."""
    _, number = np.unique(photograph, return_inverse=True)
    hits, counts = np.bincount(number, inside), np.bincount(number)
    chosen = np.random.default_rng(0).integers(0, len(counts), (_DRAWS, len(counts)))
    return float((hits[chosen].sum(1) / counts[chosen].sum(1)).std())
