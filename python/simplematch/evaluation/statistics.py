"""Keypoint fusion: counts of keypoints that share a cell of a feature map (Table 1 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.dataset import PairDataset
from ..data.records import ImageInfo


@dataclass
class Fusion:
    """Counts of keypoints over images.

    Attributes:
        images, keypoints: their numbers.
        shared: for each grid, the number of keypoints that share a cell with another keypoint of their image.
        largest: for each grid, the largest number of keypoints in one cell.
    """

    images: int = 0
    keypoints: int = 0
    shared: dict[int, int] = field(default_factory=dict)
    largest: dict[int, int] = field(default_factory=dict)

    def fraction(self, grid: int) -> float:
        """Return the fraction of keypoints that share a cell, from 0 to 1."""
        return self.shared[grid] / self.keypoints if self.keypoints else 0.0


def statistics(dataset: PairDataset, grids: Sequence[int] = (16, 32, 64)) -> dict[str, Fusion]:
    """Count keypoints that share a cell, on grids of G x G cells over the image resized to a square.

    Every image counts once, with all its keypoints.

    Returns:
        A `Fusion` for each category, and one for "all".
    """
    if not grids or min(grids) < 1:
        raise ValueError(f"grids must be positive numbers, got {tuple(grids)}")
    found: dict[str, Fusion] = {}
    for image in dataset.images():
        for name in (image.category, "all"):
            _count(found.setdefault(name, Fusion()), image, grids)
    return {name: found[name] for name in sorted(found, key=lambda name: (name == "all", name))}


def format_statistics(found: dict[str, Fusion]) -> str:
    """Format the counts as a text table."""
    grids = list(next(iter(found.values())).shared)
    width = max(len(name) for name in found)
    heads = "".join(f"{f'{grid}x{grid}':>22}" for grid in grids)
    lines = [f"{'':{width}}  images  keypoints{heads}   (share a cell: number, percent, most in one)"]
    for name, fusion in found.items():
        cells = "".join(
            f"{fusion.shared[g]:>10} {100 * fusion.fraction(g):>5.1f} % {fusion.largest[g]:>3}" for g in grids
        )
        lines.append(f"{name:{width}}  {fusion.images:>6}  {fusion.keypoints:>9}{cells}")
    return "\n".join(lines)


def _count(fusion: Fusion, image: ImageInfo, grids: Sequence[int]) -> None:
    fusion.images += 1
    fusion.keypoints += len(image.keypoints)
    for grid in grids:
        counts = _cell_counts(image, grid)
        fusion.shared[grid] = fusion.shared.get(grid, 0) + int(counts[counts > 1].sum())
        fusion.largest[grid] = max(fusion.largest.get(grid, 0), int(counts.max(initial=0)))


def _cell_counts(image: ImageInfo, grid: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    side = np.array(image.size[::-1])
    cells = np.floor(image.keypoints / side * grid).clip(0, grid - 1).astype(np.int64)
    return np.unique(cells[:, 1] * grid + cells[:, 0], return_counts=True)[1].astype(np.int64)
