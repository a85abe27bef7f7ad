"""Embedded colour profiles (ICC) applied: pictures of any profile as sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # of Pillow, by the space that a profile is of
_UNSEEN = 2  # levels of 255: two makers' sRGB differ by no more
_NO_CACHE, _NO_OPTIMISATION = 0x0040, 0x0100  # of cmsCreateTransform: for threads; for the shadows of grey pictures


class ProfileError(ValueError):
    """A profile is damaged, or of another kind of picture."""


def apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """The sRGB pixels of an image with the colours of a profile.

    Raises:
        ProfileError: the profile is damaged, or of another kind of picture.
    """
    mode, transform = _transform(profile)
    if mode == "RGB" and image.mode in ("1", "L", "P", "RGBX", "YCbCr", "HSV"):
        image = image.convert("RGB")  # grey pictures often carry the profile of the colours they came from
    elif mode == "L" and image.mode == "1":
        image = image.convert("L")
    if image.mode != mode:
        raise ProfileError(f"it is one of {mode}, the picture is {image.mode}")
    if transform is None:
        return image.convert("RGB")
    if mode == "L":  # 256 values
        table = np.asarray(ImageCms.applyTransform(_probe(mode), transform))[0]
        return Image.fromarray(table[np.asarray(image)])
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # unless inPlace
    return converted


@lru_cache(maxsize=64)
def _transform(profile: bytes) -> tuple[str, Any]:
    """The mode of the images that a profile is of, and their transform to sRGB; None if it changes nothing."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES.get(opened.profile.xcolor_space.strip())
        if mode is None:
            raise ProfileError(f"it is one of {opened.profile.xcolor_space.strip()}")
        flags: Any = _NO_CACHE | (_NO_OPTIMISATION if mode == "L" else 0)
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
        if mode in ("RGB", "L"):
            probe = _probe(mode)
            after = np.asarray(ImageCms.applyTransform(probe, transform), dtype=np.int64)
            if np.abs(after - np.asarray(probe.convert("RGB"), dtype=np.int64)).max() <= _UNSEEN:
                return mode, None
    except ProfileError:
        raise
    except Exception as error:  # of littleCMS, or because Pillow was built without it
        raise ProfileError(str(error) or type(error).__name__) from error
    return mode, transform


def _probe(mode: str) -> Image.Image:
    """An image of colours from everywhere."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    return Image.fromarray(np.array(list(product(levels, repeat=3)), dtype=np.uint8)[None])
