"""From scores to coordinates: argmax, window, soft-argmax (paper eq. 10-12), and the gradient."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._resolved import AffineMap, Localization, Window, pixels_from_cells
from .._types import AnyUpstream, Matches, Rows
from . import recorded
from .gather import apply_affine, maps_of_images, rate


def localize(
    scores: Tensor, rows: Rows, temperature: Tensor | None, localization: Localization, peak: Tensor | None = None
) -> Matches:
    """Matches of scores (B, N, H, W), in the dtype of the scores; `peak` (B, N) where it is known.

    peak_n = argmax_m s[n, m]                    over the cells of the mask; the lowest m wins a tie
    P[n, m] = softmax over m of s[n, m] / T      over the cells of the window W_n
    out_n = sum_m P[n, m] (x_m, y_m)             then from cells to the user's units

    The largest score is subtracted before the division by T. If it is not finite, the row becomes NaN, and its
    log_sum_exp is that score over T.
    """
    H, W = scores.shape[2:]
    maps = maps_from_cells(localization, scores)
    valid = valid_rows(rows, scores)[..., None]
    if peak is None:
        peak = find_peak(scores, rows)
    peak = peak[..., None].clamp(min=0)
    scores = torch.where(valid, scores.flatten(2), 0)  # before the softmax: no NaN of padding may reach a gradient
    score = scores.gather(-1, peak)
    probability, log_sum_exp = _probability(scores, peak, (H, W), rows, temperature, localization)
    dx, dy = _offsets(peak, H, W)  # from the peak: smaller numbers round less
    cells = torch.cat((peak % W, peak // W), -1) + torch.stack([(probability * d).sum(-1) for d in (dx, dy)], -1)
    return Matches(
        torch.where(valid, _to_output(cells, maps, localization.output_offset), -1),
        torch.where(valid, score, 0)[..., 0],
        torch.where(valid, peak, -1)[..., 0],
        torch.where(valid[..., 0], log_sum_exp, 0),
    )


def _probability(
    scores: Tensor,
    peak: Tensor,
    size: tuple[int, int],
    rows: Rows,
    temperature: Tensor | None,
    localization: Localization,
) -> tuple[Tensor, Tensor]:
    """(P (B, N, M), log_sum_exp (B, N)) of scores (B, N, M), zeros in invalid rows, around peak (B, N, 1)."""
    valid = valid_rows(rows, scores)[..., None]
    divisor = _divisor(temperature, valid, localization)
    weighted, _, _ = _weighted(scores, peak, size, rows, valid, localization)
    largest = recorded.largest(weighted.detach(), keepdim=True)
    takes_part = weighted != -torch.inf  # taken out before the division, so that T gets no gradient of 0 * inf
    exponent = torch.where(takes_part, weighted - largest, 0) / divisor
    exponential = torch.where(takes_part, exponent.exp(), 0)
    total = exponential.sum(-1, keepdim=True)
    log_sum_exp = torch.where(largest.isfinite(), largest / divisor + total.log(), largest / divisor)[..., 0]
    return exponential / total, log_sum_exp


def covariance(
    scores: Tensor, peak: Tensor, rows: Rows, temperature: Tensor | None, localization: Localization
) -> Tensor:
    """(B, N, 2, 2) of scores (B, N, H, W) around peak (B, N), in the user's units squared; 0 in invalid rows.

    covariance[a, b] = rate_a rate_b sum_m P[m] (c_a - mean_a) (c_b - mean_b)     a, b: x or y; mean_a = sum_m P[m] c_a
    """
    H, W = scores.shape[2:]
    valid = valid_rows(rows, scores)[..., None]
    flat, peak = torch.where(valid, scores.flatten(2), 0), peak[..., None].clamp(min=0)
    probability, _ = _probability(flat, peak, (H, W), rows, temperature, localization)
    centred = torch.stack([d - (probability * d).sum(-1, keepdim=True) for d in _offsets(peak, H, W)], -2)
    found = torch.einsum("bnm,bnim,bnjm->bnij", probability, centred, centred)
    return torch.where(valid[..., None], found * rates(localization, scores), 0)


def second_best(scores: Tensor, peak: Tensor, second: Tensor, rows: Rows, window: Window) -> tuple[Tensor, Tensor]:
    """(score, cell) (B, N) of `second`, what `find_peak` found outside a window around `peak`.

    Without a cell outside the window -inf and -1; in invalid rows 0 and -1.
    """
    valid = valid_rows(rows, scores)
    there = (_selectable(rows, valid[..., None]) & ~around_peak(scores, peak, window)).any(-1)
    score = scores.flatten(2).gather(-1, second[..., None])[..., 0]
    return torch.where(valid, torch.where(there, score, -torch.inf), 0), torch.where(valid & there, second, -1)


def around_peak(scores: Tensor, peak: Tensor, window: Window) -> Tensor:
    """(B, N, M) bool for scores (B, N, H, W): the cells of the window around peak (B, N)."""
    return inside_window(window, peak[..., None].clamp(min=0), scores.shape[2], scores.shape[3])


def rates(localization: Localization, scores: Tensor) -> Tensor:
    """(2, 2), or (B, 1, 2, 2) where each image has a size: the user's units squared per cell squared."""
    maps = maps_from_cells(localization, scores)
    of_each = (rate(affine, scores.dtype) for affine in maps)
    of_axes = torch.stack([x if isinstance(x, Tensor) else scores.new_full((), x) for x in of_each], -1)
    return of_axes[..., :, None] * of_axes[..., None, :]


def find_peak(scores: Tensor, rows: Rows, excluded: Tensor | None = None) -> Tensor:
    """(B, N) lowest cell of the mask with the greatest score of (B, N, H, W), NaN above all; 0 in invalid rows.

    excluded: (B, N, M) bool, cells that don't count; 0 in rows without any other.
    """
    valid = valid_rows(rows, scores)[..., None]
    selectable = _selectable(rows, valid)
    if excluded is not None:
        selectable = selectable & ~excluded
    masked = torch.where(selectable, torch.where(valid, scores.detach().flatten(2), 0), -torch.inf)
    first = recorded.first_of(selectable.expand(masked.shape))
    return torch.where(recorded.largest(masked) == -torch.inf, first, recorded.first_of_largest(masked))


def localize_backward(
    upstream: AnyUpstream,
    matches: Matches,
    scores: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    localization: Localization,
) -> tuple[Tensor, Tensor]:
    """(ds (B, N, M), dT (B, N)): gradients of the scores and of the temperature of each row.

    a[n,m] = <g_n, c - out_n> + l_n + <G_n, (c - out_n) (c - out_n)^T - covariance_n>       c = (x_m, y_m)
    g, h, l and G arrive at keypoints, score, log_sum_exp and covariance, g and G in cells
    ds[n,m] = ds'/ds P[n,m] / T a[n,m] + h_n [m == peak_n]          s' = s, or s times the gaussian
    dT_n = -1/T^2 sum_m P[n,m] s'[n,m] a[n,m]

    A row without an upstream gradient that isn't zero passes on zeros, whatever it holds. Else a row that answered
    NaN, or gets a gradient that isn't finite, passes on NaN: to every cell of its softmax and to its temperature.
    """
    size = scores.shape[2:]
    valid = valid_rows(rows, scores)[..., None]
    w = softmax_over_window(scores, matches.peak, rows, temperature, localization)
    probability, divisor = w.probability, w.divisor

    zero = scores.new_zeros(())
    of_score, of_log_sum_exp = (
        zero if g is None else g[..., None].to(scores.dtype) for g in (upstream.score, upstream.log_sum_exp)
    )
    agreement, moves = of_log_sum_exp, [of_score, of_log_sum_exp]
    if upstream.keypoints is not None:
        scale = [rate(affine, scores.dtype) for affine in maps_from_cells(localization, scores)]
        for i, centred in enumerate(w.centred(size)):
            g = upstream.keypoints[..., i].to(scores.dtype) * scale[i]
            agreement = agreement + g[..., None] * centred
            moves.append(upstream.keypoints[..., i : i + 1])
    if upstream.covariance is not None:
        of_covariance = upstream.covariance.to(scores.dtype) * rates(localization, scores)
        for (i, a), (j, b) in itertools.product(enumerate(w.centred(size)), repeat=2):
            agreement = agreement + of_covariance[..., i, j, None] * w.deviation(a * b)
            moves.append(upstream.covariance[..., i, j, None])
    ds = w.slope / divisor * probability * agreement
    ds = ds.scatter_add(-1, w.peak, of_score.expand(w.peak.shape))
    moment = torch.where(probability == 0, 0, probability * (w.weighted - w.largest) * agreement).sum(-1, keepdim=True)
    # sum_m P a = l, so s' may count from its largest.
    d_temperature = -(moment + w.largest * of_log_sum_exp) / divisor / divisor

    passes = valid & functools.reduce(torch.logical_or, [g != 0 for g in moves])
    lost = ~w.largest.isfinite() | functools.reduce(torch.logical_or, [~g.isfinite() for g in moves])
    if isinstance(divisor, Tensor):
        lost = lost | divisor.isnan()
    ds, d_temperature = (torch.where(lost, torch.nan, x) for x in (ds, d_temperature))
    return torch.where(passes & w.support, ds, 0), torch.where(passes, d_temperature, 0)[..., 0]


class WindowSoftmax(NamedTuple):
    """The soft-argmax of every row, as its derivatives need it; all (B, N, M) but peak, divisor and largest (B, N, 1).

    weighted: s'. slope: ds'/ds. support: the cells whose scores count. divisor: T. probability: P, 0 in other cells.
    """

    peak: Tensor
    weighted: Tensor
    slope: Tensor
    support: Tensor
    divisor: Tensor | float
    largest: Tensor
    probability: Tensor

    def offsets(self, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(dx, dy) from the peak to every cell."""
        return _offsets(self.peak, *size)

    def centred(self, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(dx, dy) from the expected point to every cell."""
        dx, dy = self.offsets(size)
        return self.deviation(dx), self.deviation(dy)

    def deviation(self, values: Tensor) -> Tensor:
        """`values` of the cells less their mean under P."""
        return values - (self.probability * values).sum(-1, keepdim=True)


def softmax_over_window(
    scores: Tensor, peak: Tensor, rows: Rows, temperature: Tensor | None, localization: Localization
) -> WindowSoftmax:
    """Of scores (B, N, H, W) around peak (B, N)."""
    H, W = scores.shape[2:]
    valid = valid_rows(rows, scores)[..., None]
    flat = torch.where(valid, scores.flatten(2), 0)
    peak = peak[..., None].clamp(min=0)
    divisor = _divisor(temperature, valid, localization)
    weighted, slope, support = _weighted(flat, peak, (H, W), rows, valid, localization)
    largest = weighted.amax(-1, keepdim=True)
    exponential = torch.where(weighted == -torch.inf, 0, torch.exp((weighted - largest) / divisor))
    probability = exponential / exponential.sum(-1, keepdim=True)
    return WindowSoftmax(peak, weighted, slope, support, divisor, largest, probability)


def _weighted(
    scores: Tensor, peak: Tensor, size: tuple[int, int], rows: Rows, valid: Tensor, localization: Localization
) -> tuple[Tensor, Tensor, Tensor]:
    """(s', ds'/ds, support) of scores (B, N, M); support says which cells of the window the mask selects.

    s' is the score times the gaussian there, `outside_value` outside the window, and -inf where a cell takes no part.
    An infinite score stays that, whatever the gaussian.
    """
    window, (H, W) = localization.window, size
    slope = torch.ones_like(scores)
    if window.sigma > 0:
        dx, dy = _offsets(peak, H, W)
        distance = (dx**2 + dy**2).to(scores.dtype)
        slope = torch.exp(-distance / (2 * window.sigma**2))
    inside = inside_window(window, peak, H, W)
    selectable = _selectable(rows, valid)
    support = inside & selectable
    weighted = torch.where(scores.isinf(), scores, scores * slope)
    weighted = torch.where(selectable, torch.where(inside, weighted, window.outside_value), -torch.inf)
    return weighted, torch.where(support, slope, 0), support


def _divisor(temperature: Tensor | None, valid: Tensor, localization: Localization) -> Tensor | float:
    """The temperature (B, N, 1) of each row: NaN if it isn't above zero, 1 in invalid rows."""
    if temperature is None:
        return localization.temperature
    usable = torch.where(temperature[..., None] > 0, temperature[..., None], torch.nan)
    return torch.where(valid, usable, 1)


def _selectable(rows: Rows, valid: Tensor) -> Tensor:
    """(B, N, 1 or M) bool: cells of the mask; every cell in invalid rows, whose softmax must stay finite."""
    mask = masks(rows)
    return torch.ones_like(valid) if mask is None else mask | ~valid


def masks(rows: Rows) -> Tensor | None:
    """(B, 1 or N, M) bool: the target cells of each query that take part; None: all."""
    mask = rows.target_mask
    return mask[:, None] if mask is not None and mask.dim() == 2 else mask


def valid_rows(rows: Rows, like: Tensor) -> Tensor:
    """(B, N) bool for `like` (B, N, ...): rows that are no padding and have a target cell to match."""
    queries, device = like.shape[1], like.device
    valid = torch.ones(like.shape[:2], dtype=torch.bool, device=device)
    if rows.num_keypoints is not None:
        valid = valid & (torch.arange(queries, device=device) < rows.num_keypoints[:, None])
    if rows.valid is not None:
        valid = valid & rows.valid
    mask = masks(rows)
    return valid if mask is None else valid & mask.any(-1)


def without_padding(keypoints: Tensor, rows: Rows) -> Tensor:
    """Keypoints (B, N, 2) with zeros in invalid rows, where they may be NaN."""
    return torch.where(valid_rows(rows, keypoints)[..., None], keypoints, 0)


def window_origin(window: Window, peak: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(top, left) cell of the k x k window of flat `peak`; k // 2 cells lie left of it. May be negative."""
    top, left = peak // width - window.height // 2, peak % width - window.width // 2
    if window.shift:
        top = top.clamp(max=height - window.height).clamp(min=0)  # 0 where the window is larger than the map
        left = left.clamp(max=width - window.width).clamp(min=0)
    return top, left


def inside_window(window: Window, peak: Tensor, height: int, width: int) -> Tensor:
    """(..., M) bool: the cells of the window around flat `peak` (..., 1)."""
    y, x = _cell_grid(height, width, peak.device)
    top, left = window_origin(window, peak, height, width)
    inside = (y >= top) & (y < top + window.height) & (x >= left) & (x < left + window.width)
    return inside & in_shape(window, *_offsets(peak, height, width))


def in_shape(window: Window, dx: Tensor, dy: Tensor) -> Tensor:
    """Whether offsets from the peak, in cells, lie in the shape of the window, not its box."""
    if window.shape == "plus":
        return (dx == 0) | (dy == 0)
    if window.is_disc:
        across, down, most = window.ellipse
        squares = recorded.times(dx.double().square(), across) + recorded.times(dy.double().square(), down)
        return recorded.at_most(squares, most)
    return torch.ones_like(dx + dy, dtype=torch.bool)


def window_cells(window: Window, peak: Tensor, height: int, width: int) -> Tensor:
    """(B, N, rows, columns) flat cells of the box of `Window.box`, cut to the map; for peak (B, N)."""
    rows, columns = window.box(height, width)
    top, left = (o.clamp(min=0) for o in window_origin(window, peak[..., None, None].clamp(min=0), height, width))
    y = (top + torch.arange(rows, device=peak.device)[:, None]).clamp(max=height - 1)
    x = (left + torch.arange(columns, device=peak.device)).clamp(max=width - 1)
    return y * width + x


def _cell_grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(y, x) of every cell, each (M,)."""
    m = torch.arange(height * width, device=device)
    return m // width, m % width


def _offsets(peak: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(dx, dy), each (..., M): from flat `peak` (..., 1) to every cell."""
    y, x = _cell_grid(height, width, peak.device)
    return x - peak % width, y - peak // width


def maps_from_cells(localization: Localization, scores: Tensor) -> list[AffineMap]:
    """The maps of x and y from cells of scores (B, N, H, W) to the user's units."""
    if localization.image_sizes is None:
        return [localization.from_cells_x, localization.from_cells_y]
    height, width = scores.shape[-2:]
    return maps_of_images(pixels_from_cells, localization.coordinates, localization.image_sizes, (height, width))


def _to_output(cells: Tensor, maps: list[AffineMap], offset: float) -> Tensor:
    return torch.stack((apply_affine(cells[..., 0], maps[0]), apply_affine(cells[..., 1], maps[1])), -1) + offset
