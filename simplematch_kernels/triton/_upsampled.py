"""`neighbour_products` and `localize_upsampled`: blocks of queries that fit the score budget, and their launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _resolved
from .._types import (
    Given,
    Matches,
    NeighbourGradients,
    NeighbourProblem,
    NeighbourResult,
    NeighbourUpstream,
    UpsampledGradients,
    UpsampledProblem,
    Upstream,
    accumulation_dtype,
    empty_matches,
)
from ..reference.similarity import denominator
from . import _arguments as to
from . import _steps
from ._blocks import part, part_of_mask, part_of_rows
from ._groups import UpsampledSizes, encode
from ._launch import ceil_div, launch
from ._step_records import LocalizeOutputs
from .localize_upsampled import (
    reduce_axis_kernel,
    sum_queries_kernel,
    upsample_kernel,
    upsampled_products_kernel,
    upsampled_terms_kernel,
)
from .neighbour_products import neighbour_products_backward_kernel, neighbour_products_kernel

_EVERY = slice(None)


def neighbour_products(p: NeighbourProblem) -> NeighbourResult:
    batch, channels, height, width = p.features.shape
    products = p.features.new_empty((batch, 5, height, width), dtype=torch.float64)
    if batch > 0:
        block = 32
        arguments = {
            "features": p.features, "products": products, "C": channels, "sizes": _sizes(0, (1, 1), (height, width)),
            "features_strides": to.map_strides(p.features), "BLOCK_M": block, "BLOCK_C": 16,
        }  # fmt: skip
        launch(neighbour_products_kernel, batch * ceil_div(height * width, block), p.features.device, arguments)
    return NeighbourResult(products)


def neighbour_products_backward(
    p: NeighbourProblem, upstream: NeighbourUpstream, needs: NeighbourGradients[bool]
) -> NeighbourGradients[Given]:
    batch, channels, height, width = p.features.shape
    gradient = torch.empty_like(p.features) if needs.features else None
    if gradient is not None and batch > 0:
        cells, block_c = 64, 16
        arguments = {
            "features": p.features, "upstream": upstream.products.contiguous(), "gradient": gradient, "C": channels,
            "sizes": _sizes(0, (1, 1), (height, width)), "features_strides": to.map_strides(p.features),
            "gradient_strides": to.map_strides(gradient), "BLOCK_M": cells, "BLOCK_C": block_c,
        }  # fmt: skip
        programs = batch * ceil_div(height * width, cells) * ceil_div(channels, block_c)
        launch(neighbour_products_backward_kernel, programs, p.features.device, arguments)
    return NeighbourGradients(gradient)


@dataclass(frozen=True, slots=True)
class _Terms:
    """Of all images: D(f) (B, h, w) for the cosine, and what the fine scores meet (B, H, W); None for dot."""

    norms: Tensor | None
    fine: Tensor | None


def localize_upsampled(p: UpsampledProblem) -> Matches:
    batch, queries = p.scores.shape[:2]
    result = empty_matches(p.scores, batch, queries)
    if batch * queries == 0:
        return result
    terms = _terms(p)
    for n in _blocks(p):
        fine = _upsample(p, terms, p.scores[:, n])
        _steps.localize(
            fine, None, part_of_rows(p.rows, _EVERY, n), part(p.temperature, _EVERY, n), p.localization,
            Matches(*(x[:, n] for x in result)), None, first_query=n.start,
        )  # fmt: skip
    return result


def localize_upsampled_backward(
    p: UpsampledProblem, result: Matches, upstream: Upstream, needs: UpsampledGradients[bool]
) -> UpsampledGradients[Given]:
    """A block's fine scores are computed again, its ds gathered to the coarse cells, and its sums over queries kept."""
    scores, dtype = p.scores, accumulation_dtype(p.scores)
    batch, queries = scores.shape[:2]
    wants_products = needs.products and p.products is not None
    scores_out = torch.empty_like(scores) if needs.scores or wants_products else None
    temperature_out = None
    if needs.temperature and p.temperature is not None:
        temperature_out = scores.new_empty((batch, queries), dtype=dtype)
    sums = _Sums(p) if wants_products else None
    if batch * queries > 0:
        terms = _terms(p)
        for n in _blocks(p):
            fine = _upsample(p, terms, scores[:, n])
            ds = torch.empty_like(fine)
            _steps.localize_backward(
                Upstream(*(part(x, _EVERY, n) for x in upstream)), fine, result.peak[:, n], p.upsample,
                part_of_mask(p.rows.target_mask, _EVERY, n), part(p.temperature, _EVERY, n), p.localization,
                LocalizeOutputs(ds, None, part(temperature_out, _EVERY, n), None), dense=True,
            )  # fmt: skip
            if scores_out is not None:
                _reduce(p, terms, ds, scores_out[:, n])
                if sums is not None:
                    sums.add(p, ds, fine, scores_out[:, n], scores[:, n], first=n.start == 0)
    products_out = None if sums is None else sums.products_gradient(p)
    return UpsampledGradients(scores_out if needs.scores else None, products_out, temperature_out)


class _Sums:
    """Over queries: of ds s of every fine and every coarse cell (cosine), or of ds of every fine cell (l2)."""

    def __init__(self, p: UpsampledProblem) -> None:
        batch = p.scores.shape[0]
        self.fine = p.scores.new_zeros((batch, *p.upsample), dtype=accumulation_dtype(p.scores))
        self.coarse = p.scores.new_zeros((batch, *p.scores.shape[2:]), dtype=torch.float64)

    def add(self, p: UpsampledProblem, ds: Tensor, fine: Tensor, given: Tensor, scores: Tensor, first: bool) -> None:
        cosine = p.metric.kind == "cosine"
        _sum_queries(ds, fine if cosine else None, self.fine, first)
        if cosine:
            _sum_queries(given, scores, self.coarse, first)

    def products_gradient(self, p: UpsampledProblem) -> Tensor:
        assert p.products is not None
        products = p.products.contiguous()
        out = torch.zeros_like(products)
        batch, queries, h, w = p.scores.shape
        if batch * queries == 0:
            return out
        squares = p.scores.new_empty((batch, *p.upsample), dtype=torch.float64)
        sizes, block = _sizes(queries, (h, w), p.upsample), 128
        common = {"sizes": sizes, "eps": p.metric.eps, "METRIC": to.metric_switches(p.metric), "BLOCK": block}
        programs = batch * ceil_div(p.upsample[0] * p.upsample[1], block)
        arguments = {"products": products, "sums": self.fine, "out": squares, **common}
        launch(upsampled_terms_kernel, programs, products.device, arguments)
        arguments = {"products": products, "squares": squares, "coarse": self.coarse, "out": out, **common}
        launch(upsampled_products_kernel, batch * ceil_div(h * w, block), products.device, arguments)
        return out


def _blocks(p: UpsampledProblem) -> Iterator[slice]:
    batch, queries = p.scores.shape[:2]
    fine = batch * p.upsample[0] * p.upsample[1] * accumulation_dtype(p.scores).itemsize
    most = _resolved.queries_within_budget(fine)
    for start in range(0, queries, most):
        yield slice(start, min(queries, start + most))


def _sizes(queries: int, coarse: tuple[int, int], fine: tuple[int, int]) -> UpsampledSizes:
    return UpsampledSizes(encode(queries), *(encode(side) for side in (*coarse, *fine)))


def _sizes_of(p: UpsampledProblem, queries: int) -> UpsampledSizes:
    return _sizes(queries, (p.scores.shape[2], p.scores.shape[3]), p.upsample)


def _terms(p: UpsampledProblem) -> _Terms:
    if p.products is None:
        return _Terms(None, None)
    dtype = accumulation_dtype(p.scores)
    norms = None
    if p.metric.kind == "cosine":
        norms = denominator(p.products[:, 0].sqrt(), p.metric).to(dtype).contiguous()
    batch, block = p.scores.shape[0], 128
    fine = p.scores.new_empty((batch, *p.upsample), dtype=dtype)
    arguments = {
        "products": p.products.contiguous(), "sums": None, "out": fine, "sizes": _sizes_of(p, 0), "eps": p.metric.eps,
        "METRIC": to.metric_switches(p.metric), "BLOCK": block,
    }  # fmt: skip
    launch(upsampled_terms_kernel, batch * ceil_div(p.upsample[0] * p.upsample[1], block), fine.device, arguments)
    return _Terms(norms, fine)


def _upsample(p: UpsampledProblem, terms: _Terms, scores: Tensor) -> Tensor:
    """Fine scores (B, K, H, W) of some queries."""
    batch, queries = scores.shape[:2]
    fine = scores.new_empty((batch, queries, *p.upsample), dtype=accumulation_dtype(scores))
    block = 256
    arguments = {
        "scores": scores, "norms": terms.norms, "terms": terms.fine, "out": fine, "sizes": _sizes_of(p, queries),
        "scores_strides": to.score_strides(scores), "METRIC": to.metric_switches(p.metric), "BLOCK": block,
    }  # fmt: skip
    programs = batch * queries * ceil_div(p.upsample[0] * p.upsample[1], block)
    launch(upsample_kernel, programs, scores.device, arguments)
    return fine


def _reduce(p: UpsampledProblem, terms: _Terms, ds: Tensor, out: Tensor) -> None:
    """The gradient of the coarse scores from that of the fine ones: first along the rows, then along the columns."""
    batch, queries, height, _ = ds.shape
    h, w = out.shape[2:]
    narrow = ds.new_empty((batch, queries, height, w))
    factors = terms.fine if p.metric.kind == "cosine" else None
    sizes, block = _sizes_of(p, queries), 128
    steps: tuple[tuple[dict[str, Any], int], ...] = (
        ({"given": ds, "factors": factors, "out": narrow, "out_factors": None, "ROWS": False}, height * w),
        ({"given": narrow, "factors": None, "out": out, "out_factors": terms.norms, "ROWS": True}, h * w),
    )
    for step, cells in steps:
        arguments = {**step, "sizes": sizes, "out_strides": to.score_strides(step["out"]), "BLOCK": block}
        launch(reduce_axis_kernel, batch * queries * ceil_div(cells, block), ds.device, arguments)


def _sum_queries(gradient: Tensor, scores: Tensor | None, sums: Tensor, first: bool) -> None:
    batch, queries, height, width = gradient.shape
    block = 128
    arguments = {
        "gradient": gradient, "scores": scores, "sums": sums, "sizes": _sizes(queries, (1, 1), (height, width)),
        "gradient_strides": to.score_strides(gradient),
        "scores_strides": to.score_strides(gradient if scores is None else scores), "FIRST": first, "BLOCK": block,
    }  # fmt: skip
    launch(sum_queries_kernel, batch * ceil_div(height * width, block), gradient.device, arguments)
