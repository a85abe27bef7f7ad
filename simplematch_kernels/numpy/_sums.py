"""The option normalization "sum" of `localize`, on arrays; see `functional/_sums.py`."""

from __future__ import annotations

import numpy as np

from .._resolved import Window
from .._result_options import DetailOptions
from . import _arrays, _run
from ._arrays import Array, Matches
from ._given_windows import (
    Windows,
    nearest_cell,
    rates,
    rows_with_samples,
    sample,
    to_output,
    windows_around,
    windows_of,
)
from ._run import Localizing


def localize(scores: Array, center: Array | None, localizing: Localizing) -> Matches:
    """Matches of weights (B, N, H, W) in windows round their peaks, or round given centers."""
    size = height, width = scores.shape[2:]
    rows, wanted = localizing.rows, localizing.details
    window = localizing.options.resolve(height, width).window
    details: dict[str, Array | None] = {}
    if center is None:
        best, details = _peaks(scores, localizing)
        cell = best.peak.clip(0)
        x, y = (cell % width).astype(np.float64), (cell // width).astype(np.float64)
        windows = windows_around(x, y, window, rows.target_mask, size, whole=True)
        values = sample(scores, windows)
    else:
        windows = windows_of(center, scores, localizing)
        values = sample(scores, windows)
        counted = np.where(windows.counts, values, values.dtype.type(-np.inf))
        best = _run.localize(counted, localizing.of_peak(rows_with_samples(windows, rows)))
        cell = nearest_cell(windows, best.peak, size)
    there = best.peak >= 0
    mean, covariance, log_sum = _moments(values, windows, cell % width, cell // width, window)
    if wanted is not None and wanted.return_covariance:
        in_units = covariance * rates(localizing, size, values.dtype)
        details["covariance"] = np.where(there[..., None, None], in_units, values.dtype.type(0))
    found = Matches(
        np.where(there[..., None], to_output(mean, localizing, size), -1).astype(values.dtype),
        best.score,
        np.where(there, cell, -1),
        np.where(there, log_sum, values.dtype.type(0)),
    )
    return _arrays.as_detailed(found, **details) if details else found


def _peaks(scores: Array, localizing: Localizing) -> tuple[Matches, dict[str, Array | None]]:
    """The peaks of weights, and what return_second asks for."""
    if localizing.details is None or not localizing.details.return_second:
        return _run.localize(scores, localizing.of_peak(localizing.rows)), {}
    own = localizing.options._replace(fixed_temperature=1.0, target_size=None)
    second = DetailOptions(return_second=True)  # its cells depend on the window, so the softmax is made in vain
    found = _run.localize(scores, localizing._replace(options=own, sizes=None, temperature=None, details=second))
    return found, {"second_score": found.second_score, "second_peak": found.second_peak}


def _moments(values: Array, windows: Windows, x: Array, y: Array, window: Window) -> tuple[Array, Array, Array]:
    """Mean (B, N, 2) float64, covariance (B, N, 2, 2), and the logarithm of the sum of weights round cells (x, y)."""
    dx, dy = windows.x - x[..., None], windows.y - y[..., None]
    if window.sigma > 0:
        of_x, of_y = (np.exp(-(d**2) / (2 * window.sigma**2)).astype(values.dtype) for d in (dx, dy))
        values = values * of_y[..., :, None] * of_x[..., None, :]
    values = values if windows.all_count else np.where(windows.counts, values, values.dtype.type(0))
    of_x, of_y = values.sum(2), values.sum(3)
    total = of_x.sum(-1)
    empty = total == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sum = np.log(total)
        if empty.any():
            counted = windows.counts.astype(values.dtype)
            of_x, of_y = (np.where(empty[..., None], counted.sum(i), d) for i, d in ((2, of_x), (3, of_y)))
            values = np.where(empty[..., None, None], counted, values)
            total = of_x.sum(-1)
        mean_x = (of_x.astype(np.float64) * dx).sum(-1) / total
        mean_y = (of_y.astype(np.float64) * dy).sum(-1) / total
        dx, dy = (dx - mean_x[..., None]).astype(values.dtype), (dy - mean_y[..., None]).astype(values.dtype)
        mixed = np.einsum("bnhw,bnh,bnw->bn", values, dy, dx, optimize=True)
        entries = ((of_x * dx**2).sum(-1), mixed, mixed, (of_y * dy**2).sum(-1))
        covariance = (np.stack(entries, -1) / total[..., None]).reshape(*total.shape, 2, 2)
    return np.stack((mean_x + x, mean_y + y), -1), covariance, log_sum
