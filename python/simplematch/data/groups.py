"""Groups of images of one category: each image is encoded once, and training uses every ordered pair of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._files import DataError
from .._torchvision import tv_tensors
from .batch import pad_keypoints
from .dataset import PairDataset
from .images import ImageError
from .records import Box, FloatArray, PairInfo, Size
from .seeded import SeededDataset
from .transforms import PairTransform

_Key = tuple[str, str]


@dataclass(frozen=True, eq=False)
class NamedImage:
    """An image with its keypoints by name, (x, y) in original pixels, collected from all its pairs."""

    path: Path
    variant: str
    category: str
    size: Size
    box: Box | None
    keypoints: dict[str, FloatArray]


@dataclass(frozen=True, eq=False)
class GroupSample:
    """A group of G images of one category.

    Attributes:
        images: (G, 3, H, W) float32, normalised; or (G, F) float16, encoded, see `SimpleMatch.encode_images`.
        keypoints: (G, P, 2) float32 (x, y) in pixels of the H x W input; column p is the same point in every image.
        visible: (G, P) bool: False where an image lacks the point; its coordinates are then -1.
        skipped: one sentence for each unreadable image that was replaced.
        files: the paths of the images.
    """

    images: Tensor
    keypoints: Tensor
    visible: Tensor
    skipped: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(eq=False)
class GroupBatch:
    """A batch of B groups: images (B, G, 3, H, W) or encoded (B, G, F), keypoints (B, G, P, 2), visible (B, G, P)."""

    images: Tensor
    keypoints: Tensor
    visible: Tensor
    skipped: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of ordered pairs of different images."""
        groups, size = self.images.shape[:2]
        return groups * size * (size - 1)

    @property
    def images_encoded(self) -> int:
        """The number of images in the batch."""
        return self.images.shape[0] * self.images.shape[1]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The arguments of `GroupLosses`."""
        return self.images, self.keypoints, self.visible

    @property
    def count(self) -> Tensor:
        """The number of keypoints that the loss averages over."""
        return pair_visibility(self.visible).sum()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GroupBatch:
        """Copy the tensors to a device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            keypoints=self.keypoints.to(device, non_blocking=non_blocking),
            visible=self.visible.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> GroupBatch:
        """Copy the tensors to pinned memory; `DataLoader(pin_memory=True)` calls it."""
        return replace(
            self,
            images=self.images.pin_memory(),
            keypoints=self.keypoints.pin_memory(),
            visible=self.visible.pin_memory(),
        )


def pair_visibility(visible: Tensor) -> Tensor:
    """Expand visible (B, G, P) to pairs: (B, G targets, G sources, P) bool, False where source and target are equal."""
    both = visible[:, :, None] & visible[:, None]
    different = ~torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)
    return both & different[None, :, :, None]


def collate_groups(samples: Sequence[GroupSample]) -> GroupBatch:
    """Collate groups of equal size into a batch, padded to the largest number of keypoints."""
    if not samples:
        raise ValueError("samples must have at least one item, got none")
    points = [sample.keypoints.transpose(0, 1) for sample in samples]  # (P, G, 2): pad along P
    visible = [sample.visible.T for sample in samples]
    return GroupBatch(
        images=torch.stack([sample.images for sample in samples]),
        keypoints=pad_keypoints(points).transpose(1, 2).contiguous(),
        visible=torch.nn.utils.rnn.pad_sequence(visible, batch_first=True).transpose(1, 2).contiguous(),
        skipped=[sentence for sample in samples for sentence in sample.skipped],
        files=[file for sample in samples for file in sample.files],
    )


class ImageGroups(SeededDataset[GroupSample]):
    """The images of a data set of pairs, in groups of G of one category, reshuffled in every epoch.

    A sample depends only on seed, epoch and index. Each epoch uses every image about once: the last group of a category
    is filled with images of the first.
    """

    def __init__(
        self,
        dataset: PairDataset,
        transform: PairTransform,
        group_size: int,
        *,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        """Collect the images.

        Args:
            dataset: pairs whose keypoints have names, so that the keypoints of any two images correspond.
            transform: transforms an image to the network's input; `max_keypoints` and `swap` have no effect.
            group_size: G, at least 2.
            seed: seed of the groups and the augmentation.
            skip_broken: replace an unreadable image by another image of its category.

        Raises:
            DataError: the keypoints have no names, or no category has two images.
        """
        super().__init__(seed)
        self.dataset, self.transform, self.group_size = dataset, transform, group_size
        self.skip_broken = skip_broken
        by_category: dict[str, list[NamedImage]] = {}
        for image in named_images(dataset):
            by_category.setdefault(image.category, []).append(image)
        self.categories = {name: images for name, images in sorted(by_category.items()) if len(images) > 1}
        if not self.categories:
            raise DataError(f"{dataset.root} must have a category with two images or more, got none.")
        self.names = {
            category: sorted({name for image in images for name in image.keypoints})
            for category, images in self.categories.items()
        }
        self._places = [
            (category, first)
            for category, images in self.categories.items()
            for first in range(0, len(images), group_size)
        ]

    def __len__(self) -> int:
        """The number of groups in an epoch."""
        return len(self._places)

    def __getitem__(self, index: int) -> GroupSample:
        category, first = self._places[index]
        images = self.categories[category]
        order = np.random.default_rng([self.seed, self.epoch, self._number(category)]).permutation(len(images))
        generator = self.generator(index)
        hflip = self.transform.draw_hflip(generator)
        skipped: list[str] = []
        files: list[str] = []
        members = [
            self._member(images, order, first + place, generator, hflip, skipped, files)
            for place in range(self.group_size)
        ]
        columns = zip(*members, strict=True)
        pixels, keypoints, visible = (torch.stack(column) for column in columns)
        return GroupSample(pixels, keypoints, visible, tuple(skipped), tuple(files))

    def _member(
        self,
        images: list[NamedImage],
        order: Any,
        place: int,
        generator: Generator,
        hflip: bool,
        skipped: list[str],
        files: list[str],
    ) -> tuple[Tensor, Tensor, Tensor]:
        for offset in range(len(images)):
            image = images[order[(place + offset) % len(images)]]
            try:
                member = self._load(image, generator, hflip)
            except ImageError as error:
                if not self.skip_broken:
                    raise
                skipped.append(str(error))
            else:
                files.append(str(image.path))
                return member
        category = images[0].category
        raise ImageError(f"none of the images of category {category} can be read; the first reason: {skipped[0]}")

    def _load(self, image: NamedImage, generator: Generator, hflip: bool) -> tuple[Tensor, Tensor, Tensor]:
        names = self.names[image.category]
        known = [i for i, name in enumerate(names) if name in image.keypoints]
        coordinates = torch.tensor(np.stack([image.keypoints[names[i]] for i in known]))
        pixels, moved, inside = self._place(image, coordinates, generator, hflip)
        keypoints = torch.full((len(names), 2), -1.0)
        visible = torch.zeros(len(names), dtype=torch.bool)
        visible[known] = inside
        keypoints[visible] = moved[inside]
        return pixels, keypoints, visible

    def _place(self, image: NamedImage, points: Tensor, generator: Generator, hflip: bool) -> tuple[Tensor, ...]:
        """Return the network's input of an image, the points (N, 2) float32 in its pixels, and (N,) bool: inside."""
        pixels = self.dataset.load_image(image.path, image.size, image.variant)
        keypoints = tv_tensors.KeyPoints(points, canvas_size=image.size)
        return self.transform.augment(pixels, keypoints, image.box, image.category, generator, hflip)[:3]

    def _number(self, category: str) -> int:
        return list(self.categories).index(category)


def named_images(dataset: PairDataset) -> list[NamedImage]:
    """List every image once, with the keypoints of all its pairs.

    Raises:
        DataError: a pair's keypoints have no names.
    """
    found: dict[_Key, NamedImage] = {}
    for info in map(dataset.info, range(len(dataset))):
        if len(info.keypoint_ids) != len(info.target_keypoints):
            raise DataError(
                f"pair {info.pair_id} of {dataset.root} has keypoints without names (kps_ids), which groups need: "
                "train on pairs instead, with group_size: null."
            )
        for side in (_source(info), _target(info)):
            image, points = side
            known = found.setdefault((str(image.path), image.variant), image)
            known.keypoints.update(zip(info.keypoint_ids, points, strict=True))
    return list(found.values())


def _source(info: PairInfo) -> tuple[NamedImage, FloatArray]:
    image = NamedImage(info.source_path, info.source_variant, info.category, info.source_size, info.source_box, {})
    return image, info.source_keypoints


def _target(info: PairInfo) -> tuple[NamedImage, FloatArray]:
    image = NamedImage(info.target_path, info.target_variant, info.category, info.target_size, info.target_box, {})
    return image, info.target_keypoints
