"""Transforms from a decoded pair to the network's input, with augmentation.

All randomness comes from the caller's generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from .._torchvision import transforms as F
from .._torchvision import tv_tensors
from ..sizes import ImageSize, check_resize, height_width, place
from .affine import random_affine
from .photometric import photometric
from .records import Box, PairInfo, PairSample

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Crop = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True, eq=False)
class NetworkSample:
    """A pair as the network's input.

    Attributes:
        source, target: (3, H, W) float32, normalised.
        source_keypoints, target_keypoints: (N, 2) float32 (x, y) in pixels of the H x W input.
        info: the pair's record, swapped if the pair was, with all keypoints in original pixels.
        skipped: one sentence for each unreadable pair that this one replaces.
    """

    source: Tensor
    target: Tensor
    source_keypoints: Tensor
    target_keypoints: Tensor
    info: PairInfo
    skipped: tuple[str, ...] = ()


class AugmentedImage(NamedTuple):
    """One image as the network's input, and where its points are.

    Attributes:
        pixels: (3, H, W) float32, normalised.
        points: (N, 2) float32 (x, y) in pixels of the H x W input.
        inside: (N,) bool, which of them lie in the input.
        affine: (2, 3) float64, from pixels (x, y, 1) of the original image to those of the input.
    """

    pixels: Tensor
    points: Tensor
    inside: Tensor
    affine: Tensor


@dataclass(frozen=True)
class PairTransform:
    """Brings both images to one size and normalises them; positive probabilities enable augmentation.

    Attributes:
        image_size: the size, S for a square or (height, width).
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
        resize: "squash" (resize each axis independently) or "letterbox" (keep the aspect ratio, between bars of the
            mean colour).
    """

    image_size: ImageSize
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    max_keypoints: int | None = None
    crop: float = 0.0
    rotate: float = 0.0
    photometric: float = 0.0
    swap: float = 0.0
    affine: float = 0.0
    hflip: float = 0.0
    resize: str = "squash"

    def __post_init__(self) -> None:
        check_resize(self.resize)

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
        if self.draw_swap(generator):
            sample = _swapped(sample)
        info = sample.info
        source, source_points = self._fit(sample.source, sample.source_keypoints, info.source_box, generator)
        target, target_points = self._fit(sample.target, sample.target_keypoints, info.target_box, generator)
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
        keep = self.choose(len(source_points), generator)
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
    ) -> AugmentedImage:
        """Augment one image. It rotates with probability 2/3 of `rotate`, as each image of a pair does.

        `hflip` must be the same for all images that are matched with each other; see `draw_hflip`.
        """
        crop = self._draw_crop(points, box, generator)
        before = _corners(crop or (0, 0, *points.canvas_size))
        placement = place(crop[2:] if crop else points.canvas_size, self.image_size, self.resize)
        image, points = self._resize(image, points, crop)
        count = len(points)
        # The corners follow the points, whose places alone decide which moves are drawn.
        points = _join(points, _corners((*placement.corner, *placement.resized)))
        if self.rotate and _draw(generator) < 2 / 3 * self.rotate:
            angle = (2 * _draw(generator) - 1) * _rotation_limit(category)
            rotated = _rotate_points(points, angle)
            if _inside(rotated)[:count].any():
                image, points = F.rotate(image, angle, interpolation=F.InterpolationMode.BILINEAR), rotated
        moved_image, moved_points = self._move(image, points, generator)
        if _inside(moved_points)[:count].any():
            image, points = moved_image, moved_points
        if hflip:
            image, points = F.horizontal_flip(image), _hflip_points(points)
        if self.photometric:
            image = photometric(image, self.photometric, generator)
        moved = points.as_subclass(Tensor)
        affine = torch.linalg.solve(_homogeneous(before), moved[count:].double()).T
        inside = _inside(tv_tensors.wrap(moved[:count], like=points))
        return AugmentedImage(self._normalise(image), moved[:count].float(), inside, affine)

    def draw_hflip(self, generator: Generator) -> bool:
        """Draw whether the next pair or group is flipped."""
        return self.hflip > 0 and _draw(generator) < self.hflip

    def draw_swap(self, generator: Generator) -> bool:
        """Draw whether source and target of the next pair are swapped."""
        return self.swap > 0 and _draw(generator) < self.swap

    def prepare(self, image: tv_tensors.Image) -> Tensor:
        """Transform an image (3, h, w) uint8 to the network's input (3, H, W), without augmentation."""
        return self._normalise(self._resize(image, _no_points(image))[0])

    def _fit(
        self, image: Tensor, points: tv_tensors.KeyPoints, box: Box | None, generator: Generator
    ) -> tuple[Tensor, tv_tensors.KeyPoints]:
        return self._resize(image, points, self._draw_crop(points, box, generator))

    def _draw_crop(self, points: tv_tensors.KeyPoints, box: Box | None, generator: Generator) -> Crop | None:
        """Draw a crop, or None for the whole image."""
        return crop_around(points, box, generator) if self.crop and _draw(generator) < self.crop else None

    def _resize(
        self, image: Tensor, points: tv_tensors.KeyPoints, crop: Crop | None = None
    ) -> tuple[Tensor, tv_tensors.KeyPoints]:
        if crop is not None:
            image, points = F.crop(image, *crop), F.crop(points, *crop)
        placement = place(points.canvas_size, self.image_size, self.resize)
        size = list(placement.resized)
        image, points = F.resize(image, size, antialias=True), F.resize(points, size)
        if not placement.bars:
            return image, points
        (top, left), (rows, columns) = placement.corner, height_width(self.image_size)
        bars = [left, top, columns - size[1] - left, rows - size[0] - top]
        return F.pad(image, bars, fill=[round(255 * x) for x in self.mean]), F.pad(points, bars)

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

    def choose(self, count: int, generator: Generator) -> Tensor:
        """Draw which of `count` keypoints to keep, as sorted indices."""
        if self.max_keypoints is None or count <= self.max_keypoints:
            return torch.arange(count)
        return torch.randperm(count, generator=generator)[: self.max_keypoints].sort().values

    def _normalise(self, image: Tensor) -> Tensor:
        scaled = F.to_dtype(image, torch.float32, scale=True)
        return F.normalize(scaled, list(self.mean), list(self.std)).as_subclass(Tensor)


def _no_points(image: Tensor) -> tv_tensors.KeyPoints:
    size = (image.shape[-2], image.shape[-1])
    return tv_tensors.KeyPoints(torch.zeros(0, 2, dtype=torch.float64), canvas_size=size)


def crop_around(points: tv_tensors.KeyPoints, box: Box | None, generator: Generator) -> Crop:
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


def apply_map(affine: Tensor, points: Tensor) -> Tensor:
    """Apply the map (2, 3) of `PairTransform.augment_and_map` to points (N, 2); returns float64."""
    return _homogeneous(points) @ affine.T


def is_inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Tell (N,) which points (N, 2), (x, y) in pixels, lie in an image of size (height, width)."""
    x, y = points.unbind(-1)
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])


def _corners(crop: Crop) -> Tensor:
    """Return the top left, top right and bottom left corner of a crop as points (3, 2) float64."""
    top, left, height, width = crop
    return torch.tensor([[left, top], [left + width, top], [left, top + height]], dtype=torch.float64)


def _homogeneous(points: Tensor) -> Tensor:
    return torch.nn.functional.pad(points.double(), (0, 1), value=1.0)


def _join(points: tv_tensors.KeyPoints, more: Tensor) -> tv_tensors.KeyPoints:
    joined = torch.cat((points.as_subclass(Tensor), more.to(points.dtype)))
    return tv_tensors.wrap(joined, like=points)


def _inside(points: tv_tensors.KeyPoints) -> Tensor:
    height, width = points.canvas_size
    return is_inside(points.as_subclass(Tensor), (height, width))


def _swapped(sample: PairSample) -> PairSample:
    return PairSample(
        sample.info.swapped(), sample.target, sample.source, sample.target_keypoints, sample.source_keypoints
    )


def _draw(generator: Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _draw_integer(first: int, last: int, generator: Generator) -> int:
    """Draw from first to last, both included; return first if last is smaller."""
    return int(torch.randint(first, max(first, last) + 1, (), generator=generator))
