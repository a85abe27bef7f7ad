"""Mutual nearest neighbours of two feature maps, read at keypoints."""

from __future__ import annotations

import torch
from torch import Tensor

from simplematch_kernels import match_all

from ..sizes import ImageSize
from .matching import cells_of


@torch.no_grad()
def mutual_at(source: Tensor, target: Tensor, keypoints: Tensor, image_size: ImageSize) -> Tensor:
    """Whether the cell that contains a keypoint and its best cell in the target are each other's best.

    Both directions come from one pass over the products of all cells.

    Args:
        source, target: (B, C, h, w) maps, compared by the cosine.
        keypoints: (B, N, 2) as (x, y) in pixels.
        image_size: size in pixels of the image that keypoints refer to.

    Returns:
        (B, N) bool.
    """
    mutual: Tensor = match_all(source, target, return_log_sum_exp=False).mutual
    return mutual.gather(1, cells_of(keypoints, source, image_size))
