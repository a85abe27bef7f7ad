"""Reading files, with errors of one sentence that name the file and the field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._files import DataError, reason_of
from .records import Box, FloatArray, Size


def read_field(record: Any, name: str, path: Path | str) -> Any:
    """One field of an annotation."""
    if not isinstance(record, Mapping):
        raise DataError(f"{path} holds {_short(record)}, where an object with the field '{name}' is needed.")
    if name not in record:
        raise DataError(f"{path} has no field '{name}'.")
    return record[name]


def read_list(record: Any, name: str, path: Path | str) -> list[Any]:
    """A field that holds a list."""
    values = read_field(record, name, path)
    if not isinstance(values, list):
        raise DataError(f"{path}, field '{name}', is {_short(values)}, where a list is needed.")
    return values


def read_number(record: Any, name: str, path: Path | str) -> int:
    """A field that holds a whole number."""
    value = read_field(record, name, path)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{path}, field '{name}', is {_short(value)}, where a whole number is needed.")
    return value


def inside(name: Any, where: object) -> Path:
    """A path that a data set gives for one of its files: it must stay in the folder that it is relative to.

    Symbolic links in that folder are its owner's and are followed.

    Raises:
        DataError: it is absolute, goes up by "..", or can't be a path. The message begins with `where`.
    """
    if not isinstance(name, str) or not name or "\0" in name or not _is_text(name):
        raise DataError(f"{where} is {_short(name)}, where the name of a file is needed.")
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"{where} is {_short(name)}, where a path inside the folder of the data set is needed.")
    return path


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        return False
    return True


def read_points(values: Any, name: str, path: Path | str, columns: int = 2) -> FloatArray:
    """(N, columns) float64 of a field that holds a list of points; at least one, all finite."""
    try:
        points = np.asarray(values)
    except (TypeError, ValueError):  # lists of different lengths, or too deep
        points = np.empty(1, dtype=object)
    if points.size and points.dtype.kind not in "iuf":  # asked for floats, NumPy takes numbers in quotes
        raise DataError(f"{path}, field '{name}', is {_short(values)}, where a list of points is needed.")
    points = points.astype(np.float64)
    if points.size == 0:
        raise DataError(f"{path}, field '{name}', is empty: the pair has no common keypoint.")
    if points.ndim != 2 or points.shape[1] != columns or not np.isfinite(points).all():
        raise DataError(
            f"{path}, field '{name}', is {_short(values)}, where {columns} finite numbers a point are needed."
        )
    return points


def read_box(values: Any, name: str, path: Path | str, *, corners: bool = True) -> Box:
    """A box as (x1, y1, x2, y2); `corners=False` reads (left, top, width, height). It must have an area."""
    try:
        if isinstance(values, str) or any(isinstance(value, str) for value in values):
            raise TypeError
        left, top, right, bottom = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DataError(f"{path}, field '{name}', is {_short(values)}, where four numbers are needed.") from None
    if not corners:
        right, bottom = left + right, top + bottom
    if not (right > left and bottom > top and math.isfinite(left + top + right + bottom)):
        raise DataError(f"{path}, field '{name}', is {_short(values)}: a box of zero size, where an area is needed.")
    return left, top, right, bottom


def read_size(width: Any, height: Any, name: str, path: Path | str) -> Size:
    """(height, width) of an image, positive integers."""
    if not all(isinstance(side, int) and 0 < side < 1 << 31 and side is not True for side in (width, height)):
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
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
