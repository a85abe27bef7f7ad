"""Interpolation of matches: the cells around a keypoint are matched each for itself, and the results are blended."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._resolved import INTERPOLATION_EPS, Sampling
from .._types import Matches, Rows
from .gather import to_cells

Match = Callable[[Tensor, Rows, Tensor | None], Matches]
"""Matches of cells (B, K, 2), with their rows and temperatures (B, K)."""


def interpolate_matches(
    source: Tensor, keypoints: Tensor, sampling: Sampling, rows: Rows, temperature: Tensor | None, match: Match
) -> Matches:
    """Matches of keypoints (B, N, 2) from those of the four cells around each, 4 N queries without other memory.

    (x, y) = to_cells(keypoint), clamped to [eps, W - 1 - eps] x [eps, H - 1 - eps]
    result = sum over the four cells (i, j) around (x, y) of (1 - |x - i|) (1 - |y - j|) match(i, j)

    for the matched point, the score and log_sum_exp; the peak is that of the nearest cell, of several the first row by
    row. Gradients reach the keypoints through the weights, where no clamp holds them.
    """
    height, width = source.shape[-2:]
    x, y = to_cells(keypoints, source, sampling)
    finite = x.isfinite() & y.isfinite()
    x, y = _inside(x, width), _inside(y, height)
    left, top = x.detach().floor(), y.detach().floor()
    right_x, right_y = x - left, y - top
    columns, lines = torch.stack((left, left + 1, left, left + 1), -1), torch.stack((top, top, top + 1, top + 1), -1)
    cells = torch.stack((columns.clamp(max=width - 1), lines.clamp(max=height - 1)), -1)  # (B, N, 4, 2)
    cells = torch.where(finite[..., None, None], cells, torch.nan)
    weights = ((1 - right_x) * (1 - right_y), right_x * (1 - right_y), (1 - right_x) * right_y, right_x * right_y)
    nearest = torch.stack(weights, -1).detach().argmax(-1, keepdim=True)
    matches = match(cells.flatten(1, 2), _of_cells(rows), _repeated(temperature))
    peak = matches.peak.unflatten(1, (-1, 4)).gather(2, nearest)[..., 0]

    def blend(of_cells: Tensor, invalid: float) -> Tensor:
        """Of (B, 4 N, ...), or `invalid` in rows without a match."""
        shape = peak.shape + (1,) * (of_cells.dim() - 2)
        total = torch.zeros((), dtype=of_cells.dtype, device=of_cells.device)
        for weight, of_cell in zip(weights, of_cells.unflatten(1, (-1, 4)).unbind(2), strict=True):
            total = total + weight.to(of_cells.dtype).view(shape) * of_cell
        return torch.where((peak >= 0).view(shape), total, invalid)

    return Matches(blend(matches.keypoints, -1), blend(matches.score, 0), peak, blend(matches.log_sum_exp, 0))


def _inside(x: Tensor, cells: int) -> Tensor:
    """Coordinates between the first and the last of the cells, but for eps."""
    return x.clamp(INTERPOLATION_EPS, cells - 1 - INTERPOLATION_EPS) if cells > 1 else torch.zeros_like(x)


def _of_cells(rows: Rows) -> Rows:
    counts = None if rows.num_keypoints is None else 4 * rows.num_keypoints
    mask = rows.target_mask
    return Rows(counts, _repeated(rows.valid), mask if mask is None or mask.dim() == 2 else _repeated(mask))


def _repeated(x: Tensor | None) -> Tensor | None:
    """(B, N, ...) as (B, 4 N, ...)."""
    return None if x is None else x.unsqueeze(2).expand(*x.shape[:2], 4, *x.shape[2:]).flatten(1, 2)
