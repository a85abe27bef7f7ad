"""The operators on the compiled module: allocates the results and hands over addresses, sizes and strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from .._options import DetailOptions
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
    Rows,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    empty_localize_details,
    empty_match_details,
    empty_match_result,
    empty_matches,
    empty_similarity_result,
)
from . import _records
from ._records import _C

if TYPE_CHECKING:
    from .._C import View

_CODES = {getattr(torch, name): _records.CODES[name] for name in ("float32", "float64", "bfloat16", "float16")}


@overload
def _view(x: Tensor) -> View: ...
@overload
def _view(x: Tensor | None) -> View | None: ...
def _view(x: Tensor | None) -> View | None:
    return None if x is None else (x.data_ptr(), _CODES[x.dtype], x.shape, x.stride())


def _native_rows(rows: Rows) -> tuple[_C.Rows | None, list[Tensor]]:
    """Addresses of contiguous arrays, and the tensors to keep alive meanwhile."""
    if all(x is None for x in rows):
        return None, []
    tensors = [None if x is None else x.contiguous() for x in rows]
    addresses = [None if x is None else x.data_ptr() for x in tensors]
    return _records.native_rows(*addresses), [x for x in tensors if x is not None]


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [x.data_ptr() for x in tensors]


def _empty_gradient(x: Tensor | None, need: bool) -> Tensor | None:
    return torch.empty_like(x) if need and x is not None else None


def _empty_temperature_gradient(temperature: Tensor | None, need: bool) -> Tensor | None:
    """Of all (B, N) elements, where the temperature itself may be one number expanded."""
    if temperature is None or not need:
        return None
    return torch.empty(temperature.shape, dtype=temperature.dtype, device=temperature.device)


def _descriptor_map(descriptors: Tensor) -> Tensor:
    """(B, N, C) as the (B, C, 1, N) that the kernels read."""
    return descriptors.transpose(1, 2).unsqueeze(2)


@dataclass(frozen=True)
class Operators:
    """The functions of `Backend`, from those of the compiled module.

    where: of a tensor, the device that these run on, and what allocates its scratch memory.
    """

    where: Callable[[Tensor], tuple[_C.Device, _C.Allocate]]

    def sparse_window_match(self, p: MatchProblem) -> MatchResult:
        box = p.localization.window.box(*p.target.shape[2:])
        result = empty_match_result(p.target, p.queries, p.kept_queries, box)
        problem, _alive = _match_problem(p, p.kept_queries)
        _C.sparse_window_match(problem, _records.match_result(*_addresses(result)), *self.where(p.target))
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
        kept = [x.contiguous() for x in result]
        gradients = MatchGradients(
            _empty_gradient(p.source, needs.source),
            _empty_gradient(p.keypoints, needs.keypoints),
            _empty_gradient(p.target, needs.target),
            _empty_temperature_gradient(p.temperature, needs.temperature),
        )
        problem, _alive = _match_problem(p, result.window_scores.shape[1])
        arriving, leaving = _views(upstream), _views(gradients)
        _C.sparse_window_match_backward(
            problem, _match_result(kept, p.details), arriving, leaving, *self.where(p.target)
        )
        return gradients

    sparse_window_match_detailed_backward = sparse_window_match_backward

    def localize(self, p: LocalizeProblem) -> Matches:
        matches = empty_matches(p.scores, p.scores.shape[0], p.scores.shape[1])
        rows, _alive = _native_rows(p.rows)
        problem = _records.localize_problem(_view(p.scores), rows, _view(p.temperature), p.localization)
        _C.localize(problem, _records.native_matches(*_addresses(matches)), *self.where(p.scores))
        return matches

    def localize_detailed(self, p: LocalizeProblem) -> LocalizeDetails:
        matches = empty_localize_details(p.scores, p.scores.shape[0], p.scores.shape[1], p.details)
        rows, _alive = _native_rows(p.rows)
        problem = _records.localize_problem(_view(p.scores), rows, _view(p.temperature), p.localization)
        _C.localize(problem, _native_details(matches, p.details), *self.where(p.scores))
        return matches

    def localize_backward(
        self,
        p: LocalizeProblem,
        result: Matches | LocalizeDetails,
        upstream: AnyUpstream,
        needs: LocalizeGradients[bool],
    ) -> LocalizeGradients[Given]:
        kept = [x.contiguous() for x in result]
        gradients = LocalizeGradients(
            _empty_gradient(p.scores, needs.scores), _empty_temperature_gradient(p.temperature, needs.temperature)
        )
        rows, _alive = _native_rows(p.rows)
        problem = _records.localize_problem(_view(p.scores), rows, _view(p.temperature), p.localization)
        matches, arriving, leaving = _native_details(kept, p.details), _views(upstream), _views(gradients)
        _C.localize_backward(problem, matches, arriving, leaving, *self.where(p.scores))
        return gradients

    localize_detailed_backward = localize_backward

    def gather_keypoints(self, p: GatherProblem) -> GatherResult:
        shape = (p.features.shape[0], p.keypoints.shape[1], p.features.shape[1])
        descriptors = torch.empty(shape, dtype=p.features.dtype, device=p.features.device)
        problem = _records.gather_problem(_view(p.features), _view(p.keypoints), p.sampling)
        _C.gather_keypoints(problem, {"descriptors": descriptors.data_ptr()}, *self.where(p.features))
        return GatherResult(descriptors)

    def gather_keypoints_backward(
        self, p: GatherProblem, upstream: GatherUpstream, needs: GatherGradients[bool]
    ) -> GatherGradients[Given]:
        gradients = GatherGradients(
            _empty_gradient(p.features, needs.features), _empty_gradient(p.keypoints, needs.keypoints)
        )
        problem = _records.gather_problem(_view(p.features), _view(p.keypoints), p.sampling)
        _C.gather_keypoints_backward(problem, _views(upstream), _views(gradients), *self.where(p.features))
        return gradients

    def cosine_similarity(self, p: SimilarityProblem) -> SimilarityResult:
        result = empty_similarity_result(p.descriptors, p.target)
        problem = _records.similarity_problem(_view(_descriptor_map(p.descriptors)), _view(p.target), p.metric)
        _C.cosine_similarity(problem, _named_addresses(result), *self.where(p.target))
        return result

    def cosine_similarity_backward(
        self,
        p: SimilarityProblem,
        result: SimilarityResult,
        upstream: SimilarityUpstream,
        needs: SimilarityGradients[bool],
    ) -> SimilarityGradients[Given]:
        kept = SimilarityResult(*(x.contiguous() for x in result))
        gradients = SimilarityGradients(
            _empty_gradient(p.descriptors, needs.descriptors), _empty_gradient(p.target, needs.target)
        )
        as_map = None if gradients.descriptors is None else _descriptor_map(gradients.descriptors)
        problem = _records.similarity_problem(_view(_descriptor_map(p.descriptors)), _view(p.target), p.metric)
        leaving = _views(gradients._replace(descriptors=as_map))
        _C.cosine_similarity_backward(problem, _named_addresses(kept), _views(upstream), leaving, *self.where(p.target))
        return gradients


def _match_problem(p: MatchProblem, kept_queries: int) -> tuple[_C.MatchProblem, list[Tensor]]:
    """The problem, and the tensors to keep alive meanwhile."""
    rows, alive = _native_rows(p.rows)
    problem = _records.match_problem(
        _view(p.source),
        _view(p.keypoints),
        _view(p.target),
        rows,
        _view(p.temperature),
        p.sampling,
        p.metric,
        p.localization,
        kept_queries,
    )
    return problem, alive


def _native_details(matches: Sequence[Tensor], details: DetailOptions) -> _C.Matches:
    """The record of `Matches` or `LocalizeDetails`."""
    if len(matches) == 4:
        return _records.native_matches(*_addresses(matches))
    plain = _records.native_matches(*_addresses(matches[:4]))
    covariance, score, peak = _addresses(matches[4:7])
    return _records.native_details(
        plain,
        covariance if details.return_covariance else None,
        score if details.return_second else None,
        peak if details.return_second else None,
    )


def _match_result(result: Sequence[Tensor], details: DetailOptions) -> _C.MatchResult:
    """The record of `MatchResult` or `MatchDetails`."""
    if len(result) == 6:
        return _records.match_result(*_addresses(result))
    norm, scores = _addresses(result[7:])
    return {"matches": _native_details(result[:7], details), "target_norm": norm, "window_scores": scores}


def _views(tensors: Any) -> Any:
    """A record of tensors, which the module has under the same names."""
    return {name: _view(x) for name, x in zip(tensors._fields, tensors, strict=True)}


def _named_addresses(result: SimilarityResult) -> _C.SimilarityResult:
    return {"scores": result.scores.data_ptr(), "target_norm": result.target_norm.data_ptr()}
