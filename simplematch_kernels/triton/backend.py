"""The operators on Triton: the signatures of `reference/backend.py`, without autograd.

A forward is two launches and a backward at most four, as long as the scores of all queries fit the budget.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _resolved
from .._resolved import Metric, Sampling
from .._types import (
    AnyUpstream,
    CrossEntropyProblem,
    CrossEntropyResult,
    CrossEntropyUpstream,
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
    Rows,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    accumulation_dtype,
    descriptor_map,
    empty_cross_entropy_result,
    empty_localize_details,
    empty_match_details,
    empty_match_result,
    empty_matches,
    empty_similarity_result,
)
from ..reference import pair_scores as pairs
from . import _launch, _steps, _upsampled
from ._blocks import Backward, part, part_of_rows
from ._correlation import local_correlation as local_correlation
from ._correlation import local_correlation_backward as local_correlation_backward
from ._cross_entropy_steps import EntropyBackward, cross_entropy
from ._details import details, part_of_details, tile_cells
from ._match_all import match_all as match_all
from ._match_all import match_all_backward as match_all_backward
from ._step_records import Gradient, LocalizeOutputs, Queries, Source

neighbour_products = _upsampled.neighbour_products
neighbour_products_backward = _upsampled.neighbour_products_backward
localize_upsampled = _upsampled.localize_upsampled
localize_upsampled_backward = _upsampled.localize_upsampled_backward


def sparse_window_match(p: MatchProblem) -> MatchResult:
    box = p.localization.window.box(p.target.shape[2], p.target.shape[3])
    result = empty_match_result(p.target, p.queries, p.kept_queries, box)
    _match(p, result)
    return result


def sparse_window_match_detailed(p: MatchProblem) -> MatchDetails:
    box = p.localization.window.box(p.target.shape[2], p.target.shape[3])
    result = empty_match_details(p.target, p.queries, p.kept_queries, box, p.details)
    _match(p, result)
    return result


def _match(p: MatchProblem, result: MatchResult | MatchDetails) -> None:
    """Fill the result."""
    target, N = p.target, p.queries
    B, _, H, W = target.shape
    dtype = result.score.dtype
    if B == 0:
        return
    if N == 0:  # the norms are still required
        _steps.norms(target, result.target_norm)
        return
    origin = _source_of(p)
    block = _resolved.queries_within_budget(B * H * W * dtype.itemsize)
    for start in range(0, N, block):
        n = slice(start, min(N, start + block))
        source, rows, temperature, matches = origin, p.rows, p.temperature, result.matches
        if block < N:
            every = slice(None)
            source, rows = origin.part(every, n), part_of_rows(rows, every, n)
            temperature, matches = part(temperature, every, n), Matches(*(x[:, n] for x in matches))
        scores = target.new_empty((B, n.stop - start, H, W), dtype=dtype)
        best = _steps.similarity(
            source, target, rows, p.metric, scores, result.target_norm if start == 0 else None, first_query=start
        )
        _steps.localize(
            scores, best, rows, temperature, p.localization, matches,
            result.window_scores[:, n] if start < p.kept_queries else None, first_query=start,
        )  # fmt: skip
        if isinstance(result, MatchDetails):
            outputs = part_of_details(LocalizeDetails(*result[:7]), n, p.details)
            tile = tile_cells(source, target, scores, p.metric)
            details(scores, best, tile, rows, temperature, p.localization, outputs, p.details)


def sparse_window_match_backward(
    p: MatchProblem, result: MatchResult | MatchDetails, upstream: AnyUpstream, needs: MatchGradients[bool]
) -> MatchGradients[Given]:
    return _backward(p, Backward(p, _source_of(p), result, upstream), needs)


def _backward(p: MatchProblem, backward: Backward, needs: MatchGradients[bool]) -> MatchGradients[Given]:
    """The gradients of a match from those of its scores, which `backward` makes block by block."""
    source, keypoints, target, temperature, sampling = p.source, p.keypoints, p.target, p.temperature, p.sampling
    (B, N), dtype, result = backward.forward.peak.shape, backward.dtype, backward.forward
    if B == 0 or N == 0:
        inputs = (source, keypoints, target, temperature)
        return MatchGradients(
            *(torch.zeros_like(x) if n and x is not None else None for x, n in zip(inputs, needs, strict=True))
        )
    source_out = torch.empty_like(source) if needs.source else None
    target_out = torch.empty_like(target) if needs.target else None
    temperature_out = target.new_empty((B, N), dtype=dtype) if needs.temperature and temperature is not None else None
    keypoints_out, moving = _empty_keypoints(keypoints, sampling, needs.keypoints)

    needs_queries = source_out is not None or moving is not None
    queries = None
    if needs_queries or target_out is not None:
        queries = _empty_queries(_source_of(p), target, p.metric, N, needs_queries)
    for block in backward.blocks():
        gradient = backward.localize_backward(block, queries, temperature_out)
        if queries is None:
            continue
        of_block, norms, images = queries, result.target_norm, target
        if not block.whole:
            of_block, norms, images = queries.part(block.b, block.n), norms[block.b], target[block.b]
        if target_out is not None:
            sum_before, written = backward.accumulator(target_out, block)
            _steps.target_backward(gradient, of_block, norms, images, sum_before, written)
        if needs_queries:
            query_out = of_block.values
            if keypoints is None and source_out is not None:
                query_out = source_out[block.b, :, 0, block.n].transpose(1, 2)[None]
            _steps.query_backward(gradient, of_block, norms, images, query_out)
    if keypoints is not None and sampling is not None and queries is not None and needs_queries:
        _steps.source_backward(queries.values, result.peak, keypoints, source, sampling, source_out, moving)
    return MatchGradients(source_out, keypoints_out, target_out, temperature_out)


sparse_window_match_detailed_backward = sparse_window_match_backward


def localize(p: LocalizeProblem) -> Matches:
    scores, rows, temperature, localization = p[:4]
    B, N = scores.shape[:2]
    matches = empty_matches(scores, B, N)
    if B * N > 0:
        _steps.localize(scores, None, rows, temperature, localization, matches, None)
    return matches


def localize_detailed(p: LocalizeProblem) -> LocalizeDetails:
    scores, rows, temperature, localization = p[:4]
    B, N = scores.shape[:2]
    found = empty_localize_details(scores, B, N, p.details)
    if B * N > 0:
        _steps.localize(scores, None, rows, temperature, localization, found.matches, None)
        details(scores, None, 0, rows, temperature, localization, found, p.details)
    return found


def localize_backward(
    p: LocalizeProblem, result: Matches | LocalizeDetails, upstream: AnyUpstream, needs: LocalizeGradients[bool]
) -> LocalizeGradients[Given]:
    scores, rows, temperature, localization = p[:4]
    B, N, H, W = scores.shape
    scores_out = torch.empty_like(scores) if needs.scores else None
    temperature_out = None
    if needs.temperature and temperature is not None:
        temperature_out = scores.new_empty((B, N), dtype=result.score.dtype)
    if B * N > 0:
        outputs = LocalizeOutputs(scores_out, None, temperature_out, None)
        _steps.localize_backward(
            upstream, scores, result.peak, (H, W), rows.target_mask, temperature, localization, outputs, dense=True,
            covariance=result.covariance,
        )  # fmt: skip
    return LocalizeGradients(scores_out, temperature_out)


localize_detailed_backward = localize_backward


def gather_keypoints(p: GatherProblem) -> GatherResult:
    features, keypoints, sampling = p
    descriptors = features.new_empty((features.shape[0], keypoints.shape[1], features.shape[1]))
    if descriptors.numel() > 0:
        _steps.gather(features, keypoints, sampling, descriptors)
    return GatherResult(descriptors)


def gather_keypoints_backward(
    p: GatherProblem, upstream: GatherUpstream, needs: GatherGradients[bool]
) -> GatherGradients[Given]:
    (features, keypoints, sampling), gradient = p, upstream.descriptors
    features_out = torch.empty_like(features) if needs.features else None
    keypoints_out, moving = _empty_keypoints(keypoints, sampling, needs.keypoints)
    if features.shape[0] > 0 and (features_out is not None or (moving is not None and moving.numel() > 0)):
        _steps.source_backward(gradient[None], None, keypoints, features, sampling, features_out, moving)
    return GatherGradients(features_out, keypoints_out)


def cosine_similarity(p: SimilarityProblem) -> SimilarityResult:
    descriptors, target, metric = p
    B, N = descriptors.shape[:2]
    result = empty_similarity_result(descriptors, target)
    if B > 0 and N == 0:  # the norms are still required
        _steps.norms(target, result.target_norm)
    elif B > 0:
        source = _as_source(descriptors)
        _steps.similarity(source, target, Rows(), metric, result.scores, result.target_norm, with_best=False)
    return result


def cosine_similarity_backward(
    p: SimilarityProblem, result: SimilarityResult, upstream: SimilarityUpstream, needs: SimilarityGradients[bool]
) -> SimilarityGradients[Given]:
    (descriptors, target, metric), (scores, target_norm), gradient = p, result, upstream.scores
    descriptors_out = torch.empty_like(descriptors) if needs.descriptors else None
    target_out = torch.empty_like(target) if needs.target else None
    B, N = descriptors.shape[:2]
    if B == 0 or N == 0:
        return SimilarityGradients(*(x if x is None else x.zero_() for x in (descriptors_out, target_out)))
    queries = _empty_queries(_as_source(descriptors), target, metric, N, needs.descriptors)
    dense = Gradient(_steps.similarity_gradient(gradient, scores, queries), scores, None, None)
    if target_out is not None:
        _steps.target_backward(dense, queries, target_norm, target, None, target_out)
    if descriptors_out is not None:
        _steps.query_backward(dense, queries, target_norm, target, descriptors_out[None])
    return SimilarityGradients(descriptors_out, target_out)


def _gathers() -> pairs.Gathers:
    return pairs.Gathers(gather_keypoints, gather_keypoints_backward)


def pair_scores(p: PairProblem) -> PairResult:
    return pairs.pair_scores(p, _gathers())


def pair_scores_backward(
    p: PairProblem, result: PairResult, upstream: PairUpstream, needs: PairGradients[bool]
) -> PairGradients[Given]:
    return pairs.pair_scores_backward(p, result, upstream, needs, _gathers())


def _empty_keypoints(
    keypoints: Tensor | None, sampling: Sampling | None, needed: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradient of the keypoints, and again if kernels are to fill it: whole cells do not move with a keypoint."""
    if keypoints is None or not needed:
        return None, None
    if sampling is None or sampling.mode != "bilinear":
        return torch.zeros_like(keypoints), None
    gradient = torch.empty_like(keypoints)
    return gradient, gradient


def _empty_queries(source: Source, target: Tensor, metric: Metric, N: int, with_gradient: bool) -> Queries:
    B, C, H, W = target.shape
    dtype = accumulation_dtype(target)
    splits = 1
    if with_gradient and source.keypoints is not None and metric.kind != "l1":
        processors = _launch.multiprocessors(target.device)
        splits = _launch.query_backward_splits(target.dtype, B, N, C, H * W, processors)
    values = target.new_empty((splits, B, N, C), dtype=dtype)
    scale, own = target.new_empty((2, B, N), dtype=dtype)
    return Queries(source, metric, values, scale, own)


def _as_source(descriptors: Tensor) -> Source:
    """(B, N, C) descriptors as the (B, C, 1, N) map of which query n is column n."""
    return Source(descriptor_map(descriptors), None, None)


def _source_of(p: MatchProblem) -> Source:
    return Source(p.source, p.keypoints, p.sampling)


def sparse_match_cross_entropy(p: CrossEntropyProblem) -> CrossEntropyResult:
    target, (B, N) = p.target, p.target_keypoints.shape[:2]
    H, W = target.shape[2:]
    result = empty_cross_entropy_result(target, N)
    loss, cell, norms = result
    if B == 0:
        return result
    if N == 0:  # the norms are still required
        _steps.norms(target, norms)
        return result
    every, size = slice(None), _resolved.queries_within_budget(B * H * W * loss.dtype.itemsize)
    for start in range(0, N, size):
        n = slice(start, min(N, start + size))
        rows = part_of_rows(p.rows, every, n)
        scores = target.new_empty((B, n.stop - start, H, W), dtype=loss.dtype)
        _steps.similarity(
            _source_of(p.match).part(every, n), target, rows, p.metric, scores, norms if start == 0 else None,
            first_query=start, with_best=False,
        )  # fmt: skip
        temperature = part(p.temperature, every, n)
        cross_entropy(
            scores, p.target_keypoints[:, n], rows, temperature, p.truth, loss[:, n], cell[:, n], first_query=start
        )
    return result


def sparse_match_cross_entropy_backward(
    p: CrossEntropyProblem, result: CrossEntropyResult, upstream: CrossEntropyUpstream, needs: MatchGradients[bool]
) -> MatchGradients[Given]:
    return _backward(p.match, EntropyBackward(p, _source_of(p.match), result, upstream), needs)
