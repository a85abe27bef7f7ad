"""The reference as a backend of the operators: the signatures that every backend has."""

from __future__ import annotations

import torch
from torch import Tensor

from .._types import (
    GatherGradients,
    GatherProblem,
    GatherResult,
    GatherUpstream,
    Given,
    LocalizeGradients,
    LocalizeProblem,
    Matches,
    MatchGradients,
    MatchProblem,
    MatchResult,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    Upstream,
    accumulation_dtype,
)
from . import gather, match, tangents
from . import localize as localization_step
from .local_correlation import local_correlation as local_correlation
from .local_correlation import local_correlation_backward as local_correlation_backward
from .local_correlation import local_correlation_jvp as local_correlation_jvp
from .similarity import norm, query_backward, similarity, target_backward

sparse_window_match_jvp = tangents.sparse_window_match
localize_jvp = tangents.localize
gather_keypoints_jvp = tangents.gather_keypoints
cosine_similarity_jvp = tangents.cosine_similarity


def sparse_window_match(p: MatchProblem) -> MatchResult:
    dtype = accumulation_dtype(p.target)
    flat = p.target.to(dtype).flatten(2)
    height, width = p.target.shape[2:]
    scores = similarity(match.queries(p, dtype), flat, p.metric)
    score_maps = scores.unflatten(2, (height, width))
    peak = match.best_cell(score_maps, flat, p.rows)
    matches = localization_step.localize(score_maps, p.rows, p.temperature, p.localization, peak)
    window = localization_step.window_cells(p.localization.window, matches.peak[:, : p.kept_queries], height, width)
    kept = scores[:, : p.kept_queries].gather(2, window.flatten(2)).unflatten(2, window.shape[2:])
    return MatchResult(*matches, norm(flat, dim=1), kept)


def sparse_window_match_backward(
    p: MatchProblem, result: MatchResult, upstream: Upstream, needs: MatchGradients[bool]
) -> MatchGradients[Given]:
    dtype = accumulation_dtype(p.target)
    descriptors = match.queries(p, dtype)
    flat = p.target.to(dtype).flatten(2)
    scores = similarity(descriptors, flat, p.metric)
    ds, d_temperature = localization_step.localize_backward(
        upstream, result.matches, scores.unflatten(2, p.target.shape[2:]), p.rows, p.temperature, p.localization
    )
    d_source = d_keypoints = d_target = None
    if needs.target:
        d_target = _like(target_backward(ds, scores, descriptors, flat, p.metric).view(p.target.shape), p.target)
    if needs.source or needs.keypoints:
        d_queries = query_backward(ds, scores, descriptors, flat, p.metric)
        if p.keypoints is None or p.sampling is None:
            d_source = _like(d_queries.transpose(1, 2)[:, :, None, :], p.source)
        else:
            d_source, d_keypoints = _source_backward(p, p.keypoints, d_queries, needs)
    return MatchGradients(d_source, d_keypoints, d_target, d_temperature if needs.temperature else None)


def _source_backward(
    p: MatchProblem, keypoints: Tensor, d_queries: Tensor, needs: MatchGradients[bool]
) -> tuple[Given, Given]:
    assert p.sampling is not None
    valid = localization_step.valid_rows(p.rows, keypoints)[..., None]
    gathered = GatherProblem(p.source, torch.where(valid, keypoints, 0), p.sampling)
    d_queries = torch.where(valid, d_queries, 0)
    d_source, d_keypoints = gather.source_backward(gathered, d_queries, GatherGradients(needs.source, needs.keypoints))
    return d_source, None if d_keypoints is None else torch.where(valid, d_keypoints, 0)


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient in the dtype and memory format of its input."""
    return torch.empty_like(x).copy_(gradient)


def localize(p: LocalizeProblem) -> Matches:
    scores = p.scores.to(accumulation_dtype(p.scores))
    return localization_step.localize(scores, p.rows, p.temperature, p.localization)


def localize_backward(
    p: LocalizeProblem, result: Matches, upstream: Upstream, needs: LocalizeGradients[bool]
) -> LocalizeGradients[Given]:
    exact = p.scores.to(accumulation_dtype(p.scores))
    ds, d_temperature = localization_step.localize_backward(
        upstream, result, exact, p.rows, p.temperature, p.localization
    )
    return LocalizeGradients(
        _like(ds.view(p.scores.shape), p.scores) if needs.scores else None,
        d_temperature if needs.temperature else None,
    )


def gather_keypoints(p: GatherProblem) -> GatherResult:
    dtype = accumulation_dtype(p.features)
    return GatherResult(gather.gather_keypoints(p.features, p.keypoints, p.sampling, dtype=dtype).to(p.features.dtype))


def gather_keypoints_backward(
    p: GatherProblem, upstream: GatherUpstream, needs: GatherGradients[bool]
) -> GatherGradients[Given]:
    return gather.source_backward(p, upstream.descriptors.to(accumulation_dtype(p.features)), needs)


def cosine_similarity(p: SimilarityProblem) -> SimilarityResult:
    dtype = accumulation_dtype(p.target)
    flat = p.target.to(dtype).flatten(2)
    scores = similarity(p.descriptors.to(dtype), flat, p.metric)
    return SimilarityResult(scores.unflatten(2, p.target.shape[2:]), norm(flat, dim=1))


def cosine_similarity_backward(
    p: SimilarityProblem, result: SimilarityResult, upstream: SimilarityUpstream, needs: SimilarityGradients[bool]
) -> SimilarityGradients[Given]:
    dtype = accumulation_dtype(p.target)
    ds, scores, flat = upstream.scores.to(dtype).flatten(2), result.scores.flatten(2), p.target.to(dtype).flatten(2)
    ds = torch.where((ds == 0) | (ds.isfinite() & scores.isfinite()), ds, torch.nan)
    queries = p.descriptors.to(dtype)
    d_descriptors = query_backward(ds, scores, queries, flat, p.metric) if needs.descriptors else None
    d_target = target_backward(ds, scores, queries, flat, p.metric) if needs.target else None
    return SimilarityGradients(
        None if d_descriptors is None else _like(d_descriptors, p.descriptors),
        None if d_target is None else _like(d_target.view(p.target.shape), p.target),
    )
