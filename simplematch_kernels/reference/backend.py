"""The reference as a backend of the operators: the signatures that every backend has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._options import Localization, Metric, Sampling
from .._types import ForwardResult, Gradients, Matches, Rows, Upstream
from . import gather, match
from . import localize as localization_step
from .similarity import norm, query_backward, similarity, target_backward


def sparse_window_match(
    source: Tensor,
    keypoints: Tensor | None,
    target: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    sampling: Sampling | None,
    metric: Metric,
    localization: Localization,
    kept_queries: int,
) -> ForwardResult:
    dtype = match.accumulation_dtype(target)
    descriptors = match.queries(source, keypoints, rows, sampling, dtype)
    flat = target.to(dtype).flatten(2)
    height, width = target.shape[2:]
    scores = similarity(descriptors, flat, metric)
    score_maps = scores.unflatten(2, (height, width))
    peak = match.best_cell(score_maps, flat, rows)
    matches = localization_step.localize(score_maps, rows, temperature, localization, peak)
    window = localization_step.window_cells(localization.window, matches.peak[:, :kept_queries], height, width)
    kept = scores[:, :kept_queries].gather(2, window.flatten(2)).unflatten(2, window.shape[2:])
    return ForwardResult(*matches, norm(flat, dim=1), kept)


def sparse_window_match_backward(
    upstream: Upstream,
    forward: ForwardResult,
    source: Tensor,
    keypoints: Tensor | None,
    target: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    sampling: Sampling | None,
    metric: Metric,
    localization: Localization,
    needs: Sequence[bool],
) -> Gradients:
    """Gradients of (source, keypoints, target, temperature); None where `needs` is False."""
    dtype = match.accumulation_dtype(target)
    descriptors = match.queries(source, keypoints, rows, sampling, dtype)
    flat = target.to(dtype).flatten(2)
    scores = similarity(descriptors, flat, metric)
    ds, d_temperature = localization_step.localize_backward(
        upstream, Matches(*forward[:4]), scores.unflatten(2, target.shape[2:]), rows, temperature, localization
    )
    d_source = d_keypoints = d_target = None
    if needs[2]:
        d_target = _like(target_backward(ds, scores, descriptors, flat, metric).view(target.shape), target)
    if needs[0] or needs[1]:
        d_queries = query_backward(ds, scores, descriptors, flat, metric)
        if keypoints is None or sampling is None:
            d_source = _like(d_queries.transpose(1, 2)[:, :, None, :], source)
        else:
            d_source, d_keypoints = _source_backward(d_queries, source, keypoints, rows, sampling, needs[:2])
    return d_source, d_keypoints, d_target, d_temperature if needs[3] else None


def _source_backward(
    d_queries: Tensor, source: Tensor, keypoints: Tensor, rows: Rows, sampling: Sampling, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    valid = localization_step.valid_rows(rows, keypoints)[..., None]
    d_queries = torch.where(valid, d_queries, 0)
    d_source, d_keypoints = gather.source_backward(d_queries, source, torch.where(valid, keypoints, 0), sampling, needs)
    return d_source, None if d_keypoints is None else torch.where(valid, d_keypoints, 0)


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient in the dtype and memory format of its input."""
    return torch.empty_like(x).copy_(gradient)


def localize(scores: Tensor, rows: Rows, temperature: Tensor | None, localization: Localization) -> Matches:
    scores = scores.to(match.accumulation_dtype(scores))
    return localization_step.localize(scores, rows, temperature, localization)


def localize_backward(
    upstream: Upstream,
    matches: Matches,
    scores: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    localization: Localization,
    needs: Sequence[bool],
) -> Gradients:
    """Gradients of (scores, temperature); None where `needs` is False."""
    exact = scores.to(match.accumulation_dtype(scores))
    ds, d_temperature = localization_step.localize_backward(upstream, matches, exact, rows, temperature, localization)
    return _like(ds.view(scores.shape), scores) if needs[0] else None, d_temperature if needs[1] else None


def gather_keypoints(features: Tensor, keypoints: Tensor, sampling: Sampling) -> Tensor:
    dtype = match.accumulation_dtype(features)
    return gather.gather_keypoints(features, keypoints, sampling, dtype=dtype).to(features.dtype)


def gather_keypoints_backward(
    gradient: Tensor, features: Tensor, keypoints: Tensor, sampling: Sampling, needs: Sequence[bool]
) -> Gradients:
    """Gradients of (features, keypoints); None where `needs` is False."""
    gradient = gradient.to(match.accumulation_dtype(features))
    return gather.source_backward(gradient, features, keypoints, sampling, needs)


def cosine_similarity(descriptors: Tensor, target: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    """Scores (B, N, H, W) and the norms (B, M) of the target's cells."""
    dtype = match.accumulation_dtype(target)
    flat = target.to(dtype).flatten(2)
    scores = similarity(descriptors.to(dtype), flat, metric)
    return scores.unflatten(2, target.shape[2:]), norm(flat, dim=1)


def cosine_similarity_backward(
    gradient: Tensor,
    scores: Tensor,
    target_norm: Tensor,
    descriptors: Tensor,
    target: Tensor,
    metric: Metric,
    needs: Sequence[bool],
) -> Gradients:
    """Gradients of (descriptors, target); None where `needs` is False."""
    dtype = match.accumulation_dtype(target)
    ds, scores, flat = gradient.to(dtype).flatten(2), scores.flatten(2), target.to(dtype).flatten(2)
    ds = torch.where((ds == 0) | (ds.isfinite() & scores.isfinite()), ds, torch.nan)
    queries = descriptors.to(dtype)
    d_descriptors = query_backward(ds, scores, queries, flat, metric) if needs[0] else None
    d_target = target_backward(ds, scores, queries, flat, metric) if needs[1] else None
    return (
        None if d_descriptors is None else _like(d_descriptors, descriptors),
        None if d_target is None else _like(d_target.view(target.shape), target),
    )
