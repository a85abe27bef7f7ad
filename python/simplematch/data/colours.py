"""Conversion of images with an embedded ICC colour profile to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # Pillow's mode for a profile's colour space
_INVISIBLE = 2  # levels of 255: sRGB profiles of different vendors differ by no more
_NO_CACHE, _NO_OPTIMISATION = (
    0x0040,
    0x0100,
)  # flags: thread safety; accurate shadows of grey images


class ProfileError(ValueError):
    """The profile is damaged, or doesn't match the image's mode."""


def apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an image from the colours of a profile to sRGB.

    Raises:
        ProfileError: the profile is damaged, or doesn't match the image's mode.
    """
    mode, transform = _transform(profile)
    if mode == "RGB" and image.mode in ("1", "L", "P", "RGBX", "YCbCr", "HSV"):
        image = image.convert("RGB")  # grey images often carry the RGB profile of the image they were made from
    elif mode == "L" and image.mode == "1":
        image = image.convert("L")
    if image.mode != mode:
        raise ProfileError(f"the profile is for {mode}, the image is {image.mode}")
    if transform is None:
        return image.convert("RGB")
    if mode == "L":  # 256 values
        table = np.asarray(ImageCms.applyTransform(_probe(mode), transform))[0]
        return Image.fromarray(table[np.asarray(image)])
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None only with inPlace
    return converted


@lru_cache(maxsize=64)
def _transform(profile: bytes) -> tuple[str, Any]:
    """Return the image mode of a profile and its transform to sRGB, None if that changes nothing visible."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES.get(opened.profile.xcolor_space.strip())
        if mode is None:
            raise ProfileError(f"the profile is for {opened.profile.xcolor_space.strip()}")
        flags: Any = _NO_CACHE | (_NO_OPTIMISATION if mode == "L" else 0)
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
        if mode in ("RGB", "L"):
            probe = _probe(mode)
            after = np.asarray(ImageCms.applyTransform(probe, transform), dtype=np.int64)
            if np.abs(after - np.asarray(probe.convert("RGB"), dtype=np.int64)).max() <= _INVISIBLE:
                return mode, None
    except ProfileError:
        raise
    except Exception as error:  # from littleCMS, or because Pillow was built without it
        raise ProfileError(str(error) or type(error).__name__) from error
    return mode, transform


def _probe(mode: str) -> Image.Image:
    """Make an image of colours that cover the whole space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    return Image.fromarray(np.array(list(product(levels, repeat=3)), dtype=np.uint8)[None])
