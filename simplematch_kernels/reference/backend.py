"""The reference as a backend of the operators: the signatures that every backend has."""

from __future__ import annotations

import torch
from torch import Tensor

from .._types import (
    AnyUpstream,
    DetailedMatches,
    GatherGradients,
    GatherProblem,
    GatherResult,
    GatherUpstream,
    Given,
    LocalizeDetails,
    LocalizeGradients,
    LocalizeProblem,
    MatchDetails,
    Matches,
    MatchGradients,
    MatchProblem,
    MatchResult,
    PairGradients,
    PairProblem,
    PairResult,
    PairUpstream,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    accumulation_dtype,
)
from . import gather, match, tangents, upsample
from . import localize as localization_step
from . import pair_scores as pairs
from . import sparse_match_cross_entropy as entropy
from .local_correlation import local_correlation as local_correlation
from .local_correlation import local_correlation_backward as local_correlation_backward
from .local_correlation import local_correlation_jvp as local_correlation_jvp
from .match_all import match_all as match_all
from .match_all import match_all_backward as match_all_backward
from .match_all import match_all_jvp as match_all_jvp
from .similarity import norm, query_backward, similarity, target_backward

sparse_window_match_jvp = tangents.sparse_window_match
localize_jvp = tangents.localize
sparse_window_match_detailed_jvp = tangents.sparse_window_match_detailed
localize_detailed_jvp = tangents.localize_detailed
gather_keypoints_jvp = tangents.gather_keypoints
cosine_similarity_jvp = tangents.cosine_similarity
sparse_match_cross_entropy = entropy.sparse_match_cross_entropy
sparse_match_cross_entropy_backward = entropy.sparse_match_cross_entropy_backward
sparse_match_cross_entropy_jvp = entropy.sparse_match_cross_entropy_jvp
neighbour_products = upsample.neighbour_products
neighbour_products_backward = upsample.neighbour_products_backward
neighbour_products_jvp = upsample.neighbour_products_jvp
localize_upsampled = upsample.localize_upsampled
localize_upsampled_backward = upsample.localize_upsampled_backward
localize_upsampled_jvp = upsample.localize_upsampled_jvp


def sparse_window_match(p: MatchProblem) -> MatchResult:
    return _match(p)[0]


def sparse_window_match_detailed(p: MatchProblem) -> MatchDetails:
    result, scores = _match(p)
    detailed = match.add_details(result.matches, scores, p, p.target.to(scores.dtype).flatten(2))
    return MatchDetails(*_empty_for_none(detailed), *result[4:])


def _empty_for_none(matches: DetailedMatches) -> LocalizeDetails:
    covariance, score, peak = matches[4:7]
    like, empty = matches.score, (0,)
    return LocalizeDetails(
        *matches[:4],
        like.new_empty(empty) if covariance is None else covariance,
        like.new_empty(empty) if score is None else score,
        matches.peak.new_empty(empty) if peak is None else peak,
    )


def _match(p: MatchProblem) -> tuple[MatchResult, Tensor]:
    """The result, and the scores (B, N, H, W)."""
    dtype = accumulation_dtype(p.target)
    flat = p.target.to(dtype).flatten(2)
    height, width = p.target.shape[2:]
    scores = similarity(match.queries(p, dtype), flat, p.metric)
    score_maps = scores.unflatten(2, (height, width))
    peak = match.best_cell(score_maps, flat, p.rows)
    matches = localization_step.localize(score_maps, p.rows, p.temperature, p.localization, peak)
    window = localization_step.window_cells(p.localization.window, matches.peak[:, : p.kept_queries], height, width)
    kept = scores[:, : p.kept_queries].gather(2, window.flatten(2)).unflatten(2, window.shape[2:])
    return MatchResult(*matches, norm(flat, dim=1), kept), score_maps


def sparse_window_match_backward(
    p: MatchProblem, result: MatchResult | MatchDetails, upstream: AnyUpstream, needs: MatchGradients[bool]
) -> MatchGradients[Given]:
    dtype = accumulation_dtype(p.target)
    scores = similarity(match.queries(p, dtype), p.target.to(dtype).flatten(2), p.metric)
    ds, d_temperature = localization_step.localize_backward(
        upstream, result.matches, scores.unflatten(2, p.target.shape[2:]), p.rows, p.temperature, p.localization
    )
    return match.gradients(p, ds, scores, d_temperature, needs)


def localize(p: LocalizeProblem) -> Matches:
    scores = p.scores.to(accumulation_dtype(p.scores))
    return localization_step.localize(scores, p.rows, p.temperature, p.localization)


def localize_detailed(p: LocalizeProblem) -> LocalizeDetails:
    scores = p.scores.to(accumulation_dtype(p.scores))
    return _empty_for_none(match.add_details(localize(p), scores, p, None))


def localize_backward(
    p: LocalizeProblem, result: Matches | LocalizeDetails, upstream: AnyUpstream, needs: LocalizeGradients[bool]
) -> LocalizeGradients[Given]:
    exact = p.scores.to(accumulation_dtype(p.scores))
    ds, d_temperature = localization_step.localize_backward(
        upstream, Matches(*result[:4]), exact, p.rows, p.temperature, p.localization
    )
    return LocalizeGradients(
        match.like(ds.view(p.scores.shape), p.scores) if needs.scores else None,
        d_temperature if needs.temperature else None,
    )


sparse_window_match_detailed_backward = sparse_window_match_backward
localize_detailed_backward = localize_backward


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
        None if d_descriptors is None else match.like(d_descriptors, p.descriptors),
        None if d_target is None else match.like(d_target.view(p.target.shape), p.target),
    )


def _gathers() -> pairs.Gathers:
    return pairs.Gathers(gather_keypoints, gather_keypoints_backward)


def pair_scores(p: PairProblem) -> PairResult:
    return pairs.pair_scores(p, _gathers())


def pair_scores_backward(
    p: PairProblem, result: PairResult, upstream: PairUpstream, needs: PairGradients[bool]
) -> PairGradients[Given]:
    return pairs.pair_scores_backward(p, result, upstream, needs, _gathers())


def pair_scores_jvp(p: PairProblem, result: PairResult, tangents: PairGradients[Given]) -> PairUpstream:
    return pairs.pair_scores_jvp(p, result, tangents, _gathers())
