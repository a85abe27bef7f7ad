"""The maps of an encoder as rows of float16, one for each image, which a cache can keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..sizes import ImageSize, height_width


@dataclass(frozen=True)
class MapRows:
    """Packs an encoder's maps into rows, and unpacks them.

    Attributes:
        shapes: (C, h, w) of each map of an image.
        single: whether the encoder returns one map instead of a list.
    """

    shapes: tuple[tuple[int, int, int], ...]
    single: bool

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: nn.Module, image_size: ImageSize) -> MapRows:
        """Find the shapes of the maps of images (3, H, W) by encoding one."""
        parameter = next(encoder.parameters())
        blank = torch.zeros(1, 3, *height_width(image_size), dtype=parameter.dtype, device=parameter.device)
        training = encoder.training
        maps = encoder.eval()(blank)
        encoder.train(training)
        single = isinstance(maps, Tensor)
        channels, heights, widths = zip(*(x.shape[1:] for x in ([maps] if single else maps)), strict=True)
        return cls(tuple(zip(channels, heights, widths, strict=True)), single)

    @property
    def length(self) -> int:
        """The number of values of a row."""
        return sum(map(math.prod, self.shapes))

    def check(self, name: str, rows: Tensor) -> None:
        """Raise a TypeError or ValueError unless `rows` is floating-point (B, F)."""
        if not rows.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {rows.dtype}")
        if rows.shape[1:] != (self.length,):
            raise ValueError(f"{name} must be (B, {self.length}) if they are encoded, got {tuple(rows.shape)}")

    def pack(self, maps: Tensor | list[Tensor]) -> Tensor:
        """Pack maps (B, C, h, w) into rows (B, F) float16.

        Raises:
            ValueError: a finite value is too large for float16.
        """
        rows = torch.cat([x.flatten(1) for x in ([maps] if isinstance(maps, Tensor) else maps)], 1)
        small = rows.half()
        if bool((small.isinf() & rows.isfinite()).any()):
            largest = float(rows.abs().amax())
            raise ValueError(f"maps must be at most 65504 in absolute value, as float16 is, got {largest:g}")
        return small

    def unpack(self, rows: Tensor, dtype: torch.dtype) -> Tensor | list[Tensor]:
        """Unpack rows (B, F) to what the encoder returns."""
        parts = rows.to(dtype).split([math.prod(shape) for shape in self.shapes], 1)
        maps = [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return maps[0] if self.single else maps
