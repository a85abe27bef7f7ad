"""Multinomial logistic regression of few features, and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from scipy.stats import rankdata

from ...data.records import BoolArray, FloatArray

_RIDGE = 1e-3  # keeps weights finite where kinds can be separated
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Logistic:
    """The probabilities of K kinds of points, softmax_k(bias_k + sum_i weights_ki (x_i - mean_i) / deviation_i).

    Attributes:
        mean, deviation: (F,) of each feature.
        weights: (K, F).
        bias: (K,).
        positive: (K,), whether a kind counts as positive.
    """

    mean: Numbers
    deviation: Numbers
    weights: tuple[Numbers, ...]
    bias: Numbers
    positive: tuple[bool, ...]

    def probability(self, features: FloatArray) -> FloatArray:
        """Return the probabilities (N,) that points with features (N, F) are of a positive kind."""
        standard = (features - np.array(self.mean)) / np.array(self.deviation)
        kinds = softmax(standard @ np.array(self.weights).T + np.array(self.bias), axis=1)
        return np.asarray(kinds[:, np.array(self.positive)].sum(axis=1))


def fit_logistic(kinds: Sequence[FloatArray], positive: Sequence[bool]) -> Logistic:
    """Fit the probability of each kind of points by maximum likelihood.

    All negative kinds together have the weight of all positive ones, and each the same among its like.

    Args:
        kinds: features (N_k, F) of the points of each kind.
        positive: whether a kind counts as positive; some do, some don't.
    """
    features = np.concatenate(kinds)
    kind = np.repeat(np.arange(len(kinds)), [len(x) for x in kinds])
    alike = np.array([sum(other == x for other in positive) for x in positive])
    weight = (0.5 / alike / np.array([len(x) for x in kinds]))[kind]
    mean = weight @ features
    deviation = np.sqrt(weight @ (features - mean) ** 2)
    deviation[deviation < 1e-9] = 1.0
    inputs = np.column_stack(((features - mean) / deviation, np.ones(len(features))))
    truth = np.eye(len(kinds))[kind]
    penalty = np.append(np.full(features.shape[1], _RIDGE), 1e-9)

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        table = flat.reshape(len(kinds), -1)
        logits = inputs @ table.T
        log_chance = logits - logsumexp(logits, axis=1, keepdims=True)
        value = -weight @ log_chance[np.arange(len(kind)), kind] + (penalty * table**2).sum() / 2
        slope = (np.exp(log_chance) - truth).T @ (weight[:, None] * inputs) + penalty * table
        return float(value), slope.ravel()

    start = np.zeros(len(kinds) * inputs.shape[1])
    options = {"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-8}
    table = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x.reshape(len(kinds), -1)
    rows = tuple(_numbers(row[:-1]) for row in table)
    return Logistic(_numbers(mean), _numbers(deviation), rows, _numbers(table[:, -1]), tuple(map(bool, positive)))


def area_under_curve(scores: FloatArray, labels: BoolArray) -> float:
    """Return the probability that a True label has a higher score than a False one (AUROC); ties count one half."""
    positive = int(labels.sum())
    negative = len(labels) - positive
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _numbers(values: Sequence[float] | FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
