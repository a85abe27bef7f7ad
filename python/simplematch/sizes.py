"""Sizes of the network's input, and where an image lies in it.

An image size is a number S for a square, or (height, width). An image is brought to it in one of two ways: "squash"
resizes both axes independently; "letterbox" keeps the aspect ratio and centres the image between bars.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ImageSize = int | tuple[int, int]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
RESIZES = ("squash", "letterbox")


def checked_size(value: object, name: str = "image_size") -> ImageSize:
    """Return a size as a whole number for a square, or as (height, width).

    Args:
        value: a number, two numbers (height, width), or text: "448" or "448x672".
        name: name of the argument, for the error message.

    Raises:
        ValueError: the value is none of these, or a side isn't above zero.
    """
    sides: Any = value
    if isinstance(value, str):
        text = re.fullmatch(r"\s*(\d{1,6})\s*(?:x\s*(\d{1,6})\s*)?", value)
        sides = None if text is None else [int(side) for side in text.groups() if side]
    sides = list(sides) if isinstance(sides, list | tuple) else [sides]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    if not whole or len(sides) not in (1, 2):
        raise ValueError(
            f"{name} must be a whole number above zero, or a height and a width, such as 448 or 448x672, got {value!r}"
        )
    return int(sides[0]) if len(sides) == 1 or sides[0] == sides[1] else (int(sides[0]), int(sides[1]))


def height_width(image_size: ImageSize) -> tuple[int, int]:
    """Return (height, width)."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def size_text(image_size: ImageSize) -> str:
    """Format a size as height x width."""
    height, width = height_width(image_size)
    return f"{height} x {width}"


def check_multiple(image_size: ImageSize, unit: tuple[int, int], what: str) -> None:
    """Check that a size is a multiple of `unit` (height, width).

    Args:
        image_size: the size.
        unit: the sides must be multiples of these.
        what: describes the unit in the error message.

    Raises:
        ValueError: it isn't; the message names the nearest sizes that are.
    """
    sides = height_width(image_size)
    if any(side % step for side, step in zip(sides, unit, strict=True)):
        below, above = (_nearest(image_size, unit, up) for up in (False, True))
        fitting = " or ".join(dict.fromkeys((below, above)))
        raise ValueError(f"image_size must be a multiple of {what}, got {_short(image_size)}: {fitting} would fit")


def _nearest(image_size: ImageSize, unit: tuple[int, int], up: bool) -> str:
    pairs = zip(height_width(image_size), unit, strict=True)
    sides = [max(-(-side // step) if up else side // step, 1) * step for side, step in pairs]
    return _short(checked_size(sides))


def _short(image_size: ImageSize) -> str:
    return str(image_size) if isinstance(image_size, int) else "{}x{}".format(*image_size)


def check_resize(value: object) -> None:
    """Raise a ValueError unless `value` is one of RESIZES."""
    if value not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(map(repr, RESIZES))}, got {value!r}")


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input.

    Attributes:
        image: (height, width) of the image.
        resized: (height, width) of the image in the network's input.
        corner: (top, left) of the image in the network's input.
        bars: whether the network's input may be larger than the resized image.
    """

    image: tuple[int, int]
    resized: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    bars: bool = False

    @property
    def scale(self) -> FloatArray:
        """The factors (x, y) from pixels of the image to pixels of the network's input."""
        return _xy(self.resized) / _xy(self.image)

    def to_input(self, points: FloatArray) -> FloatArray:
        """Convert points (..., 2) as (x, y) in pixels of the image to pixels of the network's input."""
        moved: FloatArray = points * self.scale + _xy(self.corner)
        return moved

    def to_image(self, points: FloatArray) -> FloatArray:
        """Convert points in pixels of the network's input to pixels of the image; from bars, to the image's edge."""
        moved: FloatArray = (points - _xy(self.corner)) * (_xy(self.image) / _xy(self.resized))
        return np.clip(moved, 0, _xy(self.image)) if self.bars else moved


def place(image: Sequence[int], image_size: ImageSize, resize: str = "squash") -> Placement:
    """Return where an image (height, width) lies in the network's input."""
    height, width = int(image[0]), int(image[1])
    rows, columns = height_width(image_size)
    if resize == "squash":
        return Placement((height, width), (rows, columns))
    scale = min(rows / height, columns / width)
    resized = min(max(round(height * scale), 1), rows), min(max(round(width * scale), 1), columns)
    return Placement((height, width), resized, ((rows - resized[0]) // 2, (columns - resized[1]) // 2), True)


def _xy(sides: tuple[int, int]) -> FloatArray:
    return np.array(sides[::-1], dtype=np.float64)
