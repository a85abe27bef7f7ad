"""The interface of every data set of image pairs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from .._files import DataError
from .._torchvision import transforms, tv_tensors
from .images import decode_image
from .records import FloatArray, ImageInfo, PairInfo, PairSample, Size
from .table import PairTable

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")


class PairDataset(Dataset[PairSample]):
    """Pairs of images with corresponding keypoints.

    `len(dataset)` is the number of pairs, `dataset.info(i)` the record of a pair, and `dataset[i]` the decoded pair.
    Subclasses read the records; those that don't store images as plain files override `load_image`.

    Attributes:
        name: "spair", "pf-pascal", "pf-willow", "ap10k" or "images".
        root: folder of the data set.
        split: "trn", "val", "test", or another split of the data set.
        max_keypoints: the largest number of keypoints per training pair.
    """

    name: str = ""
    max_keypoints: int = 40

    def __init__(self, root: Path, split: str, table: PairTable) -> None:
        self.root = root
        self.split = split
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def info(self, index: int) -> PairInfo:
        """Return the record of a pair without decoding its images."""
        return self.table[index]

    def __getitem__(self, index: int) -> PairSample:
        """Decode a pair.

        Raises:
            ImageError: an image is missing, can't be decoded, or differs from its annotation in size.
        """
        info = self.info(index)
        return PairSample(
            info,
            self.load_image(info.source_path, info.source_size, info.source_variant),
            self.load_image(info.target_path, info.target_size, info.target_variant),
            _as_keypoints(info.source_keypoints, info.source_size),
            _as_keypoints(info.target_keypoints, info.target_size),
        )

    def load_image(self, path: Path, size: Size, variant: str = "") -> tv_tensors.Image:
        """Load the pixels (3, H, W) uint8 of an image of size (height, width); variant "hflip" flips them."""
        image = decode_image(path, size)
        return transforms.horizontal_flip(image) if variant == "hflip" else image

    @property
    def categories(self) -> list[str]:
        """The categories of the pairs, sorted."""
        return sorted(set(self.table.column("category")))

    @property
    def variations(self) -> dict[str, list[str]]:
        """The values of every field that pairs can be grouped by."""
        return self.table.variation_values()

    def images(self) -> list[ImageInfo]:
        """List every image once, with all its known keypoints."""
        found: dict[tuple[str, str], tuple[Path, str, Size, list[FloatArray]]] = {}
        for info in map(self.info, range(len(self))):
            for key, path, size, points in (
                (info.source_key, info.source_path, info.source_size, info.source_keypoints),
                (info.target_key, info.target_path, info.target_size, info.target_keypoints),
            ):
                found.setdefault(key, (path, info.category, size, []))[3].append(points)
        return [ImageInfo(path, c, size, np.unique(np.concatenate(p), axis=0)) for path, c, size, p in found.values()]

    def target_keypoints(self, info: PairInfo) -> Mapping[str, FloatArray]:
        """Return all keypoints (x, y) of a pair's target image by name, also those that the source image lacks.

        A data set that stores keypoints by pair returns those that any of its pairs has; {} without names.
        """
        return self._known_keypoints.get(info.target_key, {}) | named_targets(info)

    def keypoint_names(self, category: str) -> set[str]:
        """Return the names of the keypoints that the images of a category may have."""
        pairs = (self.info(i) for i, found in enumerate(self.table.column("category")) if found == category)
        return {name for info in pairs for name in info.keypoint_ids}

    @cached_property
    def _known_keypoints(self) -> dict[tuple[str, str], dict[str, FloatArray]]:
        known: dict[tuple[str, str], dict[str, FloatArray]] = {}
        for info in map(self.info, range(len(self))):
            for pair in (info, info.swapped()):
                known.setdefault(pair.target_key, {}).update(named_targets(pair))
        return known

    def subset(self, indices: Sequence[int]) -> PairDataset:
        """Return the data set with only the pairs at `indices`."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.table = self.table.select(indices)
        return other


def named_targets(info: PairInfo) -> dict[str, FloatArray]:
    """Return the target keypoints of a pair by name; {} if they have no names."""
    return dict(zip(info.keypoint_ids, info.target_keypoints, strict=True)) if info.keypoint_ids else {}


def read_records(
    items: Iterable[_Item], read: Callable[[_Item], PairInfo], *, skip_broken: bool, what: str
) -> list[PairInfo]:
    """Read the records of all pairs; a broken annotation raises, or with `skip_broken` is skipped and counted."""
    records, broken = [], []
    for item in items:
        try:
            records.append(read(item))
        except DataError as error:
            if not skip_broken:
                raise
            broken.append(str(error))
    if broken:
        _log.warning(
            "%s: skipped %d of %d pairs; the first reason: %s", what, len(broken), len(broken) + len(records), broken[0]
        )
    if not records:
        raise DataError(f"{what} has no usable pair" + (f"; the first reason: {broken[0]}" if broken else "."))
    return records


def _as_keypoints(points: FloatArray, size: Size) -> tv_tensors.KeyPoints:
    return tv_tensors.KeyPoints(torch.tensor(points), canvas_size=size)
