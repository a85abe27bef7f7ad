"""What a pair of images is: its record, its decoded sample, and the record of one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .._torchvision import tv_tensors

FloatArray = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class PairInfo:
    """A pair of images, without their pixels. Coordinates are (x, y) in pixels of the original images.

    Attributes:
        pair_id: unique within its data set and split.
        category: the group of the per-category table.
        source_path, target_path: files of the images.
        source_size, target_size: (height, width) in pixels.
        source_box, target_box: (x1, y1, x2, y2), or None where the data set has none.
        source_keypoints, target_keypoints: (N, 2) float64; row n of both is the same point of the object.
        keypoint_ids: N names of the points, or () where the data set has none.
        variations: what the breakdowns group by, such as {"viewpoint_variation": "0"}.
        source_variant, target_variant: "" for the image as stored, otherwise what is done to it ("mirrored", a warp).
    """

    pair_id: str
    category: str
    source_path: Path
    target_path: Path
    source_size: Size
    target_size: Size
    source_box: Box | None
    target_box: Box | None
    source_keypoints: FloatArray
    target_keypoints: FloatArray
    keypoint_ids: tuple[str, ...] = ()
    variations: Mapping[str, str] = field(default_factory=dict)
    source_variant: str = ""
    target_variant: str = ""

    @property
    def source_key(self) -> tuple[str, str]:
        """What tells the source's pixels from those of other images."""
        return str(self.source_path), self.source_variant

    @property
    def target_key(self) -> tuple[str, str]:
        return str(self.target_path), self.target_variant

    def swapped(self) -> PairInfo:
        """The pair with source and target in each other's place."""
        return replace(
            self,
            source_path=self.target_path,
            target_path=self.source_path,
            source_size=self.target_size,
            target_size=self.source_size,
            source_box=self.target_box,
            target_box=self.source_box,
            source_keypoints=self.target_keypoints,
            target_keypoints=self.source_keypoints,
            source_variant=self.target_variant,
            target_variant=self.source_variant,
        )


@dataclass(frozen=True, eq=False)
class ImageInfo:
    """One image with all its keypoints (N, 2) float64, in original pixels; size is (height, width)."""

    path: Path
    category: str
    size: Size
    keypoints: FloatArray


@dataclass(frozen=True, eq=False)
class PairSample:
    """A pair with its pixels: uint8 images (3, H, W), each in its own size, and float64 keypoints (N, 2) in them."""

    info: PairInfo
    source: tv_tensors.Image
    target: tv_tensors.Image
    source_keypoints: tv_tensors.KeyPoints
    target_keypoints: tv_tensors.KeyPoints
