"""Similarity of every query with every target cell (paper eq. 9), and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from .._options import Metric


def similarity(descriptors: Tensor, target: Tensor, metric: Metric) -> Tensor:
    """Scores (B, N, M) of descriptors (B, N, C) with target cells (B, C, M).

    cosine: <q, f> / (D(q) D(f))    dot: <q, f>    l2: -|q - f|^2, expanded      D(x) = |x| + eps or max(|x|, eps)
    """
    product = descriptors @ target
    if metric.kind == "dot":
        return product
    query_norm = norm(descriptors, dim=2)[:, :, None]
    target_norm = norm(target, dim=1)[:, None, :]
    if metric.kind == "l2":
        return 2 * product - query_norm**2 - target_norm**2
    return product / (denominator(query_norm, metric) * denominator(target_norm, metric))


def norm(x: Tensor, dim: int) -> Tensor:
    """Euclidean norm; its gradient at zero is zero."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=dim)
    return norms


def denominator(norms: Tensor, metric: Metric) -> Tensor:
    return norms.clamp(min=metric.eps) if metric.clamp_eps else norms + metric.eps


def target_backward(ds: Tensor, scores: Tensor, descriptors: Tensor, target: Tensor, metric: Metric) -> Tensor:
    """dL/dtarget (B, C, M) from ds = dL/dscores (B, N, M).

    df_m = sum_n w[n,m] q_n - f_m r_m          cosine: w = ds / (D(q) D(f)), r = sum_n ds s / (D(f) |f|)
                                               dot: w = ds, r = 0      l2: w = 2 ds, r = 2 sum_n ds
    """
    weights = _weights(ds, descriptors, target, metric)
    own = _own_weight(ds, scores, norm(target, dim=1), 1, metric)
    return descriptors.transpose(1, 2) @ weights - target * own[:, None, :]


def query_backward(ds: Tensor, scores: Tensor, descriptors: Tensor, target: Tensor, metric: Metric) -> Tensor:
    """dL/ddescriptors (B, N, C): dq_n = sum_m w[n,m] f_m - q_n r_n, with the sums of `target_backward` over m."""
    weights = _weights(ds, descriptors, target, metric)
    own = _own_weight(ds, scores, norm(descriptors, dim=2), 2, metric)
    return weights @ target.transpose(1, 2) - descriptors * own[:, :, None]


def _weights(ds: Tensor, descriptors: Tensor, target: Tensor, metric: Metric) -> Tensor:
    if metric.kind == "dot":
        return ds
    if metric.kind == "l2":
        return 2 * ds
    query_norm, target_norm = norm(descriptors, dim=2)[:, :, None], norm(target, dim=1)[:, None, :]
    return ds / (denominator(query_norm, metric) * denominator(target_norm, metric))


def _own_weight(ds: Tensor, scores: Tensor, norms: Tensor, dim: int, metric: Metric) -> Tensor:
    """How much a vector's own direction is taken out of its gradient: the norm's part of the quotient rule."""
    if metric.kind == "dot":
        return torch.zeros_like(norms)
    if metric.kind == "l2":
        return 2 * ds.sum(dim)
    moves = norms >= metric.eps if metric.clamp_eps else norms > 0
    per_norm = torch.where(ds != 0, ds * scores, 0).sum(dim) / (denominator(norms, metric) * norms)
    return torch.where((moves & (norms > 0)) | norms.isnan(), per_norm, 0)
