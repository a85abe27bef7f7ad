"""Correlation of queries with samples around given points, and its derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .._types import (
    CorrelationGradients,
    CorrelationProblem,
    CorrelationResult,
    CorrelationUpstream,
    Given,
    accumulation_dtype,
)
from .gather import to_cells
from .localize import valid_rows
from .similarity import query_backward, similarity, target_backward
from .tangents import of_scores


class Samples(NamedTuple):
    """Where the K samples of every query lie, each (B, N, K): the upper left cell, and the way from there, in [0, 1).

    finite: whether the coordinates are.
    """

    left: Tensor
    top: Tensor
    right_of: Tensor
    below: Tensor
    finite: Tensor


class Corner(NamedTuple):
    """The cells (B, N, K) that the samples read in one of four places, their weights and the slopes of these."""

    cell: Tensor
    weight: Tensor
    slope_x: Tensor
    slope_y: Tensor


def local_correlation(p: CorrelationProblem) -> CorrelationResult:
    """out[n,k] = scale * sum over the cells m around coords_n + offset_k of weight(m) s[n,m]

    A cell of weight zero isn't read, so what it holds doesn't matter.
    """
    scores = _scores(p)
    samples = _samples(p)
    total = torch.zeros(samples.left.shape, dtype=scores.dtype, device=scores.device)
    for corner in _corners(p, samples):
        weight = corner.weight.to(scores.dtype)
        total = total + torch.where(weight != 0, weight * scores.gather(2, corner.cell), 0)
    total = torch.where(samples.finite, p.scale * total, torch.nan)
    return CorrelationResult(torch.where(valid_rows(p.rows, p.coords)[..., None], total, 0))


def local_correlation_backward(
    p: CorrelationProblem, upstream: CorrelationUpstream, needs: CorrelationGradients[bool]
) -> CorrelationGradients[Given]:
    """Gradients from g = dL/dout: those of the scores of `similarity`, where

    ds[n,m] = scale * sum_k weight_k(m) g[n,k]        dcoords_n = scale * sum_k g[n,k] sum_m dweight_k(m)/dcoords s[n,m]

    Weights, slopes and gradients that are zero have no part in a sum, whatever they would be multiplied by.
    """
    dtype = accumulation_dtype(p.target)
    scores, samples = _scores(p), _samples(p)
    takes_part = valid_rows(p.rows, p.coords)[..., None] & samples.finite
    gradient = p.scale * torch.where(takes_part, upstream.correlation.to(dtype), 0)
    ds = torch.zeros_like(scores)
    points = torch.zeros(p.coords.shape, dtype=torch.float64, device=p.coords.device)
    for corner in _corners(p, samples):
        weight = corner.weight.to(dtype)
        ds.scatter_add_(2, corner.cell, torch.where((weight != 0) & (gradient != 0), weight * gradient, 0))
        if needs.coords:
            product = (gradient * scores.gather(2, corner.cell)).double()
            for axis, slope in enumerate((corner.slope_x, corner.slope_y)):
                points[..., axis] += torch.where((slope != 0) & (gradient != 0), slope * product, 0).sum(-1)
    ds = torch.where((ds == 0) | (ds.isfinite() & scores.isfinite()), ds, torch.nan)
    queries, flat = _queries(p), p.target.to(dtype).flatten(2)
    d_queries = d_target = d_coords = None
    if needs.queries:
        found = query_backward(ds, scores, queries, flat, p.metric)
        d_queries = torch.empty_like(p.queries).copy_(found.mT.unflatten(2, p.queries.shape[2:]))
    if needs.target:
        found = target_backward(ds, scores, queries, flat, p.metric)
        d_target = torch.empty_like(p.target).copy_(found.unflatten(2, p.target.shape[2:]))
    if needs.coords:
        d_coords = torch.empty_like(p.coords).copy_(points * _rates(p, points))
    return CorrelationGradients(d_queries, d_target, d_coords)


def local_correlation_jvp(p: CorrelationProblem, tangents: CorrelationGradients[Given]) -> CorrelationUpstream:
    scores, samples = _scores(p), _samples(p)
    d_queries = None if tangents.queries is None else tangents.queries.to(scores.dtype).flatten(2).mT
    d_target = None if tangents.target is None else tangents.target.to(scores.dtype).flatten(2)
    ds = of_scores(scores, _queries(p), p.target.to(scores.dtype).flatten(2), p.metric, d_queries, d_target)
    total = torch.zeros(samples.left.shape, dtype=scores.dtype, device=scores.device)
    for corner in _corners(p, samples):
        weight = corner.weight.to(scores.dtype)
        total = total + torch.where(weight != 0, weight * ds.gather(2, corner.cell), 0)
        if tangents.coords is not None:
            dx, dy = (tangents.coords.double() * _rates(p, tangents.coords.double())).unbind(-1)
            change = (corner.slope_x * dx[..., None] + corner.slope_y * dy[..., None]).to(scores.dtype)
            total = total + torch.where(change != 0, change * scores.gather(2, corner.cell), 0)
    takes_part = valid_rows(p.rows, p.coords)[..., None] & samples.finite
    return CorrelationUpstream(torch.where(takes_part, p.scale * total, 0))


def _queries(p: CorrelationProblem) -> Tensor:
    """(B, N, C)."""
    return p.queries.to(accumulation_dtype(p.target)).flatten(2).mT


def _scores(p: CorrelationProblem) -> Tensor:
    """s (B, N, M) of every query with every cell."""
    return similarity(_queries(p), p.target.to(accumulation_dtype(p.target)).flatten(2), p.metric)


def _rates(p: CorrelationProblem, like: Tensor) -> Tensor:
    """How fast cells move with the units of the coordinates, (x, y)."""
    return like.new_tensor([a.numerator / a.denominator for a in (p.sampling.to_cells_x, p.sampling.to_cells_y)])


def _samples(p: CorrelationProblem) -> Samples:
    """In a window the offsets are whole cells: all samples of a query have its way from cell to cell."""
    x, y = (axis[..., None] for axis in to_cells(p.coords, p.target, p.sampling))
    whole = torch.round if p.sampling.mode == "round" else torch.floor
    if p.offsets is not None:
        x, y = (axis + p.offsets[:, None, :, i].double() for i, axis in enumerate((x, y)))
    left, top = whole(x.detach()), whole(y.detach())
    right_of, below = x - left, y - top
    if p.offsets is None:
        rows, columns = p.radius
        dy = torch.arange(-rows, rows + 1, device=x.device).repeat_interleave(2 * columns + 1)
        dx = torch.arange(-columns, columns + 1, device=x.device).repeat(2 * rows + 1)
        left, top = left + dx, top + dy
        right_of, below = right_of.expand(left.shape), below.expand(left.shape)
    return Samples(left, top, right_of, below, left.isfinite() & top.isfinite())


def _corners(p: CorrelationProblem, s: Samples) -> Iterator[Corner]:
    """One cell of each sample for "round", else four."""
    height, width = p.target.shape[-2:]
    one, zero = torch.ones_like(s.right_of), torch.zeros_like(s.right_of)
    along_x = [(0, one, zero)] if p.sampling.mode == "round" else [(0, 1 - s.right_of, -one), (1, s.right_of, one)]
    along_y = [(0, one, zero)] if p.sampling.mode == "round" else [(0, 1 - s.below, -one), (1, s.below, one)]
    for i, weight_x, sign_x in along_x:
        for j, weight_y, sign_y in along_y:
            column, row = s.left + i, s.top + j
            reads = s.finite
            if p.sampling.padding == "zeros":
                reads = reads & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            column, row = column.nan_to_num().clamp(0, width - 1), row.nan_to_num().clamp(0, height - 1)
            terms = (weight_x * weight_y, sign_x * weight_y, sign_y * weight_x)
            yield Corner((row * width + column).long(), *(torch.where(reads, term, 0) for term in terms))
