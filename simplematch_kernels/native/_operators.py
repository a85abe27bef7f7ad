"""The operators on the compiled module: allocates the results and hands over addresses, sizes and strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._result_options import DetailOptions
from .._types import (
    AnyUpstream,
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
    descriptor_map,
    empty_localize_details,
    empty_match_details,
    empty_match_result,
    empty_matches,
    empty_similarity_result,
)
from . import _records
from ._more_operators import MoreOperators
from ._records import _C
from ._tensors import (
    addresses,
    empty_gradient,
    empty_match_gradients,
    empty_temperature_gradient,
    native_rows,
    view,
    views,
)


@dataclass(frozen=True)
class Operators(MoreOperators):
    """The functions of `Backend`, from those of the compiled module."""

    def sparse_window_match(self, p: MatchProblem) -> MatchResult:
        box = p.localization.window.box(*p.target.shape[2:])
        result = empty_match_result(p.target, p.queries, p.kept_queries, box)
        problem, _alive = _match_problem(p, p.kept_queries)
        _C.sparse_window_match(problem, _records.match_result(*addresses(result)), *self.where(p.target))
        return result

    def sparse_window_match_detailed(self, p: MatchProblem) -> MatchDetails:
        box = p.localization.window.box(*p.target.shape[2:])
        result = empty_match_details(p.target, p.queries, p.kept_queries, box, p.details)
        problem, _alive = _match_problem(p, p.kept_queries)
        _C.sparse_window_match(problem, _match_result(result, p.details), *self.where(p.target))
        return result

    def sparse_window_match_backward(
        self, p: MatchProblem, result: MatchResult | MatchDetails, upstream: AnyUpstream, needs: MatchGradients[bool]
    ) -> MatchGradients[Given]:
        gradients = empty_match_gradients(p, needs)
        problem, _alive = _match_problem(p, result.window_scores.shape[1])
        arriving, leaving = views(upstream), views(gradients)
        _C.sparse_window_match_backward(
            problem, _match_result(result, p.details), arriving, leaving, *self.where(p.target)
        )
        return gradients

    sparse_window_match_detailed_backward = sparse_window_match_backward

    def localize(self, p: LocalizeProblem) -> Matches:
        matches = empty_matches(p.scores, p.scores.shape[0], p.scores.shape[1])
        rows, _alive = native_rows(p.rows)
        problem = _records.localize_problem(view(p.scores), rows, view(p.temperature), p.localization)
        _C.localize(problem, _records.native_matches(*addresses(matches)), *self.where(p.scores))
        return matches

    def localize_detailed(self, p: LocalizeProblem) -> LocalizeDetails:
        matches = empty_localize_details(p.scores, p.scores.shape[0], p.scores.shape[1], p.details)
        rows, _alive = native_rows(p.rows)
        problem = _records.localize_problem(view(p.scores), rows, view(p.temperature), p.localization)
        _C.localize(problem, _native_details(matches, p.details), *self.where(p.scores))
        return matches

    def localize_backward(
        self,
        p: LocalizeProblem,
        result: Matches | LocalizeDetails,
        upstream: AnyUpstream,
        needs: LocalizeGradients[bool],
    ) -> LocalizeGradients[Given]:
        gradients = LocalizeGradients(
            empty_gradient(p.scores, needs.scores), empty_temperature_gradient(p.temperature, needs.temperature)
        )
        rows, _alive = native_rows(p.rows)
        problem = _records.localize_problem(view(p.scores), rows, view(p.temperature), p.localization)
        matches, arriving, leaving = _native_details(result, p.details), views(upstream), views(gradients)
        _C.localize_backward(problem, matches, arriving, leaving, *self.where(p.scores))
        return gradients

    localize_detailed_backward = localize_backward

    def gather_keypoints(self, p: GatherProblem) -> GatherResult:
        shape = (p.features.shape[0], p.keypoints.shape[1], p.features.shape[1])
        descriptors = torch.empty(shape, dtype=p.features.dtype, device=p.features.device)
        problem = _records.gather_problem(view(p.features), view(p.keypoints), p.sampling)
        _C.gather_keypoints(problem, {"descriptors": descriptors.data_ptr()}, *self.where(p.features))
        return GatherResult(descriptors)

    def gather_keypoints_backward(
        self, p: GatherProblem, upstream: GatherUpstream, needs: GatherGradients[bool]
    ) -> GatherGradients[Given]:
        gradients = GatherGradients(
            empty_gradient(p.features, needs.features), empty_gradient(p.keypoints, needs.keypoints)
        )
        problem = _records.gather_problem(view(p.features), view(p.keypoints), p.sampling)
        _C.gather_keypoints_backward(problem, views(upstream), views(gradients), *self.where(p.features))
        return gradients

    def cosine_similarity(self, p: SimilarityProblem) -> SimilarityResult:
        result = empty_similarity_result(p.descriptors, p.target)
        problem = _records.similarity_problem(view(descriptor_map(p.descriptors)), view(p.target), p.metric)
        _C.cosine_similarity(problem, _named_addresses(result), *self.where(p.target))
        return result

    def cosine_similarity_backward(
        self,
        p: SimilarityProblem,
        result: SimilarityResult,
        upstream: SimilarityUpstream,
        needs: SimilarityGradients[bool],
    ) -> SimilarityGradients[Given]:
        gradients = SimilarityGradients(
            empty_gradient(p.descriptors, needs.descriptors), empty_gradient(p.target, needs.target)
        )
        as_map = None if gradients.descriptors is None else descriptor_map(gradients.descriptors)
        problem = _records.similarity_problem(view(descriptor_map(p.descriptors)), view(p.target), p.metric)
        leaving = views(gradients._replace(descriptors=as_map))
        _C.cosine_similarity_backward(
            problem, _named_addresses(result), views(upstream), leaving, *self.where(p.target)
        )
        return gradients

    def pair_scores(self, p: PairProblem) -> PairResult:
        scores = torch.empty(p.index_a.shape, dtype=accumulation_dtype(p.a), device=p.a.device)
        problem, _alive = _pair_problem(p)
        _C.pair_scores(problem, {"scores": scores.data_ptr()}, *self.where(p.a))
        return PairResult(scores)

    def pair_scores_backward(
        self, p: PairProblem, result: PairResult, upstream: PairUpstream, needs: PairGradients[bool]
    ) -> PairGradients[Given]:
        gradients = PairGradients(empty_gradient(p.a, needs.a), empty_gradient(p.b, needs.b))
        problem, _alive = _pair_problem(p)
        of_forward = {"scores": result.scores.data_ptr()}
        _C.pair_scores_backward(problem, of_forward, views(upstream), views(gradients), *self.where(p.a))
        return gradients


def _match_problem(p: MatchProblem, kept_queries: int) -> tuple[_C.MatchProblem, list[Tensor]]:
    """The problem, and the tensors to keep alive meanwhile."""
    rows, alive = native_rows(p.rows)
    problem = _records.match_problem(
        view(p.source),
        view(p.keypoints),
        view(p.target),
        rows,
        view(p.temperature),
        p.sampling,
        p.metric,
        p.localization,
        kept_queries,
    )
    return problem, alive


def _pair_problem(p: PairProblem) -> tuple[_C.PairProblem, list[Tensor]]:
    """As `_match_problem`."""
    of_a, of_b = p.index_a.contiguous(), p.index_b.contiguous()
    problem = _records.pair_problem(view(p.a), view(p.b), of_a.data_ptr(), of_b.data_ptr(), of_a.shape[1], p.metric)
    return problem, [of_a, of_b]


def _native_details(matches: Sequence[Tensor], details: DetailOptions) -> _C.Matches:
    """The record of `Matches` or `LocalizeDetails`."""
    if len(matches) == 4:
        return _records.native_matches(*addresses(matches))
    plain = _records.native_matches(*addresses(matches[:4]))
    covariance, score, peak = addresses(matches[4:7])
    return _records.native_details(
        plain,
        covariance if details.return_covariance else None,
        score if details.return_second else None,
        peak if details.return_second else None,
    )


def _match_result(result: Sequence[Tensor], details: DetailOptions) -> _C.MatchResult:
    """The record of `MatchResult` or `MatchDetails`."""
    if len(result) == 6:
        return _records.match_result(*addresses(result))
    norm, scores = addresses(result[7:])
    return {"matches": _native_details(result[:7], details), "target_norm": norm, "window_scores": scores}


def _named_addresses(result: SimilarityResult) -> _C.SimilarityResult:
    return {"scores": result.scores.data_ptr(), "target_norm": result.target_norm.data_ptr()}
