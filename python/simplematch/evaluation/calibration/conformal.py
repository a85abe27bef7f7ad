"""Sizes of errors: a scale for predicted covariances, and radii that hold a given share of the truths."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from ...data.records import FloatArray

FOLDS = 5
_SMALLEST = 1e-12


def fit_covariance(errors: FloatArray, spread: FloatArray) -> tuple[float, float]:
    """Fit the covariance scale * spread + floor^2 * I of errors by Gaussian maximum likelihood.

    Args:
        errors: (N, 2), in pixels.
        spread: (N, 2, 2), the predicted covariances.

    Returns:
        The scale and the floor in pixels; either may be zero.
    """
    mean_error = (errors**2).sum(1).mean() / 2
    mean_spread = np.trace(spread, axis1=1, axis2=2).mean() / 2
    if not mean_error > 0:
        return 0.0, math.sqrt(_SMALLEST)
    units = np.array([mean_error / max(mean_spread, _SMALLEST), mean_error])

    def loss(shares: FloatArray) -> float:
        scale, floor = shares**2 * units
        return _mean_negative_log_likelihood(errors, scale * spread + (floor + _SMALLEST * mean_error) * np.eye(2))

    starts = [np.sqrt([share, 1 - share]) for share in (0.1, 0.5, 0.9)]
    options = {"xatol": 1e-5, "fatol": 1e-9, "maxiter": 1000}
    best = min((minimize(loss, x, method="Nelder-Mead", options=options) for x in starts), key=lambda x: float(x.fun))
    scale, floor = best.x**2 * units
    return float(scale), math.sqrt(float(floor))


def _mean_negative_log_likelihood(errors: FloatArray, covariance: FloatArray) -> float:
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant = np.maximum(a * c - b * b, _SMALLEST)
    x, y = errors.T
    distance = (c * x * x - 2 * b * x * y + a * y * y) / determinant
    return float((np.log(determinant) + distance).mean() / 2)


def scaled_covariance(spread: FloatArray, scale: float, floor: float) -> FloatArray:
    """Return scale * spread + floor^2 * I, (N, 2, 2)."""
    return np.asarray(scale * spread + floor**2 * np.eye(2))


def deviation(covariance: FloatArray) -> FloatArray:
    """Return the standard deviation (N,) of an axis, the mean over all directions, of covariances (N, 2, 2)."""
    return np.asarray(np.sqrt(np.maximum(np.trace(covariance, axis1=1, axis2=2) / 2, _SMALLEST)))


def conformal_quantile(scores: FloatArray, level: float) -> float:
    """Return the smallest q so that a new score of the same distribution is at most q with probability `level`.

    This is the ceil((n + 1) level)-th smallest of n scores (Vovk, Gammerman and Shafer, 2005).

    Raises:
        ValueError: `level` isn't between 0 and 1, or there are too few scores for it.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    if rank > len(scores):
        raise ValueError(f"level {level:g} needs at least {least_scores(level)} scores, got {len(scores)}")
    return float(np.sort(scores)[rank - 1])


def least_scores(level: float) -> int:
    """Return the least number of scores for which `conformal_quantile` exists: about 1 / (1 - level)."""
    return math.ceil(1 / (1 - level) - 1e-9) - 1


def enough_scores(level: float) -> int:
    """Return a number of scores with which the quantile is stable: a hundred, or ten beyond the quantile."""
    return max(100, math.ceil(10 / (1 - level) - 1e-9))


def held_out_scores(
    errors: FloatArray, spread: FloatArray, scale: FloatArray, photographs: npt.NDArray[np.int64], seed: int = 0
) -> FloatArray:
    """Compute errors in predicted standard deviations, each predicted without the photographs that it comes from.

    The photographs are split into five parts. The errors in the target photographs of a part are predicted by the
    covariance that was fitted to the pairs without any photograph of that part.

    Args:
        errors: (N, 2) in pixels of the network's input.
        spread: (N, 2, 2) likewise.
        scale: (N, 2), factors (x, y) from pixels of the target image to pixels of the input.
        photographs: (N, 2) numbers of the source and the target photograph.
        seed: seed of the split.

    Returns:
        (N,): the length of the error over its predicted standard deviation, both in pixels of the target image.
    """
    names = np.unique(photographs)
    part = np.empty(int(names.max()) + 1, dtype=np.int64)
    part[names] = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    parts = part[photographs]
    scores = np.empty(len(errors))
    for number in np.unique(parts[:, 1]):
        held = parts[:, 1] == number
        others = (parts != number).all(1)
        fitted = fit_covariance(errors[others], spread[others])
        scores[held] = relative_errors(errors[held], scaled_covariance(spread[held], *fitted), scale[held])
    return scores


def relative_errors(errors: FloatArray, covariance: FloatArray, scale: FloatArray) -> FloatArray:
    """Divide the lengths of errors (N, 2) by their standard deviations, both in pixels of the target image."""
    return np.asarray(np.linalg.norm(errors / scale, axis=1) / deviation(in_target(covariance, scale)))


def in_target(covariance: FloatArray, scale: FloatArray) -> FloatArray:
    """Bring covariances (N, 2, 2) from pixels of the input to pixels of the target image."""
    return np.asarray(covariance / (scale[:, :, None] * scale[:, None, :]))
