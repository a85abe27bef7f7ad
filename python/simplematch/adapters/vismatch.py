"""A matcher of vismatch (earlier image-matching-models): our models with the interface of its `BaseMatcher`.

>>> from simplematch.adapters.vismatch import Matcher  # doctest: +SKIP
>>> Matcher(model="dinov2-s14-448-nn", device="cpu")("a.jpg", "b.jpg")["matched_kpts0"]  # doctest: +SKIP
"""

from __future__ import annotations

import bisect
import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..correspondences import DEFAULT_MODEL, grid_points, grid_shape, match_pictures
from ..data.records import FloatArray, Size
from ..models import NearestNeighbour, SimpleMatch, load_model

try:
    from vismatch import BaseMatcher
except ModuleNotFoundError as error:
    if error.name != "vismatch":  # one of its own dependencies
        raise
    raise ImportError(
        "simplematch.adapters.vismatch needs the package vismatch: pip install vismatch, or the extra vismatch"
    ) from error


class Matcher(BaseMatcher):  # type: ignore[misc]  # vismatch declares no types
    """Matches a regular grid of points of the first image, as our models detect no keypoints.

    A call takes two images, files, PIL images or tensors (3, H, W) of 0..1, and returns vismatch's dictionary:
    "all_kpts0" is the grid and "all_kpts1" the match of each of its points; "matched_kpts0", "matched_kpts1" and
    "matched_confidences" are the matches that are kept; "inlier_kpts0", "inlier_kpts1" and "H" come from vismatch's
    RANSAC. Coordinates are (x, y) in pixels of the images. There are no descriptors.

    Args:
        device: a device of torch.
        model: a model, its folder, its repository on the hub, or a preset; see `simplematch.models.load_model`.
        max_num_keypoints: largest number of points of the grid.
        mutual: keep only points in cells that are mutual nearest neighbours.
        threshold: keep only matches with a confidence, the cosine of the descriptors, above this.
        options: those of `BaseMatcher`: ransac_iters, ransac_conf, ransac_reproj_thresh.

    Raises:
        ValueError: the model is unknown, or `max_num_keypoints` is below 1.
    """

    def __init__(
        self,
        device: str = "cpu",
        model: SimpleMatch | NearestNeighbour | str | Path = DEFAULT_MODEL,
        max_num_keypoints: int = 2048,
        mutual: bool = True,
        threshold: float = -1.0,
        **options: Any,
    ) -> None:
        super().__init__(device, **options)
        if max_num_keypoints < 1:
            raise ValueError(f"max_num_keypoints must be a whole number above zero, got {max_num_keypoints!r}")
        loaded = load_model(model) if isinstance(model, str | Path) else model
        self.model = loaded.to(device).eval()
        self.max_num_keypoints, self.mutual, self.threshold = max_num_keypoints, mutual, threshold

    def preprocess(self, img: Tensor) -> Image.Image:
        """Return an image (3, H, W) of 0..1 as 8-bit RGB."""
        pixels = (img.detach().clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())

    def _forward(self, img0: Tensor, img1: Tensor) -> tuple[Any, ...]:
        """Match as `BaseMatcher` asks: matched and all keypoints of both images, no descriptors, confidences."""
        a, b = self.preprocess(img0), self.preprocess(img1)
        points = _grid((a.height, a.width), self.max_num_keypoints)
        found = match_pictures(a, b, points, model=self.model, device=self.device)
        kept = found.confidence > self.threshold
        if self.mutual and found.mutual is not None:
            kept &= found.mutual
        matched = found.points[kept], found.matches[kept]
        return *matched, found.points, found.matches, None, None, found.confidence[kept]


def _grid(size: Size, most: int) -> FloatArray:
    """Return the finest grid of at most `most` points."""
    finer = bisect.bisect_right(range(1, most + 1), most, key=lambda count: math.prod(grid_shape(size, count)))
    return grid_points(size, finer)
