"""Reading files, with errors of one sentence that name the file and the field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._files import DataError, reason_of
from .records import Box, FloatArray, Size


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


def read_text(path: Path, origin: str) -> str:
    """A text file that a data set can't do without; `origin` says where it comes from."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {origin}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {reason_of(error)}.") from error


def read_mat(path: Path, name: str) -> FloatArray:
    """One array of a MATLAB file, float64."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise DataError(f"{path} is missing.")
    try:
        content = loadmat(path)
    except (OSError, ValueError, TypeError, RuntimeError, MatReadError) as error:  # RuntimeError: MATLAB 7.3, an HDF5
        raise DataError(f"{path} can't be read as a MATLAB file: {reason_of(error)}.") from error
    return np.asarray(read_field(content, name, path), dtype=np.float64)


def first_folder(candidates: Sequence[Path]) -> Path | None:
    """The first of the folders that exists."""
    return next((folder for folder in candidates if folder.is_dir()), None)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
