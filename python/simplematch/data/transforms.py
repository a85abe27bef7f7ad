"""Transforms from a decoded pair to the network's input, with augmentation.

All randomness comes from the caller's generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .._torchvision import transforms as F
from .._torchvision import tv_tensors
from .affine import random_affine
from .photometric import photometric
from .records import Box, PairInfo, PairSample

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class NetworkSample:
    """A pair as the network's input.

    Attributes:
        source, target: (3, S, S) float32, normalised.
        source_keypoints, target_keypoints: (N, 2) float32 (x, y) in pixels of the S x S input.
        info: the pair's record, swapped if the pair was, with all keypoints in original pixels.
        skipped: one sentence for each unreadable pair that this one replaces.
    """

    source: Tensor
    target: Tensor
    source_keypoints: Tensor
    target_keypoints: Tensor
    info: PairInfo
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairTransform:
    """Resizes both images to S x S and normalises them; positive probabilities enable augmentation.

    Attributes:
        image_size: S.
        mean, std: statistics of the normalisation, for values from 0 to 1.
        max_keypoints: the largest number of keypoints; a random subset is kept. None keeps all, as for evaluation.
        crop: probability, for each image, of a random crop that keeps the box and all keypoints.
        rotate: probability of rotating source, target or both (one in three each), within +-30 degrees; bottles +-180.
            Points that leave either image are dropped; a rotation that would drop every point is skipped.
        photometric: scales the probabilities of colour changes, 0.1 for grayscale and 0.2 for each other change.
        swap: probability of swapping source and target.
        affine: probability, for each image, of a random scale along each axis (0.6 to 1.5), shear, shift and rotation
            within +-30 degrees. The outside is black; points that leave either image are dropped.
        hflip: probability of flipping both images horizontally; both flip together, so left/right labels stay
            consistent.
    """

    image_size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    max_keypoints: int | None = None
    crop: float = 0.0
    rotate: float = 0.0
    photometric: float = 0.0
    swap: float = 0.0
    affine: float = 0.0
    hflip: float = 0.0

    def __call__(self, sample: PairSample, generator: Generator | None = None) -> NetworkSample:
        """Transform a pair.

        Raises:
            ValueError: the transform is random and `generator` is None.
        """
        random = any((self.crop, self.rotate, self.photometric, self.swap, self.affine, self.hflip))
        if generator is None:
            if random:
                raise ValueError("generator must be a torch.Generator for augmentation, got None")
            generator = torch.Generator()
        if self.swap and _draw(generator) < self.swap:
            sample = _swapped(sample)
        info = sample.info
        source, source_points = self._squash(sample.source, sample.source_keypoints, info.source_box, generator)
        target, target_points = self._squash(sample.target, sample.target_keypoints, info.target_box, generator)
        if self.rotate and _draw(generator) < self.rotate:
            source, target, source_points, target_points = _rotate_pair(
                source, target, source_points, target_points, _rotation_limit(info.category), generator
            )
        if self.affine:
            source, target, source_points, target_points = self._move_pair(
                source, target, source_points, target_points, generator
            )
        if self.draw_hflip(generator):
            source, target = F.horizontal_flip(source), F.horizontal_flip(target)
            source_points, target_points = _hflip_points(source_points), _hflip_points(target_points)
        if self.photometric:
            source, target = (photometric(image, self.photometric, generator) for image in (source, target))
        keep = self._choose(len(source_points), generator)
        return NetworkSample(
            self._normalise(source),
            self._normalise(target),
            source_points.as_subclass(Tensor)[keep].float(),
            target_points.as_subclass(Tensor)[keep].float(),
            info,
        )

    def augment(
        self,
        image: Tensor,
        points: tv_tensors.KeyPoints,
        box: Box | None,
        category: str,
        generator: Generator,
        hflip: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Augment one image. It rotates with probability 2/3 of `rotate`, as each image of a pair does.

        `hflip` must be the same for all images that are matched with each other; see `draw_hflip`.

        Returns:
            The network's input (3, S, S), the points (N, 2) float32 in its pixels, and (N,) bool: the points inside.
        """
        image, points = self._squash(image, points, box, generator)
        if self.rotate and _draw(generator) < 2 / 3 * self.rotate:
            angle = (2 * _draw(generator) - 1) * _rotation_limit(category)
            rotated = _rotate_points(points, angle)
            if _inside(rotated).any():
                image, points = F.rotate(image, angle, interpolation=F.InterpolationMode.BILINEAR), rotated
        moved_image, moved_points = self._move(image, points, generator)
        if _inside(moved_points).any():
            image, points = moved_image, moved_points
        if hflip:
            image, points = F.horizontal_flip(image), _hflip_points(points)
        if self.photometric:
            image = photometric(image, self.photometric, generator)
        return self._normalise(image), points.as_subclass(Tensor).float(), _inside(points)

    def draw_hflip(self, generator: Generator) -> bool:
        """Draw whether the next pair or group is flipped."""
        return self.hflip > 0 and _draw(generator) < self.hflip

    def prepare(self, image: tv_tensors.Image) -> Tensor:
        """Transform an image (3, H, W) uint8 to the network's input (3, S, S), without augmentation."""
        return self._normalise(F.resize(image, [self.image_size] * 2, antialias=True))

    def _squash(
        self, image: Tensor, points: tv_tensors.KeyPoints, box: Box | None, generator: Generator
    ) -> tuple[Tensor, tv_tensors.KeyPoints]:
        if self.crop and _draw(generator) < self.crop:
            top, left, height, width = crop_around(points, box, generator)
            image = F.crop(image, top, left, height, width)
            points = F.crop(points, top, left, height, width)
        size = [self.image_size] * 2
        return F.resize(image, size, antialias=True), F.resize(points, size)

    def _move(
        self, image: Tensor, points: tv_tensors.KeyPoints, generator: Generator
    ) -> tuple[Tensor, tv_tensors.KeyPoints]:
        if not self.affine or _draw(generator) >= self.affine:
            return image, points
        return random_affine(image, points, generator)

    def _move_pair(
        self,
        source: Tensor,
        target: Tensor,
        source_points: tv_tensors.KeyPoints,
        target_points: tv_tensors.KeyPoints,
        generator: Generator,
    ) -> tuple[Tensor, Tensor, tv_tensors.KeyPoints, tv_tensors.KeyPoints]:
        moved_source, points = self._move(source, source_points, generator)
        moved_target, truth = self._move(target, target_points, generator)
        keep = _inside(points) & _inside(truth)
        if not keep.any():
            return source, target, source_points, target_points
        return (
            moved_source,
            moved_target,
            tv_tensors.wrap(points.as_subclass(Tensor)[keep], like=points),
            tv_tensors.wrap(truth.as_subclass(Tensor)[keep], like=truth),
        )

    def _choose(self, count: int, generator: Generator) -> Tensor:
        if self.max_keypoints is None or count <= self.max_keypoints:
            return torch.arange(count)
        return torch.randperm(count, generator=generator)[: self.max_keypoints].sort().values

    def _normalise(self, image: Tensor) -> Tensor:
        scaled = F.to_dtype(image, torch.float32, scale=True)
        return F.normalize(scaled, list(self.mean), list(self.std)).as_subclass(Tensor)


def crop_around(points: tv_tensors.KeyPoints, box: Box | None, generator: Generator) -> tuple[int, int, int, int]:
    """Draw a crop (top, left, height, width) that keeps the box and every keypoint."""
    image_height, image_width = points.canvas_size
    corners = points.as_subclass(Tensor)
    if box is not None:
        corners = torch.cat((corners, torch.tensor(box, dtype=corners.dtype).view(2, 2)))
    first = corners.amin(0).floor().int().tolist()
    last = corners.amax(0).ceil().int().tolist()
    left = _draw_integer(0, min(first[0], image_width - 1), generator)
    top = _draw_integer(0, min(first[1], image_height - 1), generator)
    right = _draw_integer(max(last[0], left + 1), image_width, generator)
    bottom = _draw_integer(max(last[1], top + 1), image_height, generator)
    return top, left, bottom - top, right - left


def _rotate_pair(
    source: Tensor,
    target: Tensor,
    source_points: tv_tensors.KeyPoints,
    target_points: tv_tensors.KeyPoints,
    limit: float,
    generator: Generator,
) -> tuple[Tensor, Tensor, tv_tensors.KeyPoints, tv_tensors.KeyPoints]:
    which = _draw_integer(0, 2, generator)  # source, target or both
    angles = [(2 * _draw(generator) - 1) * limit for _ in range(2)]
    source_angle, target_angle = (0.0 if which == 1 else angles[0]), (0.0 if which == 0 else angles[1])
    turned_source = _rotate_points(source_points, source_angle)
    turned_target = _rotate_points(target_points, target_angle)
    keep = _inside(turned_source) & _inside(turned_target)
    if not keep.any():
        return source, target, source_points, target_points
    bilinear = F.InterpolationMode.BILINEAR
    return (
        F.rotate(source, source_angle, interpolation=bilinear) if source_angle else source,
        F.rotate(target, target_angle, interpolation=bilinear) if target_angle else target,
        tv_tensors.wrap(turned_source.as_subclass(Tensor)[keep], like=turned_source),
        tv_tensors.wrap(turned_target.as_subclass(Tensor)[keep], like=turned_target),
    )


def _rotation_limit(category: str) -> float:
    """Return the largest rotation in degrees; bottles have no preferred orientation."""
    return 180 if category == "bottle" else 30


def _rotate_points(points: tv_tensors.KeyPoints, angle: float) -> tv_tensors.KeyPoints:
    """Rotate points counter-clockwise about the image's centre, as `F.rotate` rotates pixels."""
    if not angle:
        return points
    height, width = points.canvas_size
    middle = torch.tensor([width / 2, height / 2], dtype=points.dtype)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rotation = torch.tensor([[cos, sin], [-sin, cos]], dtype=points.dtype)
    return tv_tensors.wrap((points.as_subclass(Tensor) - middle) @ rotation.T + middle, like=points)


def _hflip_points(points: tv_tensors.KeyPoints) -> tv_tensors.KeyPoints:
    """Map x to W - x: coordinates start at the image's edge, unlike torchvision's, which start at a pixel's centre."""
    x, y = points.as_subclass(Tensor).unbind(-1)
    return tv_tensors.wrap(torch.stack((points.canvas_size[1] - x, y), -1), like=points)


def _inside(points: tv_tensors.KeyPoints) -> Tensor:
    height, width = points.canvas_size
    x, y = points.as_subclass(Tensor).unbind(-1)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def _swapped(sample: PairSample) -> PairSample:
    return PairSample(
        sample.info.swapped(), sample.target, sample.source, sample.target_keypoints, sample.source_keypoints
    )


def _draw(generator: Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _draw_integer(first: int, last: int, generator: Generator) -> int:
    """Draw from first to last, both included; return first if last is smaller."""
    return int(torch.randint(first, max(first, last) + 1, (), generator=generator))
