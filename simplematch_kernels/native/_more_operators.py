"""The operators beside a match and its steps, on the compiled module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from .._types import (
    CorrelationGradients,
    CorrelationProblem,
    CorrelationResult,
    CorrelationUpstream,
    CrossEntropyProblem,
    CrossEntropyResult,
    CrossEntropyUpstream,
    Given,
    MatchAllGradients,
    MatchAllProblem,
    MatchAllResult,
    MatchAllUpstream,
    Matches,
    MatchGradients,
    NeighbourGradients,
    NeighbourProblem,
    NeighbourResult,
    NeighbourUpstream,
    UpsampledGradients,
    UpsampledProblem,
    Upstream,
    accumulation_dtype,
    empty_cross_entropy_result,
    empty_match_all_result,
    empty_matches,
)
from . import _records
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
class MoreOperators:
    """The functions of `Backend` but for those of `Operators`.

    where: of a tensor, the device that these run on, and what allocates its scratch memory.
    """

    where: Callable[[Tensor], tuple[_C.Device, _C.Allocate]]

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
            empty_gradient(p.queries, needs.queries),
            empty_gradient(p.target, needs.target),
            empty_gradient(p.coords, needs.coords),
        )
        problem, _alive = _correlation_problem(p)
        _C.local_correlation_backward(problem, views(upstream), views(gradients), *self.where(p.target))
        return gradients

    def neighbour_products(self, p: NeighbourProblem) -> NeighbourResult:
        batch, _, height, width = p.features.shape
        products = torch.empty((batch, 5, height, width), dtype=torch.float64, device=p.features.device)
        problem, result = {"features": view(p.features)}, {"products": products.data_ptr()}
        _C.neighbour_products(problem, result, *self.where(p.features))
        return NeighbourResult(products)

    def neighbour_products_backward(
        self, p: NeighbourProblem, upstream: NeighbourUpstream, needs: NeighbourGradients[bool]
    ) -> NeighbourGradients[Given]:
        gradients = NeighbourGradients(empty_gradient(p.features, needs.features))
        products = upstream.products.contiguous()
        problem, arriving = {"features": view(p.features)}, {"products": products.data_ptr()}
        _C.neighbour_products_backward(problem, arriving, views(gradients), *self.where(p.features))
        return gradients

    def localize_upsampled(self, p: UpsampledProblem) -> Matches:
        matches = empty_matches(p.scores, p.scores.shape[0], p.scores.shape[1])
        problem, _alive = _upsampled_problem(p)
        _C.localize_upsampled(problem, _records.native_matches(*addresses(matches)), *self.where(p.scores))
        return matches

    def localize_upsampled_backward(
        self, p: UpsampledProblem, result: Matches, upstream: Upstream, needs: UpsampledGradients[bool]
    ) -> UpsampledGradients[Given]:
        products = None if p.products is None or not needs.products else p.products.new_empty(p.products.shape)
        gradients = UpsampledGradients(
            empty_gradient(p.scores, needs.scores),
            products,
            empty_temperature_gradient(p.temperature, needs.temperature),
        )
        leaving = {
            "scores": view(gradients.scores),
            "products": None if products is None else products.data_ptr(),
            "temperature": view(gradients.temperature),
        }
        problem, _alive = _upsampled_problem(p)
        matches = _records.native_matches(*addresses(result))
        _C.localize_upsampled_backward(problem, matches, views(upstream), leaving, *self.where(p.scores))
        return gradients

    def match_all(self, p: MatchAllProblem) -> MatchAllResult:
        result = empty_match_all_result(p.a, p.b, p.log_sum_exp, p.second)
        problem, _alive = _match_all_problem(p)
        _C.match_all(problem, _wanted_addresses(result, p), *self.where(p.a))
        return result

    def match_all_backward(
        self, p: MatchAllProblem, result: MatchAllResult, upstream: MatchAllUpstream, needs: MatchAllGradients[bool]
    ) -> MatchAllGradients[Given]:
        if not p.log_sum_exp:
            upstream = upstream._replace(log_sum_exp_a=None, log_sum_exp_b=None)
        inputs = (p.a, p.b, p.temperature, p.bin_score)
        gradients = MatchAllGradients(*(empty_gradient(x, need) for x, need in zip(inputs, needs, strict=True)))
        problem, _alive = _match_all_problem(p)
        arriving, leaving = views(upstream), views(gradients)
        _C.match_all_backward(problem, _wanted_addresses(result, p), arriving, leaving, *self.where(p.a))
        return gradients

    def sparse_match_cross_entropy(self, p: CrossEntropyProblem) -> CrossEntropyResult:
        result = empty_cross_entropy_result(p.target, p.target_keypoints.shape[1])
        problem, _alive = _cross_entropy_problem(p)
        into = _records.cross_entropy_result(*addresses(result))
        _C.sparse_match_cross_entropy(problem, into, *self.where(p.target))
        return result

    def sparse_match_cross_entropy_backward(
        self,
        p: CrossEntropyProblem,
        result: CrossEntropyResult,
        upstream: CrossEntropyUpstream,
        needs: MatchGradients[bool],
    ) -> MatchGradients[Given]:
        gradients = empty_match_gradients(p, needs)
        problem, _alive = _cross_entropy_problem(p)
        of_forward = _records.cross_entropy_result(*addresses(result))
        _C.sparse_match_cross_entropy_backward(
            problem, of_forward, views(upstream), views(gradients), *self.where(p.target)
        )
        return gradients


def _match_all_problem(p: MatchAllProblem) -> tuple[_C.MatchAllProblem, list[Tensor]]:
    """The problem, and the tensors to keep alive meanwhile."""
    (rows_a, alive_a), (rows_b, alive_b) = native_rows(p.rows.of_a), native_rows(p.rows.of_b)
    problem = _records.match_all_problem(
        view(p.a), view(p.b), view(p.temperature), view(p.bin_score), rows_a, rows_b, p.metric,
        p.fixed_temperature, p.fixed_bin_score,
    )  # fmt: skip
    return problem, alive_a + alive_b


def _wanted_addresses(result: MatchAllResult, p: MatchAllProblem) -> _C.MatchAllResult:
    found: dict[str, int | None] = {name: x.data_ptr() for name, x in zip(result._fields, result, strict=True)}
    for name, wanted in (("log_sum_exp", p.log_sum_exp), ("second", p.second)):
        if not wanted:
            found[f"{name}_a"] = found[f"{name}_b"] = None
    return cast("_C.MatchAllResult", found)


def _cross_entropy_problem(p: CrossEntropyProblem) -> tuple[_C.CrossEntropyProblem, list[Tensor]]:
    """As `_match_problem`."""
    rows, alive = native_rows(p.rows)
    tensors = view(p.source), view(p.keypoints), view(p.target), view(p.target_keypoints)
    options = p.sampling, p.metric, p.truth
    return _records.cross_entropy_problem(*tensors, rows, view(p.temperature), *options), alive


def _upsampled_problem(p: UpsampledProblem) -> tuple[_C.UpsampledProblem, list[Tensor]]:
    """As `_match_problem`."""
    rows, alive = native_rows(p.rows)
    products = None if p.products is None else p.products.contiguous()
    if products is not None:
        alive.append(products)
    address = None if products is None else products.data_ptr()
    problem = _records.upsampled_problem(
        view(p.scores), address, rows, view(p.temperature), p.upsample, p.metric, p.localization
    )
    return problem, alive


def _correlation_problem(p: CorrelationProblem) -> tuple[_C.CorrelationProblem, list[Tensor]]:
    """The problem, and the tensors to keep alive meanwhile."""
    rows, alive = native_rows(p.rows)
    tensors = (view(p.queries), view(p.target), view(p.coords), view(p.offsets))
    return _records.correlation_problem(*tensors, rows, p.sampling, p.metric, p.radius, p.scale), alive
