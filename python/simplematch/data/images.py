"""Reads image files and PIL images as 8-bit sRGB, the network's input.

- 16-bit channels are scaled by their range; so are values of 12 bits or fewer that are stored in 16 bits.
- Floats, signed integers and 32-bit integers raise, because their range is unknown.
- Transparent pixels are composited on white; their stored colours are arbitrary.
- Animations and multi-page files yield their first frame.
- Embedded colour profiles are applied. CMYK JPEGs are read as inverted, as Adobe's programs write them.
"""

from __future__ import annotations

import io
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from .._files import DataError, reason_of
from .._torchvision import tv_tensors
from .colours import ProfileError, apply_profile
from .modes import REMEDY, FileKind, to_8_bits
from .records import Size

_log = logging.getLogger(__name__)
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000")
_ORIENTATION = 0x0112  # EXIF tag
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SMALLEST_SIDE, LARGEST_RATIO = 16, 10  # a cell of a feature map spans about 16 pixels of a square


class ImageError(DataError):
    """An image can't be decoded, or differs from its annotation in size."""


class ImageWarning(UserWarning):
    """An image was read, but its matches may be unreliable."""


@dataclass(frozen=True)
class Picture:
    """RGB pixels, with a warning sentence for each kind of problem."""

    pixels: Image.Image
    notes: dict[str, str] = field(default_factory=dict)


def read_picture(
    source: Path | str | Image.Image, name: str = "image", *, upright: bool = True, failure: str = "can't be read"
) -> Picture:
    """Read an image as 8-bit sRGB, by the rules in this module's docstring.

    Args:
        source: a file, or a PIL image, which stays open at its current frame.
        name: name of the argument; messages begin with it.
        upright: apply the rotation of the EXIF tag.
        failure: the verb of error messages.

    Raises:
        ImageError: the image is missing, damaged, of an unknown format, or of a mode that has no 8-bit equivalent.
    """
    name = f"{name} (a PIL image)" if isinstance(source, Image.Image) else f"{name} {source}"
    try:
        if isinstance(source, Image.Image):
            picture = _to_picture(source, upright)
        else:
            with open(source, "rb") as file, _open(_seekable(file)) as image:
                picture = _to_picture(image, upright)
    except Exception as error:  # damaged files raise errors of any type: struct.error, IndexError, zlib.error, ...
        raise _image_error(name, error, failure) from error
    return Picture(picture.pixels, {kind: f"{name} {note}." for kind, note in picture.notes.items()})


def decode_picture(content: bytes, name: str = "image", *, most_pixels: int | None = None) -> Picture:
    """Decode the content of an image file, upright, like `read_picture`.

    Args:
        content: the bytes of the file, which may come from someone untrusted.
        name: name of the argument; messages begin with it.
        most_pixels: larger images raise before their pixels are decoded.

    Raises:
        ImageError: the image is damaged, too large, of an unknown format, or of a mode that has no 8-bit equivalent.
    """
    try:
        with _open_smaller(io.BytesIO(content), most_pixels) as image:
            picture = _to_picture(image, True)
    except Exception as error:  # damaged files raise errors of any type
        raise _image_error(name, error, "can't be read") from error
    return Picture(picture.pixels, {kind: f"{name} {note}." for kind, note in picture.notes.items()})


def _open_smaller(file: BinaryIO, most_pixels: int | None) -> Image.Image:
    """Open an image whose header tells at most so many pixels."""
    try:
        image = _open(file)
    except Image.DecompressionBombError as error:
        if most_pixels is None:
            raise
        raise ValueError(f"it has more than {most_pixels / 1e6:g} million pixels; save a smaller copy") from error
    if most_pixels is not None and image.width * image.height > most_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise ValueError(f"it has {size}, more than {most_pixels / 1e6:g} million; save a smaller copy")
    return image


def image_size(path: Path) -> Size:
    """Read the size (height, width) of an image file from its header."""
    try:
        with open(path, "rb") as file, _open(file) as image:
            return image.height, image.width
    except Exception as error:
        raise _image_error(f"image {path}", error, "can't be decoded") from error


def decode_image(path: Path, size: Size | None = None) -> tv_tensors.Image:
    """Decode an image of a data set as uint8 (3, H, W), without its EXIF rotation, which annotations ignore.

    Args:
        path: the file.
        size: (height, width) in its annotation; the decoded size may differ by one pixel.
    """
    picture = read_picture(path, upright=False, failure="can't be decoded")
    pixels = torch.from_numpy(np.array(picture.pixels)).permute(2, 0, 1).contiguous()
    if size is not None and max(abs(a - b) for a, b in zip(pixels.shape[1:], size, strict=True)) > 1:
        height, width = pixels.shape[1:]
        raise ImageError(f"image {path} must be {size[1]} x {size[0]} as in its annotation, got {width} x {height}.")
    _log_once(picture.notes)
    return tv_tensors.Image(pixels)


def size_notes(size: Size) -> dict[str, str]:
    """Return a note if an image of (height, width) is too small or too elongated to match reliably."""
    height, width = size
    if min(size) >= SMALLEST_SIDE and max(size) <= LARGEST_RATIO * min(size):
        return {}
    limits = f"below {SMALLEST_SIDE} pixels a side or above an aspect ratio of {LARGEST_RATIO}"
    return {"size": f"is {width} x {height} pixels; {limits}, matches and confidences are unreliable"}


_logged: set[str] = set()


def _log_once(notes: dict[str, str]) -> None:
    """Log only the first image of a kind in each process, because a data set may have thousands."""
    for kind in notes.keys() - _logged:
        _logged.add(kind)
        _log.warning("%s Further images of this kind are not reported.", notes[kind])


def _seekable(file: BinaryIO) -> BinaryIO:
    return file if file.seekable() else io.BytesIO(file.read())  # a pipe


def _open(file: BinaryIO) -> Image.Image:
    Image.init()
    try:
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(4)
    if not head:
        raise ValueError("the file is empty")
    if head in _TIFF_HEADS:
        raise ValueError(f"the TIFF is damaged, or has samples of an unsupported type, such as floats; {REMEDY}")
    raise ValueError(f"the file is damaged, or is not one of the formats {', '.join(FORMATS)}")


def _image_error(name: str, error: Exception, failure: str) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{name} is missing.")
    reason = reason_of(error) if isinstance(error, OSError | ValueError) else f"the file is damaged ({error!r})"
    if isinstance(error, Image.DecompressionBombError):
        reason = f"{error}; raise PIL.Image.MAX_IMAGE_PIXELS for files that you trust"
    return ImageError(f"{name} {failure}: {reason}.")


def _to_picture(image: Image.Image, upright: bool) -> Picture:
    kind = FileKind.of(image)
    image.load()
    rotated = _upright(image) if upright else image
    notes = size_notes((rotated.height, rotated.width))
    base, alpha = to_8_bits(rotated, kind, notes)
    pixels = _as_srgb(base, rotated.info.get("icc_profile"), notes)
    if alpha is not None:
        pixels = Image.composite(pixels, Image.new("RGB", pixels.size, "white"), alpha)
    if kind.format != "MPO" and _has_more(image):  # the other images of an MPO are previews and depth maps
        notes["frames"] = "has several frames or pages; only the first is used"
    return Picture(pixels, notes)


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # a damaged tag is ignored
        if image.getexif().get(_ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def _as_srgb(image: Image.Image, profile: bytes | None, notes: dict[str, str]) -> Image.Image:
    if profile:
        try:
            return apply_profile(image, profile)
        except ProfileError as error:
            notes["profile"] = f"has a colour profile that can't be applied ({error}); its colours are read as sRGB"
    return image.convert("RGB")


def _has_more(image: Image.Image) -> bool:
    with suppress(Exception):  # Pillow seeks a GIF's second frame here, which may be damaged
        return bool(getattr(image, "is_animated", False)) and image.tell() == 0
    return False
