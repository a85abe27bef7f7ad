"""Conversion of every mode of Pillow to 8 bits and a separate alpha channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

_16_BIT_FORMATS = ("PNG", "PPM")  # Pillow may widen their unsigned 16 bits to its mode "I"
_FEWER_BITS = (8, 10, 12)  # depths that are often stored in 16 bits
# TIFF tags and their values.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_WHITE_IS_ZERO, _SEPARATE = 0, 2
_SAMPLES = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex numbers"}
REMEDY = "scale its values to 0..255 or 0..65535 and save them as unsigned 8 or 16 bits"


@dataclass(frozen=True)
class FileKind:
    """The file's properties that a rotated or converted copy of the image loses.

    Attributes:
        format: Pillow's name of the format; None for an image without a file.
        tags: TIFF tags.
        wide: whether a channel has 16 bits.
        misread: whether Pillow misreads its 16 bits as 8.
    """

    format: str | None = None
    tags: dict[int, Any] = field(default_factory=dict)
    wide: bool = False
    misread: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> FileKind:
        """Return the kind of an image that isn't loaded yet."""
        tiles = getattr(image, "tile", None) or ()
        wide = image.format in ("PNG", "TIFF") and any(";16" in str(tile) for tile in tiles)
        tags = dict(getattr(image, "tag_v2", {}))
        planes = tags.get(_PLANES) == _SEPARATE and _first(tags.get(_BITS_PER_SAMPLE)) == 16
        return cls(image.format, tags, wide, misread=planes and not wide)

    def check(self, mode: str) -> None:
        """Raise a ValueError unless the range of the values is known; `mode` is the image's mode."""
        held = _SAMPLES.get(_first(self.tags.get(_SAMPLE_FORMAT)), "")
        if not held and (mode == "F" or (mode == "I" and self.format not in _16_BIT_FORMATS)):
            held = "floats" if mode == "F" else "32-bit or signed integers"
        if held:
            raise ValueError(f"it has {held} (mode {mode}) of unknown range; {REMEDY}")
        if self.misread:
            raise ValueError("it stores 16-bit channels in separate planes; save its channels interleaved")


def to_8_bits(image: Image.Image, kind: FileKind, notes: dict[str, str]) -> tuple[Image.Image, Image.Image | None]:
    """Convert an image to 8 bits per channel (mode L, RGB, CMYK, ...) and its alpha channel, None if it is opaque.

    Args:
        image: a loaded image.
        kind: the kind of its file.
        notes: receives warnings for the user.

    Raises:
        ValueError: the range of the values is unknown.
    """
    kind.check(image.mode)
    if image.mode.startswith("I"):
        base, alpha = _from_16_bits(image, kind, notes)
    else:
        base, alpha = _split(image, kind) if image.has_transparency_data else (image, None)
        if kind.wide and 0 < max(high for _, high in _extrema(base)) < 1 << (12 - 8):
            notes["bits"] = (
                "has 16-bit channels but only uses the lower 12 bits, of which 4 can be read; scale it to 0..65535"
            )
    if alpha is not None and alpha.getextrema() == (0, 0):
        notes["transparent"] = "is fully transparent; its transparency is ignored"
        alpha = None
    return base, alpha


def _split(image: Image.Image, kind: FileKind) -> tuple[Image.Image, Image.Image]:
    """Split an image into 8-bit colours and alpha."""
    key = image.info.get("transparency")
    if kind.wide and isinstance(key, tuple):  # a 16-bit colour
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.mode == "La":  # Pillow converts "La" to "LA" only
        image = image.convert("LA")
    grey = image.getbands()[0] in ("1", "L")
    with_alpha = image.convert("RGBA")
    return with_alpha.convert("L" if grey else "RGB"), with_alpha.getchannel("A")


def _from_16_bits(image: Image.Image, kind: FileKind, notes: dict[str, str]) -> tuple[Image.Image, Image.Image | None]:
    """Scale a grey image of 16 bits, or fewer stored in 16, by its range; return it and its alpha."""
    values = np.asarray(image)
    declared, largest = _first(kind.tags.get(_BITS_PER_SAMPLE)), int(values.max())
    bits = 16
    if isinstance(declared, int) and declared < bits:
        bits = declared
    elif 0 < largest < 1 << max(_FEWER_BITS):
        bits = next(bits for bits in _FEWER_BITS if largest < 1 << bits)
        notes["bits"] = (
            f"has 16 bits and values up to {largest}; it is read as {bits} bits stored in 16, 0 to {(1 << bits) - 1}"
        )
    scale = (1 << bits) - 1
    if values.min() < 0 or largest > scale:  # mode "I" holds a larger range, if a caller wrote into it
        raise ValueError(f"its values must be 0 to {scale}, got {values.min()} to {largest}; {REMEDY}")
    key = image.info.get("transparency")
    alpha = None if key is None else Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    table = ((np.arange(scale + 1) * 255 + scale // 2) // scale).astype(np.uint8)
    if kind.tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts only 1-bit and 8-bit images
        table = table[::-1]
    return Image.fromarray(table[values]), alpha


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    found: Any = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _first(value: Any) -> Any:
    return next(iter(value), None) if isinstance(value, Iterable) else value
