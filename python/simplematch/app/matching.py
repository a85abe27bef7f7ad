"""Matches points of one feature map in another, with the window, temperature and backend that the page asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from simplematch_kernels import sparse_window_match

from .._torchvision import tv_tensors
from ..correspondences import Correspondences
from ..data import PairTransform
from ..data.records import FloatArray, Size
from ..models import NearestNeighbour, SimpleMatch
from ..models.matching import cells_of
from ..models.mutual import mutual_cells
from ..sizes import Placement, height_width, place

# On known warps of photographs 96% to 98% of true points lie inside two standard deviations; with 0.02, 35% to 49%.
NEAREST_WINDOW, NEAREST_TEMPERATURE = 5, 0.05
LARGEST_WINDOW = 99
LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-4, 100.0
_CORNER = {"source_coords": "corner", "target_coords": "corner", "sampling": "floor"}
_HALF_PIXEL = {
    "source_coords": "half_pixel",
    "target_coords": "half_pixel",
    "sampling": "bilinear",
    "sampling_padding": "border",
}


@dataclass(frozen=True)
class Settings:
    """How matches are found in the target: inside which window, how sharply, and by which backend.

    Raises:
        ValueError: `window` isn't a whole number from 1 to 99, or `temperature` isn't a number from 1e-4 to 100.
    """

    window: int
    temperature: float
    backend: str = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.window <= LARGEST_WINDOW:
            raise ValueError(f"window must be a whole number from 1 to {LARGEST_WINDOW}, got {self.window}")
        if not LEAST_TEMPERATURE <= self.temperature <= LARGEST_TEMPERATURE:  # NaN neither
            limits = f"{LEAST_TEMPERATURE:g} to {LARGEST_TEMPERATURE:g}"
            raise ValueError(f"temperature must be a number from {limits}, got {self.temperature:g}")


class Network:
    """A model as the app uses it: pictures in, one feature map out, and the conventions of its coordinates.

    Attributes:
        name: the name that the user chose it by.
        settings: its window and temperature.
        bilinear: whether a point's descriptor is interpolated, with cell centres at half cells; otherwise it is that
            of the cell that contains the point.
    """

    def __init__(self, model: SimpleMatch | NearestNeighbour, name: str, device: torch.device) -> None:
        self._model = model.to(device).eval()
        self._device = device
        self._resize: str = model.config.resize
        self.name = name
        self.bilinear = isinstance(model, NearestNeighbour)
        if isinstance(model, NearestNeighbour):
            self.settings = Settings(NEAREST_WINDOW, NEAREST_TEMPERATURE)
        else:
            window = model.config.windows[-1] or LARGEST_WINDOW
            self.settings = Settings(min(window, LARGEST_WINDOW), model.config.temperature)

    def place(self, size: Size) -> Placement:
        """Return where an image of (height, width) lies in the network's input."""
        return place(size, self._model.image_size, self._resize)

    def frame(self, size: Size) -> list[float]:
        """Return where an image lies in its map: left, top, width and height as fractions of the map's."""
        placed, (height, width) = self.place(size), height_width(self._model.image_size)
        (top, left), (rows, columns) = placed.corner, placed.resized
        return [left / width, top / height, columns / width, rows / height]

    @torch.inference_mode()
    def encode(self, image: Image.Image) -> Tensor:
        """Encode an RGB image as a map (1, C, h, w) of finite float32 descriptors."""
        model = self._model
        pixels = tv_tensors.Image(torch.from_numpy(np.array(image)).permute(2, 0, 1))
        prepared = PairTransform(model.image_size, model.mean, model.std, resize=self._resize).prepare(pixels)
        features: Tensor = model.feature_map(model.encode(prepared[None].to(self._device)))
        return features.float()

    @torch.inference_mode()
    def match(
        self, source: Tensor, target: Tensor, points: FloatArray, size_a: Size, size_b: Size, settings: Settings
    ) -> Correspondences:
        """Match points (N, 2), in pixels of an image of `size_a`, between maps that `encode` returned.

        Returns:
            Matches in pixels of an image of `size_b`, with their covariance, and both checks of the way back.

        Raises:
            RuntimeError: the backend can't run here.
        """
        in_a, in_b = self.place(size_a), self.place(size_b)
        queries = torch.from_numpy(in_a.to_input(points))[None].to(source.device, torch.float32)
        found = self._match(source, target, queries, settings)
        back = self._match(target, source, found.keypoints, settings)
        mutual = mutual_cells(source, target, cells_of(queries, source, self._model.image_size), settings.backend)
        returned = in_a.to_image(_array(back.keypoints))
        return Correspondences(
            points,
            in_b.to_image(_array(found.keypoints)),
            _array(found.score),
            np.linalg.norm(returned - points, axis=1),
            size_a,
            size_b,
            self.name,
            _array(found.covariance) / np.outer(in_b.scale, in_b.scale),
            mutual[0].cpu().numpy(),
        )

    def _match(self, source: Tensor, target: Tensor, keypoints: Tensor, settings: Settings) -> Any:
        # Points of the page are continuous, from 0 at the left edge; those of half pixels count from a pixel's centre.
        half = 0.5 if self.bilinear else 0.0
        options: dict[str, Any] = _HALF_PIXEL if self.bilinear else _CORNER
        return sparse_window_match(
            source,
            target,
            keypoints - half,
            source_size=height_width(self._model.image_size),
            target_size=height_width(self._model.image_size),
            output_offset=half,
            localization="window",
            window_size=settings.window,
            temperature=settings.temperature,
            return_covariance=True,
            backend=settings.backend,
            **options,
        )


def unit_rows(features: Tensor) -> bytes:
    """Return a map (1, C, h, w) as h * w unit descriptors of C little-endian float16, cell after cell."""
    rows = torch.nn.functional.normalize(features[0].flatten(1).T, dim=1)
    return rows.half().cpu().contiguous().numpy().astype("<f2", copy=False).tobytes()


def finite_or_none(value: float) -> float | None:
    """Return what JSON can hold: NaN and infinities become null."""
    return value if math.isfinite(value) else None


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values[0].double().cpu().numpy()
    return array
