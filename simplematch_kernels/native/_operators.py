"""The operators on the compiled module: allocates the results and hands over addresses, sizes and strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor

from .._options import DetailOptions
from .._types import (
    AnyUpstream,
    CorrelationGradients,
    CorrelationProblem,
    CorrelationResult,
    CorrelationUpstream,
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
    MatchAllGradients,
    MatchAllProblem,
    MatchAllResult,
    MatchAllUpstream,
    MatchDetails,
    Matches,
    MatchGradients,
    MatchProblem,
    MatchResult,
    NeighbourGradients,
    NeighbourProblem,
    NeighbourResult,
    NeighbourUpstream,
    PairGradients,
    PairProblem,
    PairResult,
    PairUpstream,
    Rows,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    UpsampledGradients,
    UpsampledProblem,
    Upstream,
    accumulation_dtype,
    empty_cross_entropy_result,
    empty_localize_details,
    empty_match_all_result,
    empty_match_details,
    empty_match_result,
    empty_matches,
    empty_similarity_result,
)
from ..reference import pair_scores as pairs
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
    if rows.num_keypoints is None and rows.valid is None and rows.target_mask is None:
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
        kept = type(result)(*(x.contiguous() for x in result))
        gradients = _empty_match_gradients(p, needs)
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

    def local_correlation(self, p: CorrelationProblem) -> CorrelationResult:
        samples = (2 * p.radius[0] + 1) * (2 * p.radius[1] + 1) if p.offsets is None else p.offsets.shape[1]
        shape = (p.coords.shape[0], p.coords.shape[1], samples)
        correlation = torch.empty(shape, dtype=accumulation_dtype(p.target), device=p.target.device)
        problem, _alive = _correlation_problem(p)
        _C.local_correlation(problem, {"correlation": correlation.data_ptr()}, *self.where(p.target))
        return CorrelationResult(correlation)

    def local_correlation_backward(
        self, p: CorrelationProblem, upstream: CorrelationUpstream, needs: CorrelationGradients[bool]
    ) -> CorrelationGradients[Given]:
        gradients = CorrelationGradients(
            _empty_gradient(p.queries, needs.queries),
            _empty_gradient(p.target, needs.target),
            _empty_gradient(p.coords, needs.coords),
        )
        problem, _alive = _correlation_problem(p)
        _C.local_correlation_backward(problem, _views(upstream), _views(gradients), *self.where(p.target))
        return gradients

    def neighbour_products(self, p: NeighbourProblem) -> NeighbourResult:
        batch, _, height, width = p.features.shape
        products = torch.empty((batch, 5, height, width), dtype=torch.float64, device=p.features.device)
        problem, result = {"features": _view(p.features)}, {"products": products.data_ptr()}
        _C.neighbour_products(problem, result, *self.where(p.features))
        return NeighbourResult(products)

    def neighbour_products_backward(
        self, p: NeighbourProblem, upstream: NeighbourUpstream, needs: NeighbourGradients[bool]
    ) -> NeighbourGradients[Given]:
        gradients = NeighbourGradients(_empty_gradient(p.features, needs.features))
        products = upstream.products.contiguous()
        problem, arriving = {"features": _view(p.features)}, {"products": products.data_ptr()}
        _C.neighbour_products_backward(problem, arriving, _views(gradients), *self.where(p.features))
        return gradients

    def localize_upsampled(self, p: UpsampledProblem) -> Matches:
        matches = empty_matches(p.scores, p.scores.shape[0], p.scores.shape[1])
        problem, _alive = _upsampled_problem(p)
        _C.localize_upsampled(problem, _records.native_matches(*_addresses(matches)), *self.where(p.scores))
        return matches

    def localize_upsampled_backward(
        self, p: UpsampledProblem, result: Matches, upstream: Upstream, needs: UpsampledGradients[bool]
    ) -> UpsampledGradients[Given]:
        kept = [x.contiguous() for x in result]
        products = None if p.products is None or not needs.products else p.products.new_empty(p.products.shape)
        gradients = UpsampledGradients(
            _empty_gradient(p.scores, needs.scores),
            products,
            _empty_temperature_gradient(p.temperature, needs.temperature),
        )
        leaving = {
            "scores": _view(gradients.scores),
            "products": None if products is None else products.data_ptr(),
            "temperature": _view(gradients.temperature),
        }
        problem, _alive = _upsampled_problem(p)
        matches = _records.native_matches(*_addresses(kept))
        _C.localize_upsampled_backward(problem, matches, _views(upstream), leaving, *self.where(p.scores))
        return gradients

    def match_all(self, p: MatchAllProblem) -> MatchAllResult:
        result = empty_match_all_result(p.a, p.b, p.log_sum_exp, p.second)
        problem, _alive = _match_all_problem(p)
        _C.match_all(problem, _wanted_addresses(result, p), *self.where(p.a))
        return result

    def match_all_backward(
        self, p: MatchAllProblem, result: MatchAllResult, upstream: MatchAllUpstream, needs: MatchAllGradients[bool]
    ) -> MatchAllGradients[Given]:
        kept = MatchAllResult(*(x.contiguous() for x in result))
        if not p.log_sum_exp:
            upstream = upstream._replace(log_sum_exp_a=None, log_sum_exp_b=None)
        inputs = (p.a, p.b, p.temperature, p.bin_score)
        gradients = MatchAllGradients(*(_empty_gradient(x, need) for x, need in zip(inputs, needs, strict=True)))
        problem, _alive = _match_all_problem(p)
        arriving, leaving = _views(upstream), _views(gradients)
        _C.match_all_backward(problem, _wanted_addresses(kept, p), arriving, leaving, *self.where(p.a))
        return gradients

    def pair_scores(self, p: PairProblem) -> PairResult:
        return pairs.pair_scores(p, self)

    def pair_scores_backward(
        self, p: PairProblem, result: PairResult, upstream: PairUpstream, needs: PairGradients[bool]
    ) -> PairGradients[Given]:
        return pairs.pair_scores_backward(p, result, upstream, needs, self)

    def sparse_match_cross_entropy(self, p: CrossEntropyProblem) -> CrossEntropyResult:
        result = empty_cross_entropy_result(p.target, p.target_keypoints.shape[1])
        problem, _alive = _cross_entropy_problem(p)
        into = _records.cross_entropy_result(*_addresses(result))
        _C.sparse_match_cross_entropy(problem, into, *self.where(p.target))
        return result

    def sparse_match_cross_entropy_backward(
        self,
        p: CrossEntropyProblem,
        result: CrossEntropyResult,
        upstream: CrossEntropyUpstream,
        needs: MatchGradients[bool],
    ) -> MatchGradients[Given]:
        kept = [x.contiguous() for x in result]
        gradients = _empty_match_gradients(p, needs)
        problem, _alive = _cross_entropy_problem(p)
        of_forward = _records.cross_entropy_result(*_addresses(kept))
        _C.sparse_match_cross_entropy_backward(
            problem, of_forward, _views(upstream), _views(gradients), *self.where(p.target)
        )
        return gradients


def _match_all_problem(p: MatchAllProblem) -> tuple[_C.MatchAllProblem, list[Tensor]]:
    """The problem, and the tensors to keep alive meanwhile."""
    (rows_a, alive_a), (rows_b, alive_b) = _native_rows(p.rows.of_a), _native_rows(p.rows.of_b)
    problem = _records.match_all_problem(
        _view(p.a), _view(p.b), _view(p.temperature), _view(p.bin_score), rows_a, rows_b, p.metric,
        p.fixed_temperature, p.fixed_bin_score,
    )  # fmt: skip
    return problem, alive_a + alive_b


def _wanted_addresses(result: MatchAllResult, p: MatchAllProblem) -> _C.MatchAllResult:
    addresses: dict[str, int | None] = {name: x.data_ptr() for name, x in zip(result._fields, result, strict=True)}
    for name, wanted in (("log_sum_exp", p.log_sum_exp), ("second", p.second)):
        if not wanted:
            addresses[f"{name}_a"] = addresses[f"{name}_b"] = None
    return cast("_C.MatchAllResult", addresses)


def _empty_match_gradients(p: MatchProblem | CrossEntropyProblem, needs: MatchGradients[bool]) -> MatchGradients[Given]:
    return MatchGradients(
        _empty_gradient(p.source, needs.source),
        _empty_gradient(p.keypoints, needs.keypoints),
        _empty_gradient(p.target, needs.target),
        _empty_temperature_gradient(p.temperature, needs.temperature),
    )


def _cross_entropy_problem(p: CrossEntropyProblem) -> tuple[_C.CrossEntropyProblem, list[Tensor]]:
    """As `_match_problem`."""
    rows, alive = _native_rows(p.rows)
    tensors = _view(p.source), _view(p.keypoints), _view(p.target), _view(p.target_keypoints)
    options = p.sampling, p.metric, p.truth
    return _records.cross_entropy_problem(*tensors, rows, _view(p.temperature), *options), alive


def _upsampled_problem(p: UpsampledProblem) -> tuple[_C.UpsampledProblem, list[Tensor]]:
    """As `_match_problem`."""
    rows, alive = _native_rows(p.rows)
    products = None if p.products is None else p.products.contiguous()
    if products is not None:
        alive.append(products)
    address = None if products is None else products.data_ptr()
    problem = _records.upsampled_problem(
        _view(p.scores), address, rows, _view(p.temperature), p.upsample, p.metric, p.localization
    )
    return problem, alive


def _correlation_problem(p: CorrelationProblem) -> tuple[_C.CorrelationProblem, list[Tensor]]:
    """The problem, and the tensors to keep alive meanwhile."""
    rows, alive = _native_rows(p.rows)
    views = (_view(p.queries), _view(p.target), _view(p.coords), _view(p.offsets))
    return _records.correlation_problem(*views, rows, p.sampling, p.metric, p.radius, p.scale), alive


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
