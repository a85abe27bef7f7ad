"""Records of pairs and images, and the decoded sample of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .._torchvision import tv_tensors

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Box = tuple[float, float, float, float]
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class PairInfo:
    """The record of a pair of images, without pixels. Coordinates are (x, y) in pixels of the original images.

    Attributes:
        pair_id: unique within its data set and split.
        category: its row in tables per category.
        source_path, target_path: the image files.
        source_size, target_size: (height, width) in pixels.
        source_box, target_box: (x1, y1, x2, y2), or None where the data set has none.
        source_keypoints, target_keypoints: (N, 2) float64; row n of both is the same point of the object.
        keypoint_ids: the names of the N points, or () where the data set has none.
        variations: further fields to group results by, such as {"viewpoint_variation": "0"}.
        source_variant, target_variant: "" for the stored image, "hflip" for its flip, or the name of a warp.
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
        """Identifies the source's pixels."""
        return str(self.source_path), self.source_variant

    @property
    def target_key(self) -> tuple[str, str]:
        """Identifies the target's pixels."""
        return str(self.target_path), self.target_variant

    def swapped(self) -> PairInfo:
        """Return the pair with source and target swapped."""
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
    """An image with all its keypoints (N, 2) float64 in original pixels; `size` is (height, width)."""

    path: Path
    category: str
    size: Size
    keypoints: FloatArray


@dataclass(frozen=True, eq=False)
class PairSample:
    """A decoded pair: uint8 images (3, H, W) of their own sizes, and float64 keypoints (N, 2)."""

    info: PairInfo
    source: tv_tensors.Image
    target: tv_tensors.Image
    source_keypoints: tv_tensors.KeyPoints
    target_keypoints: tv_tensors.KeyPoints
