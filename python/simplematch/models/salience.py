"""Points worth matching: cells of mutual nearest neighbours that little else in either image resembles.

The model's own map decides, because a corner detector finds texture of the background as readily as parts of objects.
Cells of sky, walls or repeated patterns have close rivals in their own images, and little salience.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..data.records import BoolArray, FloatArray
from .evidence import CellMatches

COUNT = 32


def salient_points(cells: CellMatches, count: int = COUNT) -> FloatArray:
    """Choose salient points of mutual nearest neighbours, spread over the source.

    Args:
        cells: the cells of the source, matched with those of the target.
        count: largest number of points.

    Returns:
        Points (N, 2) as (x, y) from 0 to 1 over the source's sides, N from 1 to `count`, the most salient first.
    """
    salience, mutual = cells.salience.double().cpu().numpy(), cells.mutual.cpu().numpy()
    y, x = np.divmod(spread_cells(salience, mutual, cells.shape, count), cells.shape[1])
    return np.stack(((x + 0.5) / cells.shape[1], (y + 0.5) / cells.shape[0]), axis=1)


def spread_cells(
    salience: FloatArray, candidates: BoolArray, shape: tuple[int, int], count: int
) -> npt.NDArray[np.int64]:
    """Choose cells by greedy non-maximum suppression: the most salient first, none near an earlier one.

    Two of `count` cells that are spread evenly lie 1.4 times the least distance apart. Of equals the first wins.

    Args:
        salience: (H * W,); NaN comes last.
        candidates: (H * W,), the cells to choose from.
        shape: (H, W).
        count: largest number of cells.

    Returns:
        Flat indices (N,) of cells, the most salient first.
    """
    height, width = shape
    nearest = height * width / (2 * count)  # squared distance
    rows, columns = np.divmod(np.arange(height * width), width)
    chosen: list[int] = []
    free = candidates.copy()
    for cell in np.argsort(-np.nan_to_num(salience, nan=-np.inf), kind="stable"):
        if len(chosen) == count:
            break
        if free[cell]:
            chosen.append(int(cell))
            free &= (rows - rows[cell]) ** 2 + (columns - columns[cell]) ** 2 > nearest
    return np.array(chosen, dtype=np.int64)
