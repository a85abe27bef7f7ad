"""Cross entropy between the softmax over a target map and a Gaussian round the true point, and its derivatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._types import (
    CrossEntropyProblem,
    CrossEntropyResult,
    CrossEntropyUpstream,
    Given,
    MatchGradients,
    MatchProblem,
    Rows,
    accumulation_dtype,
)
from . import match
from .gather import to_cells
from .localize import WindowSoftmax, masks, softmax_over_window, valid_rows
from .similarity import norm, similarity
from .tangents import scores_and_tangents


class TrueDistribution(NamedTuple):
    """cell (B, N): the one nearest to the true point, -1 in invalid rows. known (B, N): whether the point is finite.

    weights (B, N, M): G, 0 in invalid rows.
    """

    cell: Tensor
    known: Tensor
    weights: Tensor


def true_distribution(p: CrossEntropyProblem) -> TrueDistribution:
    """G of every row, float64.

    c_n = the true point in cells, clamped to the map; if it lies a cell or more outside, the row is invalid
    W_n = kernel_size x kernel_size cells round the nearest cell of c_n (halves go to the even one), without those that
          lie outside the map or are masked; if no cell is left, the row is invalid
    G[n, m] = exp(-|m - c_n|^2 / (2 sigma^2)) over its sum on W_n
    """
    truth, (height, width) = p.truth, p.target.shape[2:]
    points = torch.stack(to_cells(p.target_keypoints, p.target, truth), -1)  # (B, N, 2)
    known = points.isfinite().all(-1)
    points = torch.where(known[..., None], points, 0)
    side = torch.stack([points.new_full((), size) for size in (width, height)])
    on_map = ((points > -1) & (points < side)).all(-1)
    points = torch.minimum(points.clamp(min=0), side - 1)
    nearest = points.round().long()
    first = nearest - truth.kernel_size // 2
    number = torch.arange(height * width, device=points.device)
    cells = torch.stack((number % width, number // width), -1)  # (M, 2)
    allowed = ((cells >= first[:, :, None]) & (cells < first[:, :, None] + truth.kernel_size)).all(-1)  # (B, N, M)
    mask = masks(p.rows)
    if mask is not None:
        allowed = allowed & mask
    valid = valid_rows(p.rows, known) & on_map & allowed.any(-1)
    distance = torch.where(allowed, (cells - points[:, :, None]).square().sum(-1), torch.inf)
    # Counted from the least, so that a narrow Gaussian between cells keeps the nearest one.
    distance = distance - torch.where(valid, distance.amin(-1), 0)[..., None]
    weights = torch.where(valid[..., None], torch.exp(-distance / (2 * truth.sigma**2)), 0)
    total = torch.where(valid, weights.sum(-1), 1)
    cell = torch.where(valid, nearest[..., 1] * width + nearest[..., 0], -1)
    return TrueDistribution(cell, known, weights / total[..., None])


def cross_entropy(p: CrossEntropyProblem, *, dtype: torch.dtype | None = None) -> Tensor:
    """(B, N) losses, differentiable by autograd; `dtype` is that of the arithmetic."""
    truth = true_distribution(p)
    return _losses(p, truth, _scores(p, truth, accumulation_dtype(p.target) if dtype is None else dtype))


def sparse_match_cross_entropy(p: CrossEntropyProblem) -> CrossEntropyResult:
    truth, dtype = true_distribution(p), accumulation_dtype(p.target)
    loss = _losses(p, truth, _scores(p, truth, dtype))
    return CrossEntropyResult(loss, truth.cell, norm(p.target.to(dtype).flatten(2), dim=1))


def sparse_match_cross_entropy_backward(
    p: CrossEntropyProblem, result: CrossEntropyResult, upstream: CrossEntropyUpstream, needs: MatchGradients[bool]
) -> MatchGradients[Given]:
    truth, dtype = true_distribution(p), accumulation_dtype(p.target)
    scores = _scores(p, truth, dtype)
    ds, d_temperature = scores_backward(p, truth, result.loss, upstream.loss, scores)
    return match.gradients(_match(p, truth), ds, scores, d_temperature, needs)


def scores_backward(
    p: CrossEntropyProblem, truth: TrueDistribution, loss: Tensor, upstream: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """(ds (B, N, M), dT (B, N)): gradients of the scores and of the temperature of each row.

    ds[n,m] = g_n / T (P[n,m] - G[n,m])        dT_n = -g_n / T^2 sum_m (P[n,m] - G[n,m]) s[n,m]

    g arrives at the loss. A row to which zero arrives passes on zeros. Else a row whose loss or gradient isn't finite
    passes on NaN: to every cell of its softmax and to its temperature.
    """
    w = _softmax(p, truth, scores)
    difference = w.probability - truth.weights.to(scores.dtype)
    g = upstream[..., None].to(scores.dtype)
    ds = g / w.divisor * difference
    moment = torch.where(difference == 0, 0, difference * (w.weighted - w.largest)).sum(-1, keepdim=True)
    d_temperature = -g * moment / w.divisor / w.divisor  # sum_m (P - G) = 0, so s may count from its largest
    passes = (truth.cell >= 0)[..., None] & (g != 0)
    lost = ~loss[..., None].isfinite() | ~g.isfinite()
    ds, d_temperature = (torch.where(lost, torch.nan, x) for x in (ds, d_temperature))
    return torch.where(passes & w.support, ds, 0), torch.where(passes, d_temperature, 0)[..., 0]


def sparse_match_cross_entropy_jvp(
    p: CrossEntropyProblem, result: CrossEntropyResult, tangents: MatchGradients[Given]
) -> CrossEntropyUpstream:
    """dloss_n = sum_m (P[n,m] - G[n,m]) dz[n,m] with dz = ds / T - s dT / T^2"""
    truth, dtype = true_distribution(p), accumulation_dtype(p.target)
    scores, ds = scores_and_tangents(_match(p, truth), tangents, dtype)
    w = _softmax(p, truth, scores)
    dz = ds / w.divisor
    if tangents.temperature is not None:
        dz = dz - (w.weighted - w.largest) * tangents.temperature[..., None] / w.divisor / w.divisor
    difference = w.probability - truth.weights.to(dtype)
    moved = torch.where(difference == 0, 0, difference * dz).sum(-1)
    return CrossEntropyUpstream(torch.where(truth.cell >= 0, moved, 0))


def _match(p: CrossEntropyProblem, truth: TrueDistribution) -> MatchProblem:
    """The match of the rows that are valid here."""
    return p.match._replace(rows=Rows(valid=truth.cell >= 0, target_mask=p.rows.target_mask))


def _scores(p: CrossEntropyProblem, truth: TrueDistribution, dtype: torch.dtype) -> Tensor:
    """(B, N, M)"""
    return similarity(match.queries(_match(p, truth), dtype), p.target.to(dtype).flatten(2), p.metric)


def _softmax(p: CrossEntropyProblem, truth: TrueDistribution, scores: Tensor) -> WindowSoftmax:
    whole = _match(p, truth)
    maps = scores.unflatten(2, p.target.shape[2:])
    return softmax_over_window(maps, truth.cell, whole.rows, whole.temperature, whole.localization)


def _losses(p: CrossEntropyProblem, truth: TrueDistribution, scores: Tensor) -> Tensor:
    """loss_n = sum_m G[n, m] (log sum_l exp(s[n, l] / T) - s[n, m] / T) over the cells of the mask; 0 in invalid rows.

    The largest score is subtracted before the division by T, so a small loss doesn't lose its digits.
    """
    w = _softmax(p, truth, scores)
    largest = w.largest.detach()
    takes_part = w.weighted != -torch.inf  # taken out before the division, so that T gets no gradient of 0 * inf
    exponent = torch.where(takes_part, w.weighted - largest, 0) / w.divisor
    total = torch.where(takes_part, exponent.exp(), 0).sum(-1, keepdim=True)
    weights = truth.weights.to(scores.dtype)
    surprise = torch.where(takes_part, total.log() - exponent, torch.inf)
    loss = torch.where(weights > 0, weights * surprise, 0).sum(-1)
    loss = torch.where(truth.known & largest[..., 0].isfinite(), loss, torch.nan)
    return torch.where(truth.cell >= 0, loss, 0)
