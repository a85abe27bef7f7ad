"""Scores of a map that is read as if it had been upsampled bilinearly, and their localisation.

With the coarse cells i around a fine cell m and their weights w, the upsampled map is (U f)_m = sum_i w_i f_i, and

    dot:     s_m = sum_i w_i s_i
    cosine:  s_m = sum_i w_i D(f_i) s_i / D((U f)_m)
    l2:      s_m = sum_i w_i s_i + sum_i w_i |f_i|^2 - |(U f)_m|^2
    |(U f)_m|^2 = sum_ij w_i w_j <f_i, f_j>

so the scores s_i of the coarse cells and the products of a cell and its neighbours are enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._resolved import Metric
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
)
from . import localize as localization_step
from . import tangents
from .similarity import denominator

PAIRS = (((0, 0), (0, 0)), ((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 0), (1, 1)), ((0, 1), (1, 0)))
"""Which cells each of the five products of cell (y, x) multiplies: two offsets (dy, dx) each."""


class Axis(NamedTuple):
    """The two coarse cells around each fine one of an axis, and the weight of the higher; the lower has the rest."""

    low: Tensor
    high: Tensor
    weight: Tensor
    cells: int


def axis(cells: int, fine: int, device: torch.device) -> Axis:
    """x = (j + 1/2) cells / fine - 1/2, clamped to the map; in integers, so that every backend has the same weights."""
    numerator = ((2 * torch.arange(fine, device=device) + 1) * cells - fine).clamp(0, (cells - 1) * 2 * fine)
    low = numerator // (2 * fine)
    return Axis(low, (low + 1).clamp(max=cells - 1), (numerator % (2 * fine)).double() / (2 * fine), cells)


def interpolate(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x (..., h, w) at H x W. A cell of weight zero isn't read, so what it holds doesn't matter."""
    rows, columns = (axis(x.shape[dim], size[dim], x.device) for dim in (-2, -1))
    return _read(_read(x, _linear(rows), -2), _linear(columns), -1)


def spread(gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """The transpose of `interpolate`: dL/dx (..., h, w) from a gradient (..., H, W)."""
    rows, columns = (axis(size[dim], gradient.shape[dim], gradient.device) for dim in (-2, -1))
    return _write(_write(gradient, _linear(rows), -2, size[-2]), _linear(columns), -1, size[-1])


Weights = list[tuple[Tensor, Tensor]]
"""Pairs of cells and their weights, one of each for a fine cell."""


def _linear(a: Axis) -> Weights:
    return [(a.low, 1 - a.weight), (a.high, a.weight)]


def _squares(a: Axis) -> Weights:
    return [(cells, weight**2) for cells, weight in _linear(a)]


def _mixed(a: Axis) -> Weights:
    return [(a.low, a.weight * (1 - a.weight))]


def _read(x: Tensor, weights: Weights, dim: int) -> Tensor:
    total = x.new_zeros(())
    for cells, weight in weights:
        weight = weight.to(x.dtype) if dim == -1 else weight.to(x.dtype)[:, None]
        total = total + torch.where(weight == 0, 0, weight * x.index_select(dim, cells))
    return total


def _write(gradient: Tensor, weights: Weights, dim: int, cells_of_axis: int) -> Tensor:
    shape = [*gradient.shape]
    shape[dim] = cells_of_axis
    total = gradient.new_zeros(shape)
    for cells, weight in weights:
        weight = weight.to(gradient.dtype) if dim == -1 else weight.to(gradient.dtype)[:, None]
        part = torch.where((weight == 0) | (gradient == 0), 0, weight * gradient)
        total.movedim(dim, 0).index_put_(
            (cells,), part.movedim(dim, 0), accumulate=True
        )  # not by atomics, on no device
    return total


def _terms(
    size: tuple[int, int], fine: tuple[int, int], device: torch.device
) -> Iterator[tuple[int, Weights, Weights]]:
    """(product, weights of rows, weights of columns) of the square norm; mixed products count twice."""
    rows, columns = axis(size[0], fine[0], device), axis(size[1], fine[1], device)
    twice = [(cells, 2 * weight) for cells, weight in _mixed(columns)]
    yield 0, _squares(rows), _squares(columns)
    yield 1, _squares(rows), twice
    yield 2, [(cells, 2 * weight) for cells, weight in _mixed(rows)], _squares(columns)
    yield 3, _mixed(rows), twice
    yield 4, _mixed(rows), twice


def square_norms(products: Tensor, fine: tuple[int, int]) -> Tensor:
    """|U f|^2 (B, H, W) from products (B, 5, h, w)."""
    return _quadratic_form(products, fine).clamp(min=0)


def _quadratic_form(products: Tensor, fine: tuple[int, int]) -> Tensor:
    size, total = (products.shape[-2], products.shape[-1]), products.new_zeros(())
    for product, rows, columns in _terms(size, fine, products.device):
        total = total + _read(_read(products[:, product], rows, -2), columns, -1)
    return total


def _square_norms_backward(gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """dL/dproducts (B, 5, h, w) from dL/d|U f|^2 (B, H, W)."""
    found = gradient.new_zeros((gradient.shape[0], 5, *size))
    for product, rows, columns in _terms(size, (gradient.shape[-2], gradient.shape[-1]), gradient.device):
        found[:, product] = _write(_write(gradient, rows, -2, size[0]), columns, -1, size[1])
    return found


def _shifted(x: Tensor, offset: tuple[int, int], other: tuple[int, int]) -> Tensor:
    """x (..., h, w) at (y, x) + offset, for the cells (y, x) where that and (y, x) + other are in the map."""
    height, width = x.shape[-2:]
    rows, columns = height - max(offset[0], other[0]), width - max(offset[1], other[1])
    return x[..., offset[0] : offset[0] + rows, offset[1] : offset[1] + columns]


def neighbour_products(p: NeighbourProblem) -> NeighbourResult:
    """products[k, y, x] = <f at (y, x) + first offset, f at (y, x) + second offset>, see `PAIRS`."""
    features, products = p.features.double(), []
    for first, second in PAIRS:
        found = (_shifted(features, first, second) * _shifted(features, second, first)).sum(1)
        missing = max(first[1], second[1]), max(first[0], second[0])  # columns and rows, at the end
        products.append(F.pad(found, (0, missing[0], 0, missing[1])))
    return NeighbourResult(torch.stack(products, 1))


def neighbour_products_backward(
    p: NeighbourProblem, upstream: NeighbourUpstream, needs: NeighbourGradients[bool]
) -> NeighbourGradients[Given]:
    if not needs.features:
        return NeighbourGradients(None)
    features, gradient = p.features.double(), torch.zeros_like(p.features, dtype=torch.float64)
    for k, (first, second) in enumerate(PAIRS):
        a, b = _shifted(features, first, second), _shifted(features, second, first)
        g = upstream.products[:, k, None, : a.shape[2], : a.shape[3]]
        _shifted(gradient, first, second).add_(torch.where(g == 0, 0, g * b))
        _shifted(gradient, second, first).add_(torch.where(g == 0, 0, g * a))
    return NeighbourGradients(torch.empty_like(p.features).copy_(gradient))


def neighbour_products_jvp(p: NeighbourProblem, tangents: NeighbourGradients[Given]) -> NeighbourUpstream:
    assert tangents.features is not None
    features, moved = p.features.double(), tangents.features.double()
    products = features.new_zeros((features.shape[0], 5, *features.shape[2:]))
    for k, (first, second) in enumerate(PAIRS):
        found = _shifted(features, first, second) * _shifted(moved, second, first)
        found = (found + _shifted(moved, first, second) * _shifted(features, second, first)).sum(1)
        products[:, k, : found.shape[1], : found.shape[2]] = found
    return NeighbourUpstream(products)


class _Norms(NamedTuple):
    """Of the coarse (B, h, w) and of the fine cells (B, H, W), float64; empty for the metric "dot"."""

    coarse: Tensor
    fine: Tensor

    def divisors(self, metric: Metric, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """D of both, for every query."""
        return denominator(self.coarse, metric).to(dtype)[:, None], denominator(self.fine, metric).to(dtype)[:, None]


def _norms(p: UpsampledProblem) -> _Norms:
    if p.products is None:
        nothing = p.scores.new_zeros(0, dtype=torch.float64)
        return _Norms(nothing, nothing)
    return _Norms(p.products[:, 0].sqrt(), square_norms(p.products, p.upsample).sqrt())


def fine_scores(p: UpsampledProblem, norms: _Norms) -> Tensor:
    """(B, N, H, W)."""
    scores = p.scores.to(accumulation_dtype(p.scores))
    if p.products is None:
        return interpolate(scores, p.upsample)
    if p.metric.kind == "cosine":
        coarse, fine = norms.divisors(p.metric, scores.dtype)
        return interpolate(scores * coarse, p.upsample) / fine
    upsampled = interpolate(scores, p.upsample)
    spread_out = (interpolate(p.products[:, 0], p.upsample) - norms.fine**2).to(scores.dtype)[:, None]
    return torch.where(upsampled.isfinite(), (upsampled + spread_out).clamp(max=0), upsampled)


def localize_upsampled(p: UpsampledProblem) -> Matches:
    return localization_step.localize(fine_scores(p, _norms(p)), p.rows, p.temperature, p.localization)


def localize_upsampled_backward(
    p: UpsampledProblem, result: Matches, upstream: Upstream, needs: UpsampledGradients[bool]
) -> UpsampledGradients[Given]:
    """From ds (B, N, H, W) of the fine scores; a ds of zero has no part in any sum.

    cosine:  ds_i = D(f_i) dt_i, dt_i = sum_m w_i ds_m / D((U f)_m)   dD(f_i) = sum_n dt_i s_i
             dD((U f)_m) = -sum_n ds_m s_m / D((U f)_m)
    l2:      ds_i = sum_m w_i ds_m, and sum_n ds_m arrives at sum_i w_i |f_i|^2 - |(U f)_m|^2
    """
    norms = _norms(p)
    fine = fine_scores(p, norms)
    ds, d_temperature = localization_step.localize_backward(
        upstream, result, fine, p.rows, p.temperature, p.localization
    )
    ds = ds.view(fine.shape)
    d_temperature_or_none = d_temperature if needs.temperature else None
    size = (p.scores.shape[-2], p.scores.shape[-1])
    if p.products is None or p.metric.kind != "cosine":
        d_products = None if p.products is None else _variance_backward(ds.double().sum(1), size)
        d_scores = spread(ds, size)
    else:
        scores = p.scores.to(fine.dtype)
        of_coarse, of_fine = norms.divisors(p.metric, fine.dtype)
        dt = spread(torch.where(ds == 0, 0, ds / of_fine), size)
        d_scores = torch.where(dt == 0, 0, dt * of_coarse)
        d_coarse = torch.where(dt == 0, 0, dt * scores).double().sum(1)
        d_fine = -torch.where(ds == 0, 0, ds * fine / of_fine).double().sum(1)
        d_products = _square_norms_backward(_of_square(d_fine, norms.fine, p.metric), size)
        d_products[:, 0] += _of_square(d_coarse, norms.coarse, p.metric)
    return UpsampledGradients(
        torch.empty_like(p.scores).copy_(d_scores) if needs.scores else None,
        d_products if needs.products else None,
        d_temperature_or_none,
    )


def _variance_backward(gradient: Tensor, size: tuple[int, int]) -> Tensor:
    d_products = _square_norms_backward(-gradient, size)
    d_products[:, 0] += spread(gradient, size)
    return d_products


def _of_square(gradient: Tensor, norms: Tensor, metric: Metric) -> Tensor:
    """dL/d|x|^2 from dL/dD(x); 0 where D is constant, and at the zero vector."""
    moves = (norms >= metric.eps) & (norms > 0) if metric.clamp_eps else norms > 0
    return torch.where(
        moves & (gradient != 0), gradient / torch.where(moves, 2 * norms, 1), torch.where(gradient.isnan(), gradient, 0)
    )


def localize_upsampled_jvp(p: UpsampledProblem, result: Matches, moved: UpsampledGradients[Given]) -> Upstream:
    norms = _norms(p)
    fine = fine_scores(p, norms)
    dtype = fine.dtype
    d_scores = torch.zeros_like(p.scores, dtype=dtype) if moved.scores is None else moved.scores.to(dtype)
    if p.products is None:
        ds = interpolate(d_scores, p.upsample)
    else:
        d_products = torch.zeros_like(p.products) if moved.products is None else moved.products
        ds = _of_fine_scores(p, norms, fine, d_scores, d_products)
    return Upstream(*tangents.of_matches(fine, ds.flatten(2), p, result, moved.temperature)[:3])


def _of_fine_scores(p: UpsampledProblem, norms: _Norms, fine: Tensor, d_scores: Tensor, d_products: Tensor) -> Tensor:
    d_squares = _quadratic_form(d_products, p.upsample)
    if p.metric.kind == "l2":
        spread_out = interpolate(d_products[:, 0], p.upsample) - d_squares
        return interpolate(d_scores, p.upsample) + spread_out.to(fine.dtype)[:, None]
    of_coarse, of_fine = norms.divisors(p.metric, fine.dtype)
    d_coarse = tangents.of_norm(d_products[:, 0] / 2, norms.coarse, p.metric).to(fine.dtype)[:, None]
    d_fine = tangents.of_norm(d_squares / 2, norms.fine, p.metric).to(fine.dtype)[:, None]
    moved = interpolate(d_scores * of_coarse + p.scores.to(fine.dtype) * d_coarse, p.upsample)
    return moved / of_fine - fine * d_fine / of_fine
