"""Mutual nearest neighbours of two feature maps, at keypoints or cells."""

from __future__ import annotations

import torch
from torch import Tensor

from simplematch_kernels import match_descriptors

from ..sizes import ImageSize
from .matching import cells_of, rows_of


@torch.no_grad()
def mutual_at(source: Tensor, target: Tensor, keypoints: Tensor, image_size: ImageSize) -> Tensor:
    """Whether the cell that contains a keypoint and its best cell in the target are each other's best.

    Args:
        source, target: (B, C, h, w) maps, compared by the cosine.
        keypoints: (B, N, 2) as (x, y) in pixels.
        image_size: size in pixels of the image that keypoints refer to.

    Returns:
        (B, N) bool.
    """
    return mutual_cells(source, target, cells_of(keypoints, source, image_size))


@torch.no_grad()
def mutual_cells(source: Tensor, target: Tensor, cells: Tensor, backend: str = "auto") -> Tensor:
    """Whether cells of the source and their best cells in the target are each other's best.

    `simplematch_kernels.match_all` tells it of all cells. A few cells need only their own rows, one in each direction.

    Args:
        source, target: (B, C, h, w) maps, compared by the cosine.
        cells: (B, N) flat indices of cells of the source.
        backend: see `simplematch_kernels.match_descriptors`.

    Returns:
        (B, N) bool.
    """
    there = _best(source, cells, target, backend)
    return _best(target, there, source, backend) == cells


def _best(source: Tensor, cells: Tensor, target: Tensor, backend: str) -> Tensor:
    """Return the flat index (B, N) of the target's cell that is most similar to each cell of the source."""
    best: Tensor = match_descriptors(rows_of(source, cells), target, localization="argmax", backend=backend).peak
    return best
