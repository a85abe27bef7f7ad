"""Every picture is read here: files and PIL images of any kind to the 8-bit sRGB pixels that the network takes.

- 16 bits a channel are scaled by their range; values of 12 bits or fewer that are stored in 16 are scaled by theirs.
- Floats, signed and 32-bit integers are refused: nothing says what their values mean.
- Transparent pixels are shown on white, as viewers show them; the colours stored beneath them are arbitrary.
- Of an animation, and of a file with several pages, the first picture is taken.
- An embedded colour profile is applied. CMYK in a JPEG is taken as inverted, as Adobe's programs write it.
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
_ORIENTATION = 0x0112  # of EXIF
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SMALLEST_SIDE, LARGEST_RATIO = 16, 10  # a cell of a feature map spans about 16 pixels of a square


class ImageError(DataError):
    """An image can't be decoded, or isn't of the size its annotation says."""


class ImageWarning(UserWarning):
    """An image was read, but its matches may not be what its owner expects."""


@dataclass(frozen=True)
class Picture:
    """RGB pixels, and what a user should know of them: a sentence for each kind of note."""

    pixels: Image.Image
    notes: dict[str, str] = field(default_factory=dict)


def read_picture(
    source: Path | str | Image.Image, name: str = "image", *, upright: bool = True, failure: str = "can't be read"
) -> Picture:
    """A picture as 8-bit sRGB; the head of this module says what becomes of its kind.

    Args:
        source: a file, or a PIL image, which stays open and at its frame.
        name: of the argument; messages begin with it.
        upright: turn the picture as its EXIF tag says.
        failure: what the message of an error says of it.

    Raises:
        ImageError: it is missing, damaged, no picture, or one of a kind that can't be shown in 8 bits.
    """
    name = f"{name} (a PIL image)" if isinstance(source, Image.Image) else f"{name} {source}"
    try:
        if isinstance(source, Image.Image):
            picture = _to_picture(source, upright)
        else:
            with open(source, "rb") as file, _open(_seekable(file)) as image:
                picture = _to_picture(image, upright)
    except Exception as error:  # decoders raise what they stumble over: struct.error, IndexError, zlib.error, ...
        raise _image_error(name, error, failure) from error
    return Picture(picture.pixels, {kind: f"{name} {note}." for kind, note in picture.notes.items()})


def image_size(path: Path) -> Size:
    """(height, width) of an image file, from its header."""
    try:
        with open(path, "rb") as file, _open(file) as image:
            return image.height, image.width
    except Exception as error:
        raise _image_error(f"image {path}", error, "can't be decoded") from error


def decode_image(path: Path, size: Size | None = None) -> tv_tensors.Image:
    """The pixels of an image of a data set, uint8 (3, H, W), as stored: annotations know nothing of EXIF rotations.

    Args:
        path: the file.
        size: the (height, width) that its annotation says, which it must have to the pixel that rounding leaves open.
    """
    picture = read_picture(path, upright=False, failure="can't be decoded")
    pixels = torch.from_numpy(np.array(picture.pixels)).permute(2, 0, 1).contiguous()
    if size is not None and max(abs(a - b) for a, b in zip(pixels.shape[1:], size, strict=True)) > 1:
        height, width = pixels.shape[1:]
        raise ImageError(f"image {path} is {width} x {height}, its annotation says {size[1]} x {size[0]}.")
    _log_once(picture.notes)
    return tv_tensors.Image(pixels)


def size_notes(size: Size) -> dict[str, str]:
    """The note on an image of (height, width) that is too small or too long to be matched."""
    height, width = size
    if min(size) >= SMALLEST_SIDE and max(size) <= LARGEST_RATIO * min(size):
        return {}
    limits = f"a side below {SMALLEST_SIDE} pixels or one more than {LARGEST_RATIO} times the other"
    return {"size": f"is {width} x {height} pixels; with {limits}, matches and their confidence mean little"}


_logged: set[str] = set()


def _log_once(notes: dict[str, str]) -> None:
    """A data set may have thousands of images of a kind: each process logs the first one."""
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
        raise ValueError("it is empty")
    if head in _TIFF_HEADS:
        raise ValueError(f"it is a damaged TIFF, or one of floats or other samples that can't be read; {REMEDY}")
    raise ValueError(f"it is damaged, or of none of the formats {', '.join(FORMATS)}")


def _image_error(name: str, error: Exception, failure: str) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{name} is missing.")
    reason = reason_of(error) if isinstance(error, OSError | ValueError) else f"it is damaged ({error!r})"
    if isinstance(error, Image.DecompressionBombError):
        reason = f"{error}; PIL.Image.MAX_IMAGE_PIXELS can be raised for files that you trust"
    return ImageError(f"{name} {failure}: {reason}.")


def _to_picture(image: Image.Image, upright: bool) -> Picture:
    kind = FileKind.of(image)
    image.load()
    turned = _upright(image) if upright else image
    notes = size_notes((turned.height, turned.width))
    base, alpha = to_8_bits(turned, kind, notes)
    pixels = _as_srgb(base, turned.info.get("icc_profile"), notes)
    if alpha is not None:
        pixels = Image.composite(pixels, Image.new("RGB", pixels.size, "white"), alpha)
    if kind.format != "MPO" and _has_more(image):  # an MPO's other pictures are previews and depth maps
        notes["frames"] = "holds several pictures, of which the first is taken"
    return Picture(pixels, notes)


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # a damaged tag says nothing
        if image.getexif().get(_ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def _as_srgb(image: Image.Image, profile: bytes | None, notes: dict[str, str]) -> Image.Image:
    if profile:
        try:
            return apply_profile(image, profile)
        except ProfileError as error:
            notes["profile"] = f"has a colour profile that can't be applied ({error}); its colours are taken as sRGB"
    return image.convert("RGB")


def _has_more(image: Image.Image) -> bool:
    with suppress(Exception):  # a GIF looks for its second frame now, which may be damaged
        return bool(getattr(image, "is_animated", False)) and image.tell() == 0
    return False
