"""The option normalization "sum" of `localize`: scores that are weights, such as probabilities, without a softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from .._resolved import Window
from .._result_options import DetailOptions
from .._types import Matches, as_detailed
from ._given_windows import PointsOfMap, Windows, nearest_cell, rows_with_samples, sample, windows_around
from ._given_windows import windows_of as windows_of_centers
from ._localize import localize_scores
from ._shared import Localizing, size_of


def localize(scores: Tensor, center: Tensor | None, localizing: Localizing) -> Matches:
    """Matches of weights (B, N, H, W) in windows round their peaks, or round given centers.

    P[m] = w_m / sum over l in W of w_l        out = sum over m in W of P[m] (x_m, y_m)

    Where all weights of a window are 0, every cell of it counts 1. log_sum_exp is the logarithm of the sum.
    """
    height, width = size = size_of(scores)
    window = localizing.options.resolve(height, width).window
    details: dict[str, Tensor] = {}
    if center is None:
        best, details = _peaks(scores, localizing)
        cell = best.peak.clamp(min=0)
        x, y = (cell % width).double(), (cell // width).double()
        windows = windows_around(x, y, window, localizing.rows.target_mask, size, whole=True)
        values = sample(scores, windows)
    else:
        windows = windows_of_centers(center, scores, localizing)
        values = sample(scores, windows)
        counted = torch.where(windows.counts, values, -torch.inf)
        rows = rows_with_samples(windows, localizing.rows)
        best = localize_scores(counted, localizing.of_peak(rows))
        cell = nearest_cell(windows, best.peak, size)
    moments = _Moments(values, windows, cell % width, cell // width, window)
    points = PointsOfMap(localizing.options.resolve(height, width, image_sizes=localizing.sizes), size)
    there = best.peak >= 0
    if (wanted := localizing.details) is not None and wanted.return_covariance:
        covariance = moments.covariance()
        details["covariance"] = torch.where(there[..., None, None], covariance * points.rates(covariance), 0)
    found = Matches(
        torch.where(there[..., None], points.of_cells(moments.mean()).to(values.dtype), -1),
        best.score,
        torch.where(there, cell, -1),
        torch.where(there, moments.log_sum(), 0),
    )
    return as_detailed(found, **details) if details else found


def _peaks(scores: Tensor, localizing: Localizing) -> tuple[Matches, dict[str, Tensor]]:
    """The peaks of weights, and what return_second asks for."""
    if localizing.details is None or not localizing.details.return_second:
        return localize_scores(scores, localizing.of_peak(localizing.rows)), {}
    own = localizing.options._replace(fixed_temperature=1.0, target_size=None)
    second = DetailOptions(return_second=True)  # its cells depend on the window, so the softmax is made in vain
    found = localize_scores(scores, localizing._replace(options=own, sizes=None, temperature=None, details=second))
    assert found.second_score is not None and found.second_peak is not None
    return found, {"second_score": found.second_score, "second_peak": found.second_peak}


class _Moments:
    """Of the weights (B, N, kh, kw) of samples, about the cells (x, y) (B, N)."""

    def __init__(self, values: Tensor, windows: Windows, x: Tensor, y: Tensor, window: Window) -> None:
        self.x, self.y = x, y
        self.dx, self.dy = windows.x - x[..., None], windows.y - y[..., None]  # smaller numbers round less
        if window.sigma > 0:
            of_x, of_y = (torch.exp(-(d**2) / (2 * window.sigma**2)).to(values.dtype) for d in (self.dx, self.dy))
            values = values * of_y[..., :, None] * of_x[..., None, :]
        self.weights = values if windows.all_count else torch.where(windows.counts, values, 0)
        self.counts = windows.counts
        of_x, of_y = self.weights.sum(-2), self.weights.sum(-1)
        self.sum = of_x.sum(-1)
        self.empty = self.sum == 0
        self.of_x, self.of_y = (
            torch.where(self.empty[..., None], of_counts, of_weights)
            for of_counts, of_weights in zip(windows.counts_of_lines(), (of_x, of_y), strict=True)
        )
        self.total = self.of_x.sum(-1)

    def mean(self) -> Tensor:
        """(B, N, 2) float64."""
        return torch.stack((self._mean_x() + self.x, self._mean_y() + self.y), -1)

    def covariance(self) -> Tensor:
        """(B, N, 2, 2) in cells squared."""
        dx, dy = self.dx - self._mean_x()[..., None], self.dy - self._mean_y()[..., None]
        dx, dy = dx.to(self.weights.dtype), dy.to(self.weights.dtype)
        weights = torch.where(self.empty[..., None, None], self.counts.to(dx.dtype), self.weights)
        mixed = torch.einsum("bnhw,bnh,bnw->bn", weights, dy, dx)
        entries = ((self.of_x * dx**2).sum(-1), mixed, mixed, (self.of_y * dy**2).sum(-1))
        covariance: Tensor = (torch.stack(entries, -1) / self.total[..., None]).unflatten(-1, (2, 2))
        return covariance

    def log_sum(self) -> Tensor:
        """The logarithm of the sum of the weights; -inf if that is 0."""
        return torch.where(self.empty, -torch.inf, self.total.log())

    def _mean_x(self) -> Tensor:
        return (self.of_x.double() * self.dx).sum(-1) / self.total.double()

    def _mean_y(self) -> Tensor:
        return (self.of_y.double() * self.dy).sum(-1) / self.total.double()
