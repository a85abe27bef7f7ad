"""Readers of annotation fields; their errors name the file and the field in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._files import DataError, reason_of
from .records import Box, FloatArray, Size


def read_field(record: Any, name: str, path: Path | str) -> Any:
    """Return a field of an annotation."""
    if not isinstance(record, Mapping):
        raise DataError(f"{path} must be an object with the field '{name}', got {_short(record)}.")
    if name not in record:
        raise DataError(f"{path} has no field '{name}'.")
    return record[name]


def read_list(record: Any, name: str, path: Path | str) -> list[Any]:
    """Return a field that must be a list."""
    values = read_field(record, name, path)
    if not isinstance(values, list):
        raise DataError(f"{path}: field '{name}' must be a list, got {_short(values)}.")
    return values


def read_number(record: Any, name: str, path: Path | str) -> int:
    """Return a field that must be a whole number."""
    value = read_field(record, name, path)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{path}: field '{name}' must be a whole number, got {_short(value)}.")
    return value


def inside(name: Any, where: object) -> Path:
    """Return a relative path from an annotation, after checking that it stays inside its folder.

    Symbolic links inside the folder are followed.

    Raises:
        DataError: the path is absolute, contains "..", or is not a path. The message begins with `where`.
    """
    if not isinstance(name, str) or not name or "\0" in name or not _is_text(name):
        raise DataError(f"{where} must be the name of a file, got {_short(name)}.")
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"{where} must be a path inside the folder of the data set, got {_short(name)}.")
    return path


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can encode
        return False
    return True


def read_points(values: Any, name: str, path: Path | str, columns: int = 2) -> FloatArray:
    """Return a field as points (N, columns) float64. It must hold at least one point, and finite numbers only."""
    try:
        points = np.asarray(values)
    except (TypeError, ValueError):  # ragged or too deeply nested
        points = np.empty(1, dtype=object)
    if points.size and points.dtype.kind not in "iuf":  # dtype=float64 would accept numbers in quotes
        raise DataError(f"{path}: field '{name}' must be a list of points, got {_short(values)}.")
    points = points.astype(np.float64)
    if points.size == 0:
        raise DataError(f"{path}: field '{name}' must hold at least one common keypoint, got none.")
    if points.ndim != 2 or points.shape[1] != columns or not np.isfinite(points).all():
        raise DataError(f"{path}: field '{name}' must hold {columns} finite numbers per point, got {_short(values)}.")
    return points


def read_box(values: Any, name: str, path: Path | str, *, corners: bool = True) -> Box:
    """Return a box (x1, y1, x2, y2) of positive area; `corners=False` reads (left, top, width, height)."""
    try:
        if isinstance(values, str) or any(isinstance(value, str) for value in values):
            raise TypeError
        left, top, right, bottom = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DataError(f"{path}: field '{name}' must be four numbers, got {_short(values)}.") from None
    if not corners:
        right, bottom = left + right, top + bottom
    if not (right > left and bottom > top and math.isfinite(left + top + right + bottom)):
        raise DataError(f"{path}: field '{name}' must be a box of positive area, got {_short(values)}.")
    return left, top, right, bottom


def read_size(width: Any, height: Any, name: str, path: Path | str) -> Size:
    """Return the size (height, width) of an image, two positive integers."""
    if not all(isinstance(side, int) and 0 < side < 1 << 31 and side is not True for side in (width, height)):
        raise DataError(f"{path}: field '{name}' must be positive integers, got {_short((width, height))}.")
    return height, width


def read_text(path: Path, origin: str) -> str:
    """Read a text file that a data set requires; `origin` tells the user where to get it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {origin}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {reason_of(error)}.") from error


def read_mat(path: Path, name: str) -> FloatArray:
    """Read an array of a MATLAB file as float64."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise DataError(f"{path} is missing.")
    try:
        content = loadmat(path)
    except (OSError, ValueError, TypeError, RuntimeError, MatReadError) as error:  # RuntimeError: MATLAB 7.3 (HDF5)
        raise DataError(f"{path} can't be read as a MATLAB file: {reason_of(error)}.") from error
    return np.asarray(read_field(content, name, path), dtype=np.float64)


def first_folder(candidates: Sequence[Path]) -> Path | None:
    """Return the first folder that exists, or None."""
    return next((folder for folder in candidates if folder.is_dir()), None)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
