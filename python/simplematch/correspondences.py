"""Matching of two images: takes files and points in pixels, returns matches and confidences."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ._json import to_json
from ._torchvision import tv_tensors
from .certainty import Certainty, certainty_of, find_calibration
from .data import ImageError, ImageWarning, PairTransform
from .data.images import Picture, read_picture, size_notes
from .data.records import BoolArray, FloatArray, Size
from .evaluation import Matcher
from .evaluation.calibration import LEVEL, Calibration
from .models import default_device, load_model
from .models.available import best_available
from .models.evidence import CellMatches, Encoded, encode_images, gives_evidence, match_cells
from .models.salience import salient_points
from .sizes import Placement, height_width, place

DEFAULT_MODEL = "efficientnet-lite0-448-nn"
_Views = tuple[Encoded, Encoded]
ImageLike = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
TRANSFORMERS_KEYS = ("keypoints0", "keypoints1", "matching_scores")
_CHUNK = 1024  # points matched at once; each needs a score map with a cell for every 16 pixels


@dataclass(frozen=True, eq=False)
class Correspondences:
    """Points of image A and their matches in image B, (x, y) in pixels of the images as viewers show them.

    Attributes:
        points, matches: (N, 2) float64, in A and in B.
        confidence: (N,) similarity of the descriptors at the best cell, -1 to 1.
        cycle_distance: (N,) distance in pixels of A between a point and the match of its match; it is small where both
            directions agree.
        size_a, size_b: (height, width).
        model: the name of the model.
        covariance: (N, 2, 2) of the matches, rows and columns (x, y), in pixels of B squared: of the errors if the
            model is calibrated, else what the model itself says; None if it says nothing.
        mutual: (N,) bool, whether the cell of the model's map that contains a point and its best cell in B are each
            other's best; None if the model doesn't tell.
        radius: (N,) in pixels of B: a share `level` of the truths lies within, of points that have a match. None, like
            the following, if the model isn't calibrated.
        no_match: (N,) probability that the point has no match in B, with even odds before.
        level: the share of `radius`.
        different: whether the two images show different things; None if that isn't known.
    """

    points: FloatArray
    matches: FloatArray
    confidence: FloatArray
    cycle_distance: FloatArray
    size_a: Size
    size_b: Size
    model: str
    covariance: FloatArray | None = None
    mutual: BoolArray | None = None
    radius: FloatArray | None = None
    no_match: FloatArray | None = None
    level: float | None = None
    different: bool | None = None

    def __len__(self) -> int:
        return len(self.points)

    def to_json(self) -> str:
        """Serialise all fields as JSON; NaN becomes null."""
        rows = [dict(zip(self._columns, _written(row, bool), strict=True)) for row in self._rows()]
        finite = [{name: x if math.isfinite(x) else None for name, x in row.items()} for row in rows]
        sizes = {"image_a": {"height": self.size_a[0], "width": self.size_a[1]}}
        sizes["image_b"] = {"height": self.size_b[0], "width": self.size_b[1]}
        known = {"level": self.level, "different": self.different}
        told = {name: value for name, value in known.items() if value is not None}
        return to_json({"model": self.model, **sizes, **told, "matches": finite}, indent=1)

    def to_csv(self) -> str:
        """Serialise as CSV, one line per point."""
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(self._columns)
        writer.writerows(_written(row, int) for row in self._rows())
        return output.getvalue()

    def to_transformers(self, threshold: float = 0.0) -> list[dict[str, Tensor]]:
        """Return what `post_process_keypoint_matching` of transformers' image processors returns for one pair.

        `visualize_keypoint_matching` takes it. Lists of several pairs are joined by +.

        Args:
            threshold: matches of at most this confidence are left out. Cosines can be below zero, where transformers'
                scores, which are probabilities, can't.

        Returns:
            A list with one dictionary: "keypoints0" and "keypoints1", (M, 2) int32, points of A and their matches in B
            as (x, y) in whole pixels, rounded towards zero, in the order of `points`; "matching_scores", (M,) float32.
        """
        kept = self.confidence > threshold  # not NaN either
        keypoints = (torch.from_numpy(x[kept]).to(torch.int32) for x in (self.points, self.matches))
        scores = torch.from_numpy(self.confidence[kept]).float()
        return [dict(zip(TRANSFORMERS_KEYS, (*keypoints, scores), strict=True))]

    def _rows(self) -> list[list[float | bool]]:
        columns = [*self.points.T, *self.matches.T, self.confidence, self.cycle_distance]
        if self.covariance is not None:
            columns += [*self.covariance.reshape(-1, 4)[:, (0, 1, 3)].T]
        rows: list[list[float | bool]] = np.stack(columns, axis=1).round(4).tolist()
        more: list[Any] = []
        if self.mutual is not None:
            more.append(self.mutual.tolist())
        if self.radius is not None and self.no_match is not None:
            more += [self.radius.round(4).tolist(), self.no_match.round(4).tolist(), (self.no_match > 0.5).tolist()]
        return [[*row, *(column[i] for column in more)] for i, row in enumerate(rows)]

    @property
    def _columns(self) -> tuple[str, ...]:
        covariance = () if self.covariance is None else _COVARIANCE_COLUMNS
        mutual = () if self.mutual is None else ("mutual",)
        return *_COLUMNS, *covariance, *mutual, *(() if self.radius is None else _CALIBRATED_COLUMNS)


_COLUMNS = ("x_a", "y_a", "x_b", "y_b", "confidence", "cycle_distance")
_COVARIANCE_COLUMNS = ("variance_x", "covariance_xy", "variance_y")
_CALIBRATED_COLUMNS = ("radius", "no_match_probability", "no_match")


def _written(row: list[float | bool], flag: type[int]) -> list[float | bool]:
    """Write truth values as `flag`: JSON has its own, and columns of a table hold numbers."""
    return [flag(x) if isinstance(x, bool) else x for x in row]


def match(
    image_a: ImageLike,
    image_b: ImageLike,
    points: Sequence[Sequence[float]] | np.ndarray[Any, Any] | Tensor | None = None,
    *,
    grid: int | None = None,
    model: Matcher | str | Path | None = None,
    calibration: Calibration | str | Path | None = None,
    level: float = LEVEL,
    device: torch.device | str | None = None,
) -> Correspondences:
    """Find points of one image in another.

    >>> found = simplematch.match("a.jpg", "b.jpg", [(120, 80)])  # doctest: +SKIP
    >>> found.matches, found.confidence  # doctest: +SKIP

    Args:
        image_a, image_b: files, PIL images, uint8 RGB arrays (H, W, 3) or tensors (3, H, W). `read_image` describes
            the treatment of 16-bit images, transparency and colour profiles.
        points: (N, 2) as (x, y) in pixels of image A. Default: salient points of mutual nearest neighbours, see
            `simplematch.models.salience`.
        grid: points along the longer side of a regular grid, used without `points`.
        model: a model, its folder, its repository "owner/name" on the Hugging Face hub, or the name of a preset.
            Default: `best_available`, the best untrained matcher whose weights are on this machine.
        calibration: a file that `simplematch calibrate` wrote. Default: `calibration.json` in the model's folder, if
            there is one.
        level: share of the truths that lie within `radius`; one of the calibration's levels.
        device: default: CUDA if available.

    Raises:
        ImageError: an image can't be read.
        ValueError: points have a wrong shape, are not finite or lie outside image A; the model is unknown; or the
            calibration belongs to another model, or lacks the level.

    Warns:
        ImageWarning: matches may be unreliable, for example because an image is animated, tiny or very elongated.
    """
    pictures = [open_image(image, f"image_{side}") for image, side in ((image_a, "a"), (image_b, "b"))]
    for picture in pictures:
        _warn(picture)
    a, b = (picture.pixels for picture in pictures)
    options: dict[str, Any] = {"model": model, "calibration": calibration, "level": level, "device": device}
    return match_pictures(a, b, points, grid=grid, **options)


@torch.inference_mode()
def match_pictures(
    image_a: Image.Image,
    image_b: Image.Image,
    points: Sequence[Sequence[float]] | np.ndarray[Any, Any] | Tensor | None = None,
    *,
    grid: int | None = None,
    model: Matcher | str | Path | None = None,
    calibration: Calibration | str | Path | None = None,
    level: float = LEVEL,
    device: torch.device | str | None = None,
) -> Correspondences:
    """Match two images that `open_image` returned; see `match`."""
    network, name = _model(best_available()[0] if model is None else model)
    device = default_device() if device is None else torch.device(device)
    if isinstance(network, torch.nn.Module):
        network.to(device).eval()
    known = calibration if isinstance(calibration, Calibration) else find_calibration(network, name, calibration)
    pixels = [_pixels(image) for image in (image_a, image_b)]
    size_a, size_b = [(int(x.shape[1]), int(x.shape[2])) for x in pixels]
    chosen = None if points is None else _points(points, size_a)
    size, resize = network.image_size, getattr(network, "resize", "squash")
    transform = PairTransform(size, _triple(network.mean), _triple(network.std), resize=resize)
    placed_a, placed_b = place(size_a, size, resize), place(size_b, size, resize)
    inputs = [transform.prepare(x)[None].to(device) for x in pixels]
    views: _Views | None = None
    if gives_evidence(network) and (known is not None or (chosen is None and grid is None)):
        views = encode_images(network, inputs[0]), encode_images(network, inputs[1])
    cells = match_cells(network, *views) if views else None
    a, b = (x.features for x in views) if views else (network.encode(x) for x in inputs)
    queries = _default_points(network, cells, placed_a, grid) if chosen is None else chosen
    keypoints = placed_a.to_input(queries)
    there, confidence, covariance = _match(network, a, b, keypoints)
    mutual = _mutual(network, a, b, keypoints)
    back, _, _ = _match(network, b, a, there)
    distance = np.linalg.norm(placed_a.to_image(back) - queries, axis=1)
    sure = Certainty(None if covariance is None else covariance / np.outer(placed_b.scale, placed_b.scale))
    if views and cells:
        told = certainty_of(network, views, cells, keypoints, placed_b.scale, name=name, calibration=known, level=level)
        sure = replace(told, covariance=sure.covariance) if told.covariance is None else told
    return Correspondences(
        queries,
        placed_b.to_image(there),
        confidence,
        distance,
        size_a,
        size_b,
        name,
        sure.covariance,
        mutual,
        sure.radius,
        sure.no_match,
        sure.level,
        sure.different,
    )


def _default_points(network: Matcher, cells: CellMatches | None, placed: Placement, grid: int | None) -> FloatArray:
    """Return a grid, or salient points if there is none and the model finds them; (N, 2) in pixels of image A."""
    if grid is None and cells is not None:
        inputs = salient_points(cells) * height_width(network.image_size)[::-1]
        points = placed.to_image(inputs)
        inside = (np.abs(placed.to_input(points) - inputs) < 1e-6).all(axis=1)  # not in the bars of a letterbox
        if inside.any():
            return points[inside]
    return grid_points(placed.image, 8 if grid is None else grid)


def grid_shape(size: Size, count: int) -> tuple[int, int]:
    """Return the number of columns and rows of `grid_points`."""
    if count < 1:
        raise ValueError(f"grid must be a whole number above zero, got {count}")
    tile = max(size) / count
    return max(round(size[1] / tile), 1), max(round(size[0] / tile), 1)


def grid_points(size: Size, count: int) -> FloatArray:
    """Return the centres (N, 2) of square tiles of an image (height, width), `count` along its longer side."""
    height, width = size
    columns, rows = grid_shape(size, count)
    x, y = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def read_image(image: ImageLike, name: str = "image") -> Image.Image:
    """Read an image as RGB, with its EXIF rotation applied.

    16-bit values are scaled by their range, transparent pixels are composited on white, colour profiles are applied,
    and only the first frame is read. Floats, signed integers and 32-bit integers raise.

    Raises:
        ImageError: the file can't be read, or the pixels have an unsupported type or shape.

    Warns:
        ImageWarning: matches may be unreliable, for example because the image is animated, tiny or very elongated.
    """
    picture = open_image(image, name)
    _warn(picture)
    return picture.pixels


def open_image(image: ImageLike, name: str = "image") -> Picture:
    """Read an image like `read_image`, and return its warnings instead of issuing them."""
    if isinstance(image, Tensor):
        image = image.detach().cpu().permute(1, 2, 0).numpy() if image.dim() == 3 else image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(
                f"{name} must be uint8 RGB, an array (H, W, 3) or a tensor (3, H, W), "
                f"got {image.dtype} of shape {image.shape}."
            )
        notes = {kind: f"{name} {note}." for kind, note in size_notes((image.shape[0], image.shape[1])).items()}
        return Picture(Image.fromarray(np.ascontiguousarray(image)), notes)
    return read_picture(image, name)


def _warn(picture: Picture) -> None:
    for note in picture.notes.values():
        warnings.warn(note, ImageWarning, stacklevel=3)  # the caller of match or read_image


def _pixels(image: Image.Image) -> tv_tensors.Image:
    return tv_tensors.Image(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def _points(points: Any, size: Size) -> FloatArray:
    array = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ValueError(f"points must be (N, 2) with N above zero, got shape {array.shape}")
    height, width = size
    inside = ((array >= 0) & (array < (width, height))).all(1)
    if not inside.all():  # NaN too
        x, y = array[~inside][0]
        raise ValueError(f"points must lie in image A, {width} x {height} pixels, got ({x:g}, {y:g})")
    return array


def _match(
    network: Matcher, source: Any, target: Any, points: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Match points (N, 2) in pixels of the network's input.

    Returns:
        Matches (N, 2), confidences (N,), and covariances (N, 2, 2) if the network has them.
    """
    keypoints = torch.from_numpy(points).to(device=source.device, dtype=torch.float32)
    more: dict[str, Any] = {"return_covariance": True} if getattr(network, "has_covariance", False) else {}
    found = [network.match_features(source, target, part[None], **more) for part in keypoints.split(_CHUNK)]
    spreads = [x.covariance for x in found if x.covariance is not None]
    return _array([x.keypoints for x in found]), _array([x.score for x in found]), _array(spreads) if spreads else None


def _mutual(network: Matcher, source: Any, target: Any, points: FloatArray) -> BoolArray | None:
    """Tell which points (N, 2) lie in mutual nearest neighbours, if the network does."""
    if not hasattr(network, "mutual_at"):
        return None
    mutual: Tensor = network.mutual_at(source, target, torch.from_numpy(points).to(source.device)[None])
    return mutual[0].cpu().numpy()


def _array(parts: Sequence[Tensor]) -> FloatArray:
    """Join the rows of parts (1, n, ...)."""
    joined: FloatArray = torch.cat(list(parts), 1)[0].double().cpu().numpy()
    return joined


def _model(model: Matcher | str | Path) -> tuple[Matcher, str]:
    if isinstance(model, str | Path):
        return _loaded(str(model)), str(model)
    return model, getattr(model, "name", type(model).__name__)


@cache
def _loaded(name: str) -> Matcher:
    loaded: Matcher = load_model(name)
    return loaded


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
