"""The option `center`, on arrays; see `functional/_given_windows.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .._options import SamplingOptions
from .._resolved import AffineMap, Metric, Window
from . import _arrays, _checks, _run
from ._arrays import Array, Matches, Rows
from ._interpolation import to_cells
from ._run import Localizing


class Windows(NamedTuple):
    """The samples of one window a query, a cell apart: columns at x (B, N, kw), rows at y (B, N, kh), in cells.

    counts: (B, N, kh, kw) bool, which of them take part. whole: whether they all lie on cells. are_cells: whether they
        are the cells of the map in order, whatever the center. all_count: whether in addition each takes part.
    """

    x: Array
    y: Array
    counts: Array
    whole: bool
    are_cells: bool = False
    all_count: bool = False

    def corners(self, size: tuple[int, int]) -> Iterator[tuple[Array, Array]]:
        """Of the cells that bilinear samples read: flat cell and weight, each (B, N, kh, kw), cell by cell."""
        height, width = size
        for row, of_row in _neighbours(self.y, height, self.whole):
            for column, of_column in _neighbours(self.x, width, self.whole):
                cell = row[..., :, None] * width + column[..., None, :]
                yield cell, of_row[..., :, None] * of_column[..., None, :]


def match(descriptors: Array, target: Array, center: Array, metric: Metric, localizing: Localizing) -> Matches:
    """Matches of descriptors (B, C, 1, N) in windows of a target (B, C, H, W)."""
    windows = windows_of(center, target, localizing)
    rows, columns = windows.counts.shape[2:]
    radius = (rows // 2, columns // 2)
    middle = np.stack((windows.x[..., 0] + radius[1], windows.y[..., 0] + radius[0]), -1)
    sampling = SamplingOptions(sampling="round" if windows.whole else "bilinear", sampling_padding="border")
    scores = _run.correlation(
        descriptors,
        target,
        middle,
        None,
        Rows(localizing.rows.num_keypoints, localizing.rows.valid),
        sampling.resolve(*target.shape[2:]),
        metric,
        radius,
        1.0,
        localizing.device,
    )
    return _localize(scores[..., :rows, :columns], windows, target.shape[2:], localizing)


def localize(scores: Array, center: Array, localizing: Localizing) -> Matches:
    """Matches of scores (B, N, H, W) in windows."""
    windows = windows_of(center, scores, localizing)
    return _localize(sample(scores, windows), windows, scores.shape[2:], localizing)


def sample(scores: Array, windows: Windows) -> Array:
    """(B, N, kh, kw) of scores (B, N, H, W), in the dtype of the arithmetic; a cell of weight zero isn't read."""
    dtype = _arrays.accumulation_dtype(scores)
    if windows.are_cells:
        return scores.astype(dtype, copy=False)
    flat = scores.reshape(*scores.shape[:2], -1)
    total = np.zeros(windows.counts.shape, dtype)
    for cell, weight in windows.corners(scores.shape[2:]):
        value = np.take_along_axis(flat, cell.reshape(*cell.shape[:2], -1), 2).reshape(cell.shape).astype(dtype)
        total = total + (value if windows.whole else weight.astype(dtype) * np.where(weight != 0, value, 0))
    return total


def windows_of(center: Array, features: Array, localizing: Localizing) -> Windows:
    """The windows round checked centers, in features (B, ., H, W)."""
    height, width = features.shape[2:]
    _checks.check_center_values(center, localizing.rows, height * width)
    options, mask = localizing.options, localizing.rows.target_mask
    window = options.resolve(height, width).window
    if center.ndim == 3:
        sampling = SamplingOptions(options.target_size, options.target_coords)
        points = center.astype(np.float64) - options.output_offset
        x, y = to_cells(points, sampling, localizing.sizes, height, width)
        return windows_around(x, y, window, mask, (height, width), whole=False)
    cell = center.clip(0, height * width - 1)
    x, y = (cell % width).astype(np.float64), (cell // width).astype(np.float64)
    windows = windows_around(x, y, window, mask, (height, width), whole=True)
    return windows._replace(counts=windows.counts & (center >= 0)[..., None, None])


def windows_around(
    x: Array, y: Array, window: Window, mask: Array | None, size: tuple[int, int], whole: bool
) -> Windows:
    """Windows round (x, y), each (B, N) float64 in cells; mask (B, H, W), or (B, N, H, W), of cells that count."""
    (height, width), (rows, columns) = size, window.box(*size)
    x_of, dx, inside_x = _line(x, width, window.width, columns, window.shift)
    y_of, dy, inside_y = _line(y, height, window.height, rows, window.shift)
    are_cells = whole and window.shift and (rows, columns) == size
    if are_cells and mask is None and window.shape == "square":
        every = np.broadcast_to(np.True_, (*x.shape, *size))
        return Windows(x_of, y_of, every, whole, are_cells=True, all_count=True)
    counts = inside_y[..., :, None] & inside_x[..., None, :]
    counts = counts & in_shape(window, dx[..., None, :], dy[..., :, None])
    windows = Windows(x_of, y_of, counts, whole, are_cells)
    return windows if mask is None else windows._replace(counts=counts & _selected(windows, mask, size))


def in_shape(window: Window, dx: Array, dy: Array) -> Array:
    """Whether offsets from the peak lie in the shape of the window, not its box."""
    if window.shape == "plus":
        return np.asarray((dx == 0) | (dy == 0))
    if window.is_disc:
        across, down, most = window.ellipse
        return np.asarray(across * (dx * dx) + down * (dy * dy) <= most)
    return np.ones(np.broadcast_shapes(dx.shape, dy.shape), np.bool_)


def _line(center: Array, cells: int, reach: int, count: int, shift: bool) -> tuple[Array, Array, Array]:
    """Samples (B, N, count) of a line of the window, their offsets from the center, and which lie in the window
    and in the map.
    """
    start = center - reach // 2
    if shift:
        first = start.clip(0, cells - count)
        moved, last = first - start, first + count
    else:
        moved = np.ceil(-start).clip(0)
        first, last = start + moved, start + reach
    steps = np.arange(count, dtype=np.float64)
    line = first[..., None] + steps
    offset = (moved - reach // 2)[..., None] + steps  # exact where the window is not shifted
    return line, offset, (line < last[..., None]) & (line <= cells - 1)


def _selected(windows: Windows, mask: Array, size: tuple[int, int]) -> Array:
    """(B, N, kh, kw) bool: samples that read cells of the mask alone."""
    (batch, queries), selected = windows.counts.shape[:2], np.ones_like(windows.counts)
    cells = size[0] * size[1]
    of_queries = np.broadcast_to(mask.reshape(batch, queries if mask.ndim == 4 else 1, cells), (batch, queries, cells))
    for cell, weight in windows.corners(size):
        of_cell = np.take_along_axis(of_queries, cell.reshape(batch, queries, -1), 2).reshape(cell.shape)
        selected = selected & (of_cell | (weight == 0))
    return selected


def _neighbours(line: Array, cells: int, whole: bool) -> list[tuple[Array, Array]]:
    """The cells that samples of a line lie between, and their weights: one cell for samples on cells."""
    low = np.floor(line)
    cell = np.nan_to_num(low).clip(0, cells - 1).astype(np.int64)
    if whole:
        return [(cell, np.ones_like(line))]
    above = line - low
    return [(cell, 1 - above), ((cell + 1).clip(max=cells - 1), above)]


def _localize(scores: Array, windows: Windows, size: tuple[int, int], localizing: Localizing) -> Matches:
    """Matches of the scores (B, N, kh, kw) of samples: those of a map of kh x kw cells, moved to the window's place."""
    counted = np.where(windows.counts, scores, scores.dtype.type(-np.inf))
    in_window = localizing.options._replace(localization="global", target_size=None, output_offset=0.0)
    rows = rows_with_samples(windows, localizing.rows)
    found = _run.localize(counted, localizing._replace(rows=rows, options=in_window, sizes=None))
    there, origin = found.peak >= 0, np.stack((windows.x[..., 0], windows.y[..., 0]), -1)
    keypoints = to_output(origin + found.keypoints, localizing, size).astype(found.keypoints.dtype)
    peak = np.where(there, nearest_cell(windows, found.peak, size), -1)
    found = found._replace(keypoints=np.where(there[..., None], keypoints, keypoints.dtype.type(-1)), peak=peak)
    if found.covariance is None:
        return found
    return _arrays.as_detailed(found, covariance=found.covariance * rates(localizing, size, found.covariance.dtype))


def rows_with_samples(windows: Windows, rows: Rows) -> Rows:
    """The rows that take part and have a sample that counts."""
    some = np.asarray(windows.counts.any((2, 3)))
    return Rows(rows.num_keypoints, some if rows.valid is None else some & rows.valid)


def nearest_cell(windows: Windows, sample: Array, size: tuple[int, int]) -> Array:
    """The flat cell nearest to samples (B, N), numbered row by row; halves to the even cell."""
    (height, width), columns = size, windows.x.shape[-1]
    x = np.take_along_axis(windows.x, (sample.clip(0) % columns)[..., None], 2)[..., 0]
    y = np.take_along_axis(windows.y, (sample.clip(0) // columns)[..., None], 2)[..., 0]
    x, y = (np.nan_to_num(c).round().clip(0, n - 1).astype(np.int64) for c, n in ((x, width), (y, height)))
    return np.asarray(y * width + x)


def to_output(cells: Array, localizing: Localizing, size: tuple[int, int]) -> Array:
    """Points (B, N, 2) float64 in cells, in the units of results."""
    points = np.empty_like(cells)
    for b, maps in enumerate(_maps(localizing, size, len(cells))):
        for axis, affine in enumerate(maps):
            points[b, :, axis] = (cells[b, :, axis] * affine.numerator + affine.shift) / affine.denominator
    return points + localizing.options.output_offset


def rates(localizing: Localizing, size: tuple[int, int], dtype: np.dtype[np.generic]) -> Array:
    """(B, 1, 2, 2): what covariances in cells are multiplied by; at most one image stands for all."""
    images = 1 if localizing.sizes is None else len(localizing.sizes)
    of_axes = [[a.numerator / a.denominator for a in maps] for maps in _maps(localizing, size, images)]
    rate = np.asarray(of_axes, dtype).reshape(images, 2)
    return rate[:, None, :, None] * rate[:, None, None, :]


def _maps(localizing: Localizing, size: tuple[int, int], images: int) -> Iterator[tuple[AffineMap, AffineMap]]:
    """The maps of x and y from cells to the units of results, image by image."""
    for b in range(images):
        own = localizing.options.target_size if localizing.sizes is None else tuple(localizing.sizes[b].tolist())
        resolved = localizing.options._replace(target_size=own).resolve(*size)
        yield resolved.from_cells_x, resolved.from_cells_y
