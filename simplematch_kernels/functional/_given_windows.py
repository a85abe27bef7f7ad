"""The option `center`: windows round given points, whose scores alone are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks
from .._options import MetricOptions, SamplingOptions, axes
from .._resolved import Localization, Sampling, Window, cells_from_pixels
from .._types import Matches, Rows, accumulation_dtype, as_detailed, descriptor_map
from ..operators import local_correlation as correlation_operator
from ..operators._torch import is_plain
from ..reference.gather import apply_affine, to_cells
from ..reference.localize import in_shape, maps_from_cells, rates
from ._localize import localize_scores
from ._shared import Localizing, size_of


class Windows(NamedTuple):
    """The samples of one window a query, a cell apart: columns at x (B, N, kw), rows at y (B, N, kh), in cells.

    counts: (B, N, kh, kw) bool, which of them take part. whole: whether they all lie on cells. are_cells: whether they
        are the cells of the map in order, whatever the center. all_count: whether in addition each takes part.
    """

    x: Tensor
    y: Tensor
    counts: Tensor
    whole: bool
    are_cells: bool = False
    all_count: bool = False

    def counts_of_lines(self) -> tuple[Tensor | int, Tensor | int]:
        """How many samples take part in each column (B, N, kw), and in each row (B, N, kh)."""
        if self.all_count:
            return self.y.shape[-1], self.x.shape[-1]
        return self.counts.sum(-2), self.counts.sum(-1)

    def corners(self, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Of the cells that bilinear samples read: flat cell and weight, each (B, N, kh, kw), cell by cell."""
        height, width = size
        for row, of_row in _neighbours(self.y, height, self.whole):
            for column, of_column in _neighbours(self.x, width, self.whole):
                yield (
                    row[..., :, None] * width + column[..., None, :],
                    of_row[..., :, None] * of_column[..., None, :],
                )


def match(
    descriptors: Tensor, target: Tensor, center: Tensor, metric: MetricOptions, localizing: Localizing
) -> Matches:
    """Matches of descriptors (B, N, C) in windows of a target (B, C, H, W)."""
    windows = windows_of(center, target, localizing)
    columns, rows = windows.x.shape[-1], windows.y.shape[-1]
    radius = (rows // 2, columns // 2)
    middle = torch.stack((windows.x[..., 0] + radius[1], windows.y[..., 0] + radius[0]), -1)
    sampling = SamplingOptions(sampling="round" if windows.whole else "bilinear", sampling_padding="border")
    correlation = correlation_operator.run(
        correlation_operator.Arguments(
            descriptor_map(descriptors),
            target,
            middle,
            None,
            Rows(localizing.rows.num_keypoints, localizing.rows.valid),
            sampling,
            metric,
            radius,
            1.0,
            localizing.backend,
        )
    ).correlation
    scores = correlation.unflatten(2, (2 * radius[0] + 1, 2 * radius[1] + 1))[..., :rows, :columns]
    return _localize(scores, windows, size_of(target), localizing)


def localize(scores: Tensor, center: Tensor, localizing: Localizing) -> Matches:
    """Matches of scores (B, N, H, W) in windows."""
    windows = windows_of(center, scores, localizing)
    return _localize(sample(scores, windows), windows, size_of(scores), localizing)


def sample(scores: Tensor, windows: Windows) -> Tensor:
    """(B, N, kh, kw) of scores (B, N, H, W), in the dtype of the arithmetic; a cell of weight zero isn't read."""
    if windows.are_cells:
        return scores.to(accumulation_dtype(scores))
    flat, total = scores.flatten(2), torch.zeros((), dtype=accumulation_dtype(scores), device=scores.device)
    for cell, weight in windows.corners(size_of(scores)):
        value = flat.gather(2, cell.flatten(2)).unflatten(2, cell.shape[2:]).to(total.dtype)
        total = total + (value if windows.whole else weight.to(total.dtype) * torch.where(weight != 0, value, 0))
    return total


def windows_of(center: Tensor, features: Tensor, localizing: Localizing) -> Windows:
    """The windows round checked centers, in features (B, ., H, W)."""
    height, width = size = size_of(features)
    center = _checks.as_points(center, True) if center.dim() == 3 else center
    if center.device.type == "cpu" and is_plain((center, features), center.device):
        _checks.check_center_values(center, localizing.rows, height * width)
    window, mask = localizing.options.resolve(height, width).window, localizing.rows.target_mask
    if center.dim() == 3:
        return windows_around(*_center_in_cells(center, features, localizing), window, mask, size, whole=False)
    cell = center.clamp(0, height * width - 1)
    windows = windows_around((cell % width).double(), (cell // width).double(), window, mask, size, whole=True)
    return windows._replace(counts=windows.counts & (center >= 0)[..., None, None])


def _center_in_cells(center: Tensor, features: Tensor, localizing: Localizing) -> tuple[Tensor, Tensor]:
    """(x, y), each (B, N) float64, of centers given as results are."""
    options, (height, width) = localizing.options, features.shape[-2:]
    maps = axes(cells_from_pixels, options.target_coords, options.target_size, height, width)
    sampling = Sampling(*maps, "bilinear", "border", options.target_coords, localizing.sizes)
    return to_cells(center.double() - options.output_offset, features, sampling)


def windows_around(
    x: Tensor, y: Tensor, window: Window, mask: Tensor | None, size: tuple[int, int], whole: bool
) -> Windows:
    """Windows round (x, y), each (B, N) float64 in cells; mask (B, H*W), or (B, N, H*W), of cells that count."""
    (height, width), (rows, columns) = size, window.box(*size)
    x_of, dx, inside_x = _line(x, width, window.width, columns, window.shift)
    y_of, dy, inside_y = _line(y, height, window.height, rows, window.shift)
    are_cells = whole and window.shift and (rows, columns) == size
    if are_cells and mask is None and window.shape == "square":
        every = torch.ones((), dtype=torch.bool, device=x.device).expand(*x.shape, *size)
        return Windows(x_of, y_of, every, whole, are_cells=True, all_count=True)
    counts = inside_y[..., :, None] & inside_x[..., None, :]
    counts = counts & in_shape(window, dx[..., None, :], dy[..., :, None])
    windows = Windows(x_of, y_of, counts, whole, are_cells)
    return windows if mask is None else windows._replace(counts=counts & _selected(windows, mask, size))


def _line(center: Tensor, cells: int, reach: int, count: int, shift: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Samples (B, N, count) of a line of the window, their offsets from the center, and which lie in the window
    and in the map.

    reach: the length of the window, `count` that of the part which a map of that many cells can hold.
    """
    start = center - reach // 2
    if shift:
        first = start.clamp(0, cells - count)
        moved, last = first - start, first + count
    else:
        moved = (-start).ceil().clamp(min=0)
        first, last = start + moved, start + reach
    steps = torch.arange(count, dtype=center.dtype, device=center.device)
    line = first[..., None] + steps
    offset = (moved - reach // 2)[..., None] + steps  # exact where the window is not shifted
    return line, offset, (line < last[..., None]) & (line <= cells - 1)


def _selected(windows: Windows, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, kh, kw) bool: samples that read cells of the mask alone."""
    of_queries = mask[:, None].expand(-1, windows.x.shape[1], -1) if mask.dim() == 2 else mask
    selected = torch.ones_like(windows.counts)
    for cell, weight in windows.corners(size):
        of_cell = of_queries.gather(2, cell.flatten(2)).unflatten(2, cell.shape[2:])
        selected = selected & (of_cell | (weight == 0))
    return selected


def _neighbours(line: Tensor, cells: int, whole: bool) -> list[tuple[Tensor, Tensor]]:
    """The cells that samples of a line lie between, and their weights: one cell for samples on cells."""
    low = line.detach().floor()
    cell = low.nan_to_num().clamp(0, cells - 1).long()
    if whole:
        return [(cell, torch.ones_like(line))]
    above = line - low
    return [(cell, 1 - above), ((cell + 1).clamp(max=cells - 1), above)]


def _localize(scores: Tensor, windows: Windows, size: tuple[int, int], localizing: Localizing) -> Matches:
    """Matches of the scores (B, N, kh, kw) of samples: those of a map of kh x kw cells, moved to the window's place."""
    origin = torch.stack((windows.x[..., 0], windows.y[..., 0]), -1)
    counted = torch.where(windows.counts, scores, -torch.inf)
    in_window = localizing.options._replace(localization="global", target_size=None, output_offset=0.0)
    rows = rows_with_samples(windows, localizing.rows)
    found = localize_scores(counted, localizing._replace(rows=rows, options=in_window, sizes=None))
    points = PointsOfMap(localizing.options.resolve(*size, image_sizes=localizing.sizes), size)
    there = found.peak >= 0
    keypoints = points.of_cells(origin + found.keypoints.double()).to(found.keypoints.dtype)
    peak = torch.where(there, nearest_cell(windows, found.peak, size), -1)
    located = Matches(torch.where(there[..., None], keypoints, -1), found.score, peak, found.log_sum_exp)
    if (covariance := found.covariance) is None:
        return located
    return as_detailed(located, covariance=covariance * points.rates(covariance))


def rows_with_samples(windows: Windows, rows: Rows) -> Rows:
    """The rows that take part and have a sample that counts, or a center that isn't finite, which makes them NaN."""
    some = windows.counts.flatten(2).any(-1) | ~(windows.x[..., 0] + windows.y[..., 0]).isfinite()
    return Rows(rows.num_keypoints, some if rows.valid is None else some & rows.valid)


def nearest_cell(windows: Windows, sample: Tensor, size: tuple[int, int]) -> Tensor:
    """The flat cell nearest to samples (B, N), numbered row by row; halves to the even cell."""
    (height, width), columns = size, windows.x.shape[-1]
    x = windows.x.detach().gather(2, (sample.clamp(min=0) % columns)[..., None])[..., 0]
    y = windows.y.detach().gather(2, (sample.clamp(min=0) // columns)[..., None])[..., 0]
    x, y = (c.nan_to_num().round().clamp(0, n - 1).long() for c, n in ((x, width), (y, height)))
    return y * width + x


class PointsOfMap(NamedTuple):
    """From cells of a map of `size` to the units of results."""

    localization: Localization
    size: tuple[int, int]

    def of_cells(self, cells: Tensor) -> Tensor:
        """Of points (B, N, 2)."""
        of_x, of_y = maps_from_cells(self.localization, cells.new_zeros(()).expand(*self.size))
        points = torch.stack((apply_affine(cells[..., 0], of_x), apply_affine(cells[..., 1], of_y)), -1)
        return points + self.localization.output_offset

    def rates(self, covariance: Tensor) -> Tensor:
        """What covariances (B, N, 2, 2) in cells are multiplied by."""
        return rates(self.localization, covariance.new_zeros(()).expand(*self.size))
