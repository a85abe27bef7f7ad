"""Pairs of images with points that have no match: of different categories, and copies that are hidden in part.

The target keypoint of a point without a match is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from .._files import DataError
from .._torchvision import tv_tensors
from .dataset import PairDataset
from .records import BoolArray, FloatArray, PairInfo, Size
from .table import PairTable
from .warps import Warp, random_warp, warp_image

KINDS = ("affine", "perspective", "thin-plate")
_REACH = 1.6  # points are drawn in a square that extends so far beyond the target, whose sides lie at -1 and 1
_INSIDE = 0.95  # and lie so far inside the source
_CLEAR = 0.05  # a point outside the target lies at least so far from every point that the target shows
_LINE = np.linspace(-1, 1, 81)
_SHOWN = np.stack(np.meshgrid(_LINE, _LINE), axis=-1).reshape(-1, 2)
_View = tuple[Path, Size, str]


def different_categories(dataset: PairDataset, count: int, seed: int = 0) -> PairDataset:
    """Pair sources of a data set with targets of other categories, so that no keypoint has a match.

    Args:
        dataset: pairs of at least two categories.
        count: number of pairs; every ordered pair of categories has its turn.
        seed: seed of the choice of images.

    Raises:
        DataError: all pairs have one category.
    """
    members: dict[str, list[int]] = {}
    for index, name in enumerate(dataset.table.column("category")):
        members.setdefault(_object_of(name), []).append(index)
    ways = [(a, b) for a in sorted(members) for b in sorted(members) if a != b]
    if not ways:
        raise DataError(f"{dataset.root} must have pairs of two categories or more, got only {', '.join(members)}.")
    draw = np.random.default_rng(seed)
    infos = []
    for number in range(count):
        source, target = (dataset.info(int(draw.choice(members[name]))) for name in ways[number % len(ways)])
        infos.append(_joined(source, target, number))
    found = dataset.subset([])
    found.table = PairTable.of(infos, dataset.root)
    return found


def _object_of(category: str) -> str:
    """Return the object of a category: PF-WILLOW tells views of an object apart by a bracket, as in car(G)."""
    return category.partition("(")[0]


def _joined(source: PairInfo, target: PairInfo, number: int) -> PairInfo:
    return replace(
        source,
        pair_id=f"{number}:{source.pair_id}:{target.pair_id}",
        target_path=target.target_path,
        target_size=target.target_size,
        target_box=target.target_box,
        target_variant=target.target_variant,
        target_keypoints=np.full_like(source.source_keypoints, np.nan),
    )


class OccludedImages(PairDataset):
    """Images of a data set, each paired with warped copies of itself that a piece of another image hides in part.

    Points are drawn where the copy shows them, where the piece hides them, and where the copy has lost them. They
    depend only on `seed`, the image's index and the copy's number.
    """

    name = "images"

    def __init__(self, dataset: PairDataset, *, copies: int = 2, num_keypoints: int = 24, seed: int = 0) -> None:
        """Draw the warps, the pieces and the points.

        Args:
            dataset: the data set whose images to use, of at least two.
            copies: number of copies of each image.
            num_keypoints: number of points per pair.
            seed: seed of all draws.

        Raises:
            DataError: the data set has a single image.
        """
        self._dataset = dataset
        self._views = _views(dataset)
        self._num_keypoints = num_keypoints
        if len(self._views) < 2:
            raise DataError(f"{dataset.root} must have at least two images, got one.")
        numbers = [(i, j) for i in range(len(self._views)) for j in range(copies)]
        infos = [self._info(i, f"{KINDS[(i + j) % len(KINDS)]}:{seed}:{i}:{j}") for i, j in numbers]
        super().__init__(dataset.root, dataset.split, PairTable.of(infos, dataset.root))

    def load_image(self, path: Path, size: Size, variant: str = "") -> tv_tensors.Image:
        """Load the pixels (3, H, W) uint8 of an image, or of its copy if `variant` names a warp."""
        own, _, copy = variant.partition("|")
        image = self._dataset.load_image(path, size, own)
        if not copy:
            return image
        warped = warp_image(image, random_warp(copy)[0])
        piece = _Piece.of(copy)
        index = int(copy.split(":")[2])
        other = self._views[(index + 1 + int(piece.choice * (len(self._views) - 1))) % len(self._views)]
        return tv_tensors.Image(piece.paste(self._dataset.load_image(*other), warped))

    def _info(self, index: int, copy: str) -> PairInfo:
        path, size, own = self._views[index]
        side = np.array(size[::-1], dtype=np.float64)
        source, target = _draw_points(random_warp(copy)[0], _Piece.of(copy), self._num_keypoints, _generator(copy, 1))
        box = (0.0, 0.0, float(side[0]), float(side[1]))
        return PairInfo(
            pair_id=f"{path.stem}-{copy}",
            category="occluded",
            source_path=path,
            target_path=path,
            source_size=size,
            target_size=size,
            source_box=box,
            target_box=box,
            source_keypoints=(source + 1) / 2 * side,
            target_keypoints=(target + 1) / 2 * side,
            source_variant=own,
            target_variant=f"{own}|{copy}",
        )


@dataclass(frozen=True)
class _Piece:
    """A rectangle of another image, in coordinates from -1 to 1; `choice` from 0 to 1 says which image."""

    left: float
    top: float
    right: float
    bottom: float
    choice: float

    @classmethod
    def of(cls, copy: str) -> _Piece:
        """Draw a piece that covers 15 to 40 % of a copy."""
        draw = _generator(copy, 2)
        stretch = np.exp(draw.uniform(-0.5, 0.5))
        width, height = np.sqrt(draw.uniform(0.15, 0.4)) * np.array([stretch, 1 / stretch]) * 2
        left, top = draw.uniform(-1, np.maximum(1 - np.array([width, height]), -1))
        return cls(float(left), float(top), float(left + width), float(top + height), float(draw.uniform()))

    def covers(self, points: FloatArray) -> BoolArray:
        x, y = points.T
        return np.asarray((x >= self.left) & (x <= self.right) & (y >= self.top) & (y <= self.bottom))

    def paste(self, other: Tensor, image: Tensor) -> Tensor:
        """Replace the rectangle of `image` (3, H, W) by the same rectangle of `other`, brought to its size."""
        height, width = image.shape[-2:]
        resized = torch.nn.functional.interpolate(
            other.as_subclass(Tensor)[None].float(), (height, width), mode="bilinear", antialias=True
        )[0]
        rows = slice(round((self.top + 1) / 2 * height), round((self.bottom + 1) / 2 * height))
        columns = slice(round((self.left + 1) / 2 * width), round((self.right + 1) / 2 * width))
        pasted = image.as_subclass(Tensor).clone()
        pasted[:, rows, columns] = resized[:, rows, columns].round().clamp(0, 255).to(torch.uint8)
        return pasted


def _generator(copy: str, purpose: int) -> np.random.Generator:
    return np.random.default_rng([*(int(number) for number in copy.split(":")[1:]), purpose])


def _draw_points(warp: Warp, piece: _Piece, count: int, draw: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw points (N, 2) of the source, and where the target shows them, NaN where it doesn't; -1 to 1 over both."""
    target = draw.uniform(-_REACH, _REACH, (64 * count, 2))
    source = warp(target)
    outside = (np.abs(target) > 1).any(axis=1)
    far, _ = cKDTree(warp(_SHOWN)).query(source)
    keep = np.flatnonzero((np.abs(source) < _INSIDE).all(axis=1) & (~outside | (far > _CLEAR)))[:count]
    hidden = outside | piece.covers(target)
    return source[keep], np.where(hidden[keep, None], np.nan, target[keep])


def _views(dataset: PairDataset) -> list[_View]:
    """List every image of the pairs once."""
    found: dict[tuple[str, str], _View] = {}
    for info in map(dataset.info, range(len(dataset))):
        found.setdefault(info.source_key, (info.source_path, info.source_size, info.source_variant))
        found.setdefault(info.target_key, (info.target_path, info.target_size, info.target_variant))
    return [found[key] for key in sorted(found)]
