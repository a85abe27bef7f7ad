"""Similarity of every query with every target cell (paper eq. 9), and its gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._resolved import Metric
from . import absolute
from .recorded import distances, plus, recording

SAFE_NORMS = (2.0**-52, 2.0**62)
"""Between these a float32 vector's squares neither vanish nor overflow when they are summed."""


def similarity(descriptors: Tensor, target: Tensor, metric: Metric) -> Tensor:
    """Scores (B, N, M) of descriptors (B, N, C) with target cells (B, C, M).

    cosine: <q / D(q), f> / D(f), with D(x) = |x| + eps or max(|x|, eps)    dot: <q, f>
    l2: -sum of (q - f)^2                                                   l1: -sum of |q - f|

    Float32 scores are those of float64 arithmetic to 1e-5: where products or norms leave float32's range they are
    computed in float64 and rounded. A graph that torch.compile or a CUDA stream records stays in float32.
    """
    if metric.kind == "l2":
        return _minus_square_distance(descriptors, target)
    if metric.kind == "l1":
        return absolute.minus_distance(descriptors, target)
    if metric.kind == "dot":
        scores = descriptors @ target
        return _exact_where_not(scores.isfinite(), scores, lambda: descriptors.double() @ target.double())
    query_norm, target_norm = norm(descriptors, dim=2)[:, :, None], norm(target, dim=1)[:, None, :]
    scores = _cosine(descriptors, target, query_norm, target_norm, metric)
    safe = (_in_range(query_norm) | (query_norm == 0)) & (_in_range(target_norm) | (target_norm == 0))

    def exact() -> Tensor:
        q, f = descriptors.double(), target.double()
        return _cosine(q, f, norm(q, dim=2)[:, :, None], norm(f, dim=1)[:, None, :], metric)

    return _exact_where_not(safe, scores, exact)


def _minus_square_distance(descriptors: Tensor, target: Tensor) -> Tensor:
    wide = torch.promote_types(descriptors.dtype, torch.float32)  # there are no 16-bit distances
    return -distances(descriptors.to(wide), target.to(wide), 2).to(descriptors.dtype)


def _cosine(descriptors: Tensor, target: Tensor, query_norm: Tensor, target_norm: Tensor, metric: Metric) -> Tensor:
    return ((descriptors / denominator(query_norm, metric)) @ target) / denominator(target_norm, metric)


def norm(x: Tensor, dim: int) -> Tensor:
    """Euclidean norm; its gradient at zero is zero."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=dim)
    return _exact_where_not(_in_range(norms), norms, lambda: torch.linalg.vector_norm(x.double(), dim=dim))


def denominator(norms: Tensor, metric: Metric) -> Tensor:
    """|x| + eps, or max(|x|, eps); 1 for a zero vector without eps, so that its cosine is 0."""
    divisor = norms.clamp(min=metric.eps) if metric.clamp_eps else plus(norms, metric.eps)
    return divisor if metric.eps > 0 else torch.where(divisor == 0, 1, divisor)


def target_backward(ds: Tensor, scores: Tensor, descriptors: Tensor, target: Tensor, metric: Metric) -> Tensor:
    """dL/dtarget (B, C, M) from ds = dL/dscores (B, N, M), which is finite or NaN; zeros have no part in any sum.

    cosine: df_m = sum_n ds[n,m] / D(f_m) q_n / D(q_n) - f_m / |f_m| sum_n ds[n,m] s[n,m] / D(f_m)
    dot:    df_m = sum_n ds[n,m] q_n                    l2: df_m = 2 sum_n ds[n,m] q_n - 2 f_m sum_n ds[n,m]
    l1:     df_m = sum_n ds[n,m] sign(q_n - f_m)
    """
    if metric.kind == "l1":
        return absolute.target_sums(ds, descriptors, target)
    weights = _weights(ds, norm(target, dim=1)[:, None, :], metric)
    units = _units(descriptors, norm(descriptors, dim=2)[:, :, None], metric)
    own = _own_term(weights, scores, target, norm(target, dim=1)[:, None, :], 1, metric)
    return units.mT @ weights - own


def query_backward(ds: Tensor, scores: Tensor, descriptors: Tensor, target: Tensor, metric: Metric) -> Tensor:
    """dL/ddescriptors (B, N, C): `target_backward` with queries and cells swapped."""
    if metric.kind == "l1":
        return absolute.query_sums(ds, descriptors, target)
    weights = _weights(ds, norm(descriptors, dim=2)[:, :, None], metric)
    units = _units(target, norm(target, dim=1)[:, None, :], metric)
    own = _own_term(weights, scores, descriptors, norm(descriptors, dim=2)[:, :, None], 2, metric)
    return weights @ units.mT - own


def _units(vectors: Tensor, norms: Tensor, metric: Metric) -> Tensor:
    """x / D(x) (cosine), x (dot), 2 x (l2), and 0 for an element that isn't finite: its cell's ds is 0 or NaN."""
    vectors = torch.where(vectors.isfinite(), vectors, 0)
    if metric.kind == "dot":
        return vectors
    if metric.kind == "l2":
        return 2 * vectors
    return vectors / torch.where(norms.isnan(), 1, denominator(norms, metric))


def _weights(ds: Tensor, norms: Tensor, metric: Metric) -> Tensor:
    return torch.where(ds == 0, 0, ds / denominator(norms, metric)) if metric.kind == "cosine" else ds


def _own_term(weights: Tensor, scores: Tensor, vectors: Tensor, norms: Tensor, dim: int, metric: Metric) -> Tensor:
    """What a vector's own norm takes out of its gradient; `dim` is that of the vectors it was compared with."""
    if metric.kind == "dot":
        return torch.zeros_like(vectors)
    vectors = torch.where(vectors.isfinite(), vectors, 0)
    if metric.kind == "l2":
        return 2 * vectors * weights.sum(dim, keepdim=True)
    moves = (norms >= metric.eps) & (norms > 0) if metric.clamp_eps else norms > 0
    directions = torch.where(moves, vectors / norms, 0)
    return directions * torch.where(weights != 0, weights * scores, 0).sum(dim, keepdim=True)


def _in_range(norms: Tensor) -> Tensor:
    return (norms >= SAFE_NORMS[0]) & (norms <= SAFE_NORMS[1])


def _exact_where_not(safe: Tensor, values: Tensor, exact: Callable[[], Tensor]) -> Tensor:
    """`values`, with those of float64 arithmetic where float32's range isn't known to be enough."""
    if values.dtype == torch.float64 or recording(values) or bool(safe.all()):
        return values
    return torch.where(safe, values, exact().to(values.dtype))
