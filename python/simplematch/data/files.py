"""Reading files, with errors of one sentence that name the file and the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from .._torchvision import tv_tensors
from .records import Box, FloatArray, Size


class DataError(ValueError):
    """A file of a data set is missing or doesn't hold what it must."""


class ImageError(DataError):
    """An image can't be decoded, or isn't of the size its annotation says."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a JSON {type(content).__name__}, where an object is needed.")
    return content


def read_field(record: Mapping[str, Any], name: str, path: Path) -> Any:
    """One field of an annotation."""
    if name not in record:
        raise DataError(f"{path} has no field '{name}'.")
    return record[name]


def read_points(values: Any, name: str, path: Path, columns: int = 2) -> FloatArray:
    """(N, columns) float64 of a field that holds a list of points; at least one, all finite."""
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{path}, field '{name}', is {_short(values)}, where a list of points is needed.") from None
    if points.size == 0:
        raise DataError(f"{path}, field '{name}', is empty: the pair has no common keypoint.")
    if points.ndim != 2 or points.shape[1] != columns or not np.isfinite(points).all():
        raise DataError(
            f"{path}, field '{name}', is {_short(values)}, where {columns} finite numbers a point are needed."
        )
    return points


def read_box(values: Any, name: str, path: Path, *, corners: bool = True) -> Box:
    """A box as (x1, y1, x2, y2); `corners=False` reads (left, top, width, height). It must have an area."""
    try:
        left, top, right, bottom = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DataError(f"{path}, field '{name}', is {_short(values)}, where four numbers are needed.") from None
    if not corners:
        right, bottom = left + right, top + bottom
    if not (right > left and bottom > top and math.isfinite(left + top + right + bottom)):
        raise DataError(f"{path}, field '{name}', is {_short(values)}: a box of zero size, where an area is needed.")
    return left, top, right, bottom


def read_size(width: Any, height: Any, name: str, path: Path) -> Size:
    """(height, width) of an image, positive integers."""
    if not all(isinstance(side, int) and side > 0 for side in (width, height)):
        raise DataError(f"{path}, field '{name}', says {_short((width, height))}, where positive integers are needed.")
    return height, width


def image_size(path: Path) -> Size:
    """(height, width) of an image file, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise _image_error(path, error) from error


def decode_image(path: Path, size: Size | None = None) -> tv_tensors.Image:
    """The pixels of an image file, uint8 (3, H, W).

    Args:
        path: the file.
        size: the (height, width) that its annotation says, which it must have to the pixel that rounding leaves open.
    """
    try:
        with Image.open(path) as image:  # as stored: annotations know nothing of EXIF rotations
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _image_error(path, error) from error
    if size is not None and max(abs(a - b) for a, b in zip(pixels.shape[1:], size, strict=True)) > 1:
        height, width = pixels.shape[1:]
        raise ImageError(f"image {path} is {width} x {height}, its annotation says {size[1]} x {size[0]}.")
    return tv_tensors.Image(pixels)


def read_text(path: Path, origin: str) -> str:
    """A text file that a data set can't do without; `origin` says where it comes from."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {origin}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}.") from error


def read_mat(path: Path, name: str) -> FloatArray:
    """One array of a MATLAB file, float64."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise DataError(f"{path} is missing.")
    try:
        content = loadmat(path)
    except (OSError, ValueError, TypeError, RuntimeError, MatReadError) as error:  # RuntimeError: MATLAB 7.3, an HDF5
        raise DataError(f"{path} can't be read as a MATLAB file: {error}.") from error
    return np.asarray(read_field(content, name, path), dtype=np.float64)


def first_folder(candidates: Sequence[Path]) -> Path | None:
    """The first of the folders that exists."""
    return next((folder for folder in candidates if folder.is_dir()), None)


def _image_error(path: Path, error: Exception) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"image {path} is missing.")
    return ImageError(f"image {path} can't be decoded: {str(error) or type(error).__name__}.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
