"""Uploaded pictures: decoded once, made smaller for the network and the page, with their original size."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from ..data.images import ImageError, decode_picture
from ..data.records import Size

LARGEST_BYTES = 64 << 20
LARGEST_PIXELS = 64_000_000
_LONGEST_SIDE = 2048  # pixels that are kept; networks see at most a quarter of that
_QUALITY = 92


@dataclass(frozen=True)
class StoredPicture:
    """A picture of a page.

    Attributes:
        pixels: RGB, at most 2048 pixels along the longer side.
        jpeg: the same pixels for the page.
        size: (height, width) of the upload, upright; points are in its pixels.
        notes: one sentence for each reason why matches may be unreliable.
    """

    pixels: Image.Image
    jpeg: bytes
    size: Size
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The memory it takes."""
        return 3 * self.pixels.width * self.pixels.height + len(self.jpeg)


def store_picture(content: bytes) -> StoredPicture:
    """Decode an upload, as `simplematch match` reads files: upright, as 8-bit sRGB, the first frame of an animation.

    Raises:
        ImageError: it is empty, damaged, too large, or of an unknown format or mode.
    """
    if len(content) > LARGEST_BYTES:
        raise ImageError(too_many_bytes())
    picture = decode_picture(content, "the picture", most_pixels=LARGEST_PIXELS)
    pixels = picture.pixels
    size = (pixels.height, pixels.width)
    if max(size) > _LONGEST_SIDE:
        scale = _LONGEST_SIDE / max(size)
        smaller = (max(round(pixels.width * scale), 1), max(round(pixels.height * scale), 1))
        pixels = pixels.resize(smaller, Image.Resampling.LANCZOS, reducing_gap=3.0)
    encoded = io.BytesIO()
    pixels.save(encoded, "JPEG", quality=_QUALITY, subsampling=0)
    return StoredPicture(pixels, encoded.getvalue(), size, tuple(picture.notes.values()))


def too_many_bytes() -> str:
    """Return the sentence for an upload that is too large."""
    return f"the picture must have at most {LARGEST_BYTES >> 20} MiB; save a smaller copy and upload that."
