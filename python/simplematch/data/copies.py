"""Augmented copies of images: each is drawn once, from seed, image and number, so that its features can be kept.

A pair or group draws one copy of each of its images in every epoch. All images of a sample must be flipped, or none:
whether copy c is flipped depends on c alone, so a sample draws first the flip, then among the copies that have it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._files import DataError
from .._json import to_json
from .._torchvision import tv_tensors
from ..sizes import height_width
from .batch import TransformedPairs
from .dataset import PairDataset
from .groups import ImageGroups, NamedImage
from .records import Box, FloatArray, PairInfo, Size
from .transforms import NetworkSample, PairTransform, apply_map, is_inside

Key = tuple[str, str]
TRIES = 8  # draws of copies for a pair, until both show a common keypoint


@dataclass(frozen=True, eq=False)
class KnownImage:
    """An image with every keypoint (N, 2) that a pair of it names, in original pixels."""

    path: Path
    variant: str
    category: str
    size: Size
    box: Box | None
    keypoints: FloatArray


class ImageCopies:
    """The copies of every image of a data set.

    Attributes:
        images: the images by key, `PairInfo.source_key`.
        count: number of copies of an image.
        read: returns the network's input and the map of a copy; `draw` unless replaced, by a reader of kept features.
    """

    def __init__(self, dataset: PairDataset, transform: PairTransform, count: int, seed: int = 0) -> None:
        """Collect the images.

        Raises:
            ValueError: `count` is so small that no copy is flipped, although the transform flips some.
        """
        self.dataset, self.transform, self.count, self.seed = dataset, transform, count, seed
        self.images = _images_of(dataset)
        self._choices = {flip: [c for c in range(count) if is_flipped(c, transform.hflip) == flip] for flip in FLIPS}
        self._names: dict[Key, str] = {}
        if transform.hflip and not self._choices[True]:
            least = math.ceil(1 / transform.hflip)
            raise ValueError(
                f"cache_copies must be at least {least} for hflip {transform.hflip}, so that a copy is flipped, "
                f"got {count}"
            )
        self.read: Callable[[Key, int], tuple[Tensor, Tensor]] = self.draw

    def draw(self, key: Key, copy: int) -> tuple[Tensor, Tensor]:
        """Decode and augment a copy, the same in every call.

        Returns:
            The network's input (3, S, S), and the affine map (2, 3) float64 from the image's pixels to the input's.

        Raises:
            ImageError: the image can't be read.
        """
        image = self.images[key]
        pixels = self.dataset.load_image(image.path, image.size, image.variant)
        points = tv_tensors.KeyPoints(torch.tensor(image.keypoints), canvas_size=image.size)
        hflip = is_flipped(copy, self.transform.hflip)
        seeds = [self.seed, copy, int(_digest([self._place(image), image.variant])[:16], 16)]
        state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
        generator = Generator().manual_seed(int(state[0] >> np.uint64(1)))
        found = self.transform.augment(pixels, points, image.box, image.category, generator, hflip)
        return found.pixels, found.affine

    def choose(self, generator: Generator, hflip: bool) -> int:
        """Draw the number of a copy, flipped or not."""
        choices = self._choices[hflip]
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    def draw_hflip(self, generator: Generator) -> bool:
        """Draw whether the copies of a sample are flipped."""
        return self.transform.draw_hflip(generator)

    def name_of(self, key: Key, copy: int) -> str:
        """Name a copy by its number and all that it is drawn from, besides the transform and the seed.

        A file with another size or time of change has another name, and so has one with other keypoints or another box.
        """
        if key not in self._names:
            image = self.images[key]
            try:
                state = image.path.stat()
                file = [state.st_size, state.st_mtime_ns]
            except OSError:  # reading it will say so
                file = []
            what = [self._place(image), *file, image.variant, image.category, image.size, image.box]
            self._names[key] = _digest([*what, image.keypoints.tolist()])[:24]
        return f"{self._names[key]}-{copy}"

    def _place(self, image: KnownImage) -> str:
        """Return the path inside the data set, which may be moved."""
        root = self.dataset.root
        return (image.path.relative_to(root) if image.path.is_relative_to(root) else image.path).as_posix()


FLIPS = (False, True)


def is_flipped(copy: int, hflip: float) -> bool:
    """Return whether a copy is flipped: a share `hflip` of the first c copies, for any c."""
    return math.floor((copy + 1) * hflip + 1e-9) > math.floor(copy * hflip + 1e-9)


class CopiedPairs(TransformedPairs):
    """The pairs of a data set, as copies of their images; see `TransformedPairs`.

    A sample's `source` and `target` are what `copies.read` returns.
    """

    def __init__(self, dataset: PairDataset, copies: ImageCopies, *, seed: int = 0, skip_broken: bool = False) -> None:
        super().__init__(dataset, copies.transform, seed=seed, skip_broken=skip_broken)
        self.copies = copies

    def _sample(self, index: int) -> NetworkSample:
        """Return a pair, or the next one if the copies drawn show none of its keypoints."""
        generator = self.generator(index)
        for offset in range(len(self)):
            info = self.dataset.info((index + offset) % len(self))
            for _ in range(TRIES):
                sample = self._draw(info, generator)
                if len(sample.source_keypoints):
                    return sample
        raise DataError(f"no pair of {self.dataset.root} has a keypoint that the copies of both its images show.")

    def _draw(self, info: PairInfo, generator: Generator) -> NetworkSample:
        info = info.swapped() if self.transform.draw_swap(generator) else info
        hflip = self.copies.draw_hflip(generator)
        keys = (info.source_key, info.target_key)
        (source, source_map), (target, target_map) = (
            self.copies.read(key, self.copies.choose(generator, hflip)) for key in keys
        )
        points = apply_map(source_map, torch.from_numpy(info.source_keypoints))
        truth = apply_map(target_map, torch.from_numpy(info.target_keypoints))
        size = height_width(self.transform.image_size)
        seen = (is_inside(points, size) & is_inside(truth, size)).nonzero().flatten()
        keep = seen[self.transform.choose(len(seen), generator)]
        return NetworkSample(source, target, points[keep].float(), truth[keep].float(), info)


class CopiedGroups(ImageGroups):
    """Groups of copies of the images of a data set; see `ImageGroups`. `images` is what `copies.read` returns."""

    def __init__(
        self,
        dataset: PairDataset,
        copies: ImageCopies,
        group_size: int,
        *,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        super().__init__(dataset, copies.transform, group_size, seed=seed, skip_broken=skip_broken)
        self.copies = copies

    def _place(self, image: NamedImage, points: Tensor, generator: Generator, hflip: bool) -> tuple[Tensor, ...]:
        inputs, affine = self.copies.read((str(image.path), image.variant), self.copies.choose(generator, hflip))
        moved = apply_map(affine, points)
        return inputs, moved.float(), is_inside(moved, height_width(self.transform.image_size))


def _images_of(dataset: PairDataset) -> dict[Key, KnownImage]:
    """List every image once, with the keypoints of all its pairs."""
    first: dict[Key, tuple[Path, str, str, Size, Box | None]] = {}
    points: dict[Key, list[FloatArray]] = {}
    for pair in map(dataset.info, range(len(dataset))):
        for info in (pair, pair.swapped()):
            what = (info.source_path, info.source_variant, info.category, info.source_size, info.source_box)
            first.setdefault(info.source_key, what)
            points.setdefault(info.source_key, []).append(info.source_keypoints)
    return {key: KnownImage(*what, np.unique(np.concatenate(points[key]), axis=0)) for key, what in first.items()}


def _digest(content: Any) -> str:
    return hashlib.sha256(to_json(content).encode()).hexdigest()
