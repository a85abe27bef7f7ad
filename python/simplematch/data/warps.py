"""Pairs without annotation: an image and a warped copy of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._files import DataError
from .._torchvision import tv_tensors
from .dataset import PairDataset, read_records
from .images import decode_image, image_size
from .records import FloatArray, PairInfo, Size
from .table import PairTable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
Warp = Callable[[FloatArray], FloatArray]


class WarpedImages(PairDataset):
    """A folder of images, each paired with randomly warped copies of itself.

    A warp maps points of the target to points of the source. It resamples the target's pixels and maps keypoints drawn
    in the target, so correspondences are exact for every kind of warp. Warps use coordinates from -1 to 1 over the
    image and depend only on `seed`, the image's index and the pair's number.
    """

    name = "images"

    def __init__(
        self,
        root: Path,
        split: str = "all",
        *,
        pairs_per_image: int = 3,
        num_keypoints: int = 20,
        kinds: Sequence[str] = ("affine", "perspective", "thin-plate"),
        seed: int = 0,
        skip_broken: bool = False,
    ) -> None:
        """List the images below a folder and draw their warps.

        Args:
            root: the folder, searched recursively.
            split: a name, for tables.
            pairs_per_image: number of warps per image; their kinds alternate.
            num_keypoints: largest number of points per pair; points outside the source are dropped.
            kinds: some of "affine", "perspective" and "thin-plate".
            seed: seed of the warps and points.
            skip_broken: skip unreadable images and log how many.
        """
        if not kinds or not set(kinds) <= set(_WARPS):
            raise ValueError(f"kinds must be some of {sorted(_WARPS)}, got {list(kinds)}")
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not files:
            raise DataError(f"{root} must hold images ({', '.join(sorted(SUFFIXES))}), got none.")
        self.num_keypoints = num_keypoints
        numbers = range(pairs_per_image)
        pairs = [(f, f"{kinds[j % len(kinds)]}:{seed}:{i}:{j}") for i, f in enumerate(files) for j in numbers]
        read = self._read_pair
        table = PairTable.of(read_records(pairs, read, skip_broken=skip_broken, what=str(root)), root)
        super().__init__(root, split, table)

    def _read_pair(self, pair: tuple[Path, str]) -> PairInfo:
        path, variant = pair
        height, width = size = image_size(path)
        warp, draw = random_warp(variant)
        side = np.array([width, height])
        target, source = _draw_points(warp, self.num_keypoints, draw)
        return PairInfo(
            pair_id=f"{path.stem}-{variant}",
            category=variant.partition(":")[0],
            source_path=path,
            target_path=path,
            source_size=size,
            target_size=size,
            source_box=(0.0, 0.0, float(width), float(height)),
            target_box=(0.0, 0.0, float(width), float(height)),
            source_keypoints=(source + 1) / 2 * side,
            target_keypoints=(target + 1) / 2 * side,
            target_variant=variant,
        )

    def load_image(self, path: Path, size: Size, variant: str = "") -> tv_tensors.Image:
        """Load the pixels (3, H, W) uint8 of an image, warped if `variant` names a warp; the outside is black."""
        image = decode_image(path, size)
        return tv_tensors.Image(warp_image(image, random_warp(variant)[0])) if variant else image


def random_warp(variant: str) -> tuple[Warp, np.random.Generator]:
    """Draw the warp "kind:seed:image:number", from target to source in -1..1; also return the generator."""
    kind, *numbers = variant.split(":")
    draw = np.random.default_rng([int(number) for number in numbers])
    return _WARPS[kind](draw), draw


def warp_image(image: Tensor, warp: Warp) -> Tensor:
    """Resample an image (3, H, W) uint8: the output at p is the input at warp(p), bilinear, zero outside."""
    height, width = image.shape[-2:]
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) * 2 / height - 1, (np.arange(width) + 0.5) * 2 / width - 1, indexing="ij"
    )
    points = warp(np.stack((x, y), axis=-1).reshape(-1, 2)).reshape(1, height, width, 2)
    grid = torch.from_numpy(points).float()
    pixels = image.as_subclass(Tensor)[None].float()
    warped = torch.nn.functional.grid_sample(pixels, grid, align_corners=False)
    return warped[0].round().clamp(0, 255).to(torch.uint8)


def _affine(draw: np.random.Generator) -> Warp:
    angle, scale = draw.uniform(-np.pi / 6, np.pi / 6), np.exp(draw.uniform(-0.3, 0.3))
    stretch, shear = np.exp(draw.uniform(-0.15, 0.15)), draw.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * rotation @ np.array([[stretch, shear], [0, 1 / stretch]])
    shift = draw.uniform(-0.2, 0.2, 2)
    return lambda points: points @ matrix.T + shift


def _perspective(draw: np.random.Generator) -> Warp:
    """Solve for the projective map that moves the four corners by up to 0.35."""
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    moved = corners + draw.uniform(-0.35, 0.35, (4, 2))
    rows = []
    for (x, y), (u, v) in zip(corners, moved, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    solution = np.append(np.linalg.solve(np.array(rows), moved.ravel()), 1).reshape(3, 3)

    def warp(points: FloatArray) -> FloatArray:
        mapped = np.concatenate((points, np.ones((len(points), 1))), axis=1) @ solution.T
        return np.asarray(mapped[:, :2] / mapped[:, 2:])

    return warp


def _thin_plate(draw: np.random.Generator) -> Warp:
    """Interpolate displacements of up to 0.15 at 3 x 3 points with the kernel r^2 log r^2 and an affine part."""
    line = np.linspace(-1, 1, 3)
    knots = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    moved = knots + draw.uniform(-0.15, 0.15, knots.shape)
    affine = np.concatenate((np.ones((len(knots), 1)), knots), axis=1)
    system = np.block([[_plate(knots, knots), affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.concatenate((moved, np.zeros((3, 2)))))

    def warp(points: FloatArray) -> FloatArray:
        basis = np.concatenate((_plate(points, knots), np.ones((len(points), 1)), points), axis=1)
        return np.asarray(basis @ weights)

    return warp


def _plate(points: FloatArray, knots: FloatArray) -> FloatArray:
    squared = ((points[:, None] - knots) ** 2).sum(-1)
    return np.asarray(squared * np.log(np.maximum(squared, 1e-12)))


def _draw_points(warp: Warp, count: int, draw: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw points of the target that map into the source, and return both."""
    target = draw.uniform(-0.95, 0.95, (16 * count, 2))
    source = warp(target)
    inside = np.flatnonzero((np.abs(source) < 0.98).all(axis=1))[:count]
    if not len(inside):
        raise DataError("a warp moves its whole image out of sight; use another seed.")
    return target[inside], source[inside]


_WARPS = {"affine": _affine, "perspective": _perspective, "thin-plate": _thin_plate}
