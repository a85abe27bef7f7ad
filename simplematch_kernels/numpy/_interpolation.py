"""Interpolation of matches on arrays: `reference/interpolation.py`, operation by operation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._options import SamplingOptions
from .._resolved import INTERPOLATION_EPS
from ._arrays import Array, Matches, Rows

Match = Callable[[Array, Rows, Array | None], Matches]


def interpolate_matches(
    source: Array,
    keypoints: Array,
    sampling: SamplingOptions,
    sizes: Array | None,
    rows: Rows,
    temperature: Array | None,
    match: Match,
) -> Matches:
    """Matches of keypoints (B, N, 2) from those of the four cells around each; `sizes` (B, 2) are those of images."""
    height, width = source.shape[2:]
    x, y = to_cells(keypoints, sampling, sizes, height, width)
    x, y = _inside(x, width), _inside(y, height)
    left, top = np.floor(x), np.floor(y)
    right_x, right_y = x - left, y - top
    columns, lines = np.stack((left, left + 1, left, left + 1), -1), np.stack((top, top, top + 1, top + 1), -1)
    cells = np.stack((np.minimum(columns, width - 1), np.minimum(lines, height - 1)), -1)  # (B, N, 4, 2)
    weights = ((1 - right_x) * (1 - right_y), right_x * (1 - right_y), (1 - right_x) * right_y, right_x * right_y)
    nearest = np.stack(weights, -1).argmax(-1)[..., None]
    batch, count = keypoints.shape[:2]
    mask = rows.target_mask
    of_cells = Rows(
        None if rows.num_keypoints is None else 4 * rows.num_keypoints,
        _repeated(rows.valid),
        mask if mask is None or mask.ndim == 3 else _repeated(mask),
    )
    matches = match(cells.reshape(batch, 4 * count, 2), of_cells, _repeated(temperature))
    peak = np.take_along_axis(matches.peak.reshape(batch, count, 4), nearest, 2)[..., 0]

    def blend(x: Array, invalid: float) -> Array:
        """Of (B, 4 N, ...), or `invalid` in rows without a match."""
        shape = peak.shape + (1,) * (x.ndim - 2)
        four = x.reshape(batch, count, 4, *x.shape[2:])
        total = np.zeros(four.shape[:2] + four.shape[3:], x.dtype)
        for i, weight in enumerate(weights):
            total = total + weight.astype(x.dtype).reshape(shape) * four[:, :, i]
        return np.where((peak >= 0).reshape(shape), total, x.dtype.type(invalid))

    return Matches(blend(matches.keypoints, -1), blend(matches.score, 0), peak, blend(matches.log_sum_exp, 0))


def to_cells(
    keypoints: Array, sampling: SamplingOptions, sizes: Array | None, height: int, width: int
) -> tuple[Array, Array]:
    """Cell coordinates (x, y), each (B, N) float64."""
    cells = keypoints.astype(np.float64)
    for b, of_image in enumerate(cells):
        size = sampling.source_size if sizes is None else tuple(sizes[b].tolist())
        resolved = sampling._replace(source_size=size).resolve(height, width)
        for axis, affine in enumerate((resolved.to_cells_x, resolved.to_cells_y)):
            of_image[:, axis] = (of_image[:, axis] * affine.numerator + affine.shift) / affine.denominator
    return cells[..., 0], cells[..., 1]


def _inside(x: Array, cells: int) -> Array:
    if cells == 1:
        return np.zeros_like(x)
    return np.asarray(x.clip(INTERPOLATION_EPS, cells - 1 - INTERPOLATION_EPS))


def _repeated(x: Array | None) -> Array | None:
    return None if x is None else x.repeat(4, 1)
