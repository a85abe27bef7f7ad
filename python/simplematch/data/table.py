"""Pair records stored as arrays: small in memory, shared by forked workers, and cached in a file between runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._files import new_file
from .records import Box, FloatArray, PairInfo

_VERSION = "2"  # version of the columns; a new one invalidates old cache files


class PairTable:
    """`PairInfo` records as columns, which store paths relative to `root`."""

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]], root: Path) -> None:
        """Wrap the columns of `columns_of`, whose paths are relative to `root`."""
        self._columns = dict(columns)
        self._root = root

    def __len__(self) -> int:
        return len(self._columns["pair_id"])

    def __getitem__(self, index: int) -> PairInfo:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be 0 to {len(self) - 1}, got {index}")
        row = {name: column[index % len(self)] for name, column in self._columns.items() if not name.startswith("_")}
        start, stop = self._columns["_first_keypoint"][index % len(self) : index % len(self) + 2]
        ids = self._columns["_keypoint_ids"]
        names = self._columns["_variation_names"]
        return PairInfo(
            pair_id=str(row["pair_id"]),
            category=str(row["category"]),
            source_path=self._path(row["source_image"]),
            target_path=self._path(row["target_image"]),
            source_size=(int(row["sizes"][0]), int(row["sizes"][1])),
            target_size=(int(row["sizes"][2]), int(row["sizes"][3])),
            source_box=_box(row["boxes"][:4]),
            target_box=_box(row["boxes"][4:]),
            source_keypoints=self._columns["_keypoints"][start:stop, :2],
            target_keypoints=self._columns["_keypoints"][start:stop, 2:],
            keypoint_ids=tuple(str(name) for name in ids[start:stop]) if len(ids) else (),
            variations={str(name): str(value) for name, value in zip(names, row["variations"], strict=True) if value},
            source_variant=str(row["source_variant"]),
            target_variant=str(row["target_variant"]),
        )

    def _path(self, image: int) -> Path:
        return self._root / str(self._columns["_images"][image])

    def column(self, name: str) -> list[str]:
        """Return a column of strings, such as "category", for all pairs."""
        return [str(value) for value in self._columns[name]]

    def variation_values(self) -> dict[str, list[str]]:
        """Return the values of every variation field."""
        names, values = self._columns["_variation_names"], self._columns["variations"]
        return {str(name): sorted({str(v) for v in values[:, i] if v}) for i, name in enumerate(names)}

    def select(self, indices: Sequence[int]) -> PairTable:
        """Return a table of the pairs at `indices`, in that order."""
        return PairTable.of([self[i] for i in indices], self._root)

    @classmethod
    def of(cls, infos: Iterable[PairInfo], root: Path) -> PairTable:
        """Make a table of records; their paths may lie outside `root`."""
        return cls(columns_of(list(infos), root), root)

    def save(self, path: Path) -> None:
        """Write the columns to an .npz file atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as file:
            np.savez(file, **self._columns)  # type: ignore[arg-type]  # numpy's stub mistakes the columns for allow_pickle

    @classmethod
    def load(cls, path: Path, root: Path) -> PairTable:
        """Read a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls({name: file[name] for name in file.files}, root)


def columns_of(infos: list[PairInfo], root: Path) -> dict[str, npt.NDArray[Any]]:
    """Make the columns of a `PairTable`: strings, sizes, boxes (NaN for none), and all keypoints in one array."""
    images: dict[str, int] = {}

    def image(path: Path) -> int:
        name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        return images.setdefault(name, len(images))

    names = sorted({name for info in infos for name in info.variations})
    no_box = (np.nan,) * 4
    points = [np.concatenate((i.source_keypoints, i.target_keypoints), axis=1) for i in infos]
    return {
        "pair_id": np.array([i.pair_id for i in infos], dtype=str),
        "category": np.array([i.category for i in infos], dtype=str),
        "source_image": np.array([image(i.source_path) for i in infos], dtype=np.int64),
        "target_image": np.array([image(i.target_path) for i in infos], dtype=np.int64),
        "sizes": np.array([i.source_size + i.target_size for i in infos], dtype=np.int64).reshape(-1, 4),
        "boxes": np.array([(i.source_box or no_box) + (i.target_box or no_box) for i in infos]).reshape(-1, 8),
        "variations": np.array([[i.variations.get(n, "") for n in names] for i in infos], dtype=str).reshape(
            len(infos), len(names)
        ),
        "source_variant": np.array([i.source_variant for i in infos], dtype=str),
        "target_variant": np.array([i.target_variant for i in infos], dtype=str),
        "_variation_names": np.array(names, dtype=str),
        "_images": np.array(list(images), dtype=str),
        "_keypoints": np.concatenate([np.zeros((0, 4)), *points]),
        "_first_keypoint": np.cumsum([0, *(len(p) for p in points)]),
        "_keypoint_ids": np.array([name for i in infos for name in i.keypoint_ids], dtype=str),
    }


def cache_folder() -> Path:
    """Return the cache folder: SIMPLEMATCH_CACHE, or `simplematch` in the user's cache folder."""
    if folder := os.environ.get("SIMPLEMATCH_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simplematch"


def cached_table(root: Path, name: str, annotations: Sequence[Path], build: Callable[[], PairTable]) -> PairTable:
    """Return the table that `build` makes, from the cache unless an annotation has changed.

    Args:
        root: folder of the data set.
        name: distinguishes the tables of a root, for example by split.
        annotations: files and folders whose names, sizes and times decide whether the cache is valid.
        build: reads the annotations.
    """
    path = cache_folder() / "pairs" / f"{_fingerprint(root, name, annotations)}.npz"
    try:
        return PairTable.load(path, root)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        table = build()  # the cache file is missing or damaged
    with contextlib.suppress(OSError):  # the cache folder may be read-only
        table.save(path)
    return table


def _fingerprint(root: Path, name: str, annotations: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{_VERSION}\0{root.resolve()}\0{name}\0".encode())
    for path in annotations:
        for entry, size, time in _stamps(path):
            digest.update(f"{entry}\0{size}\0{time}\0".encode())
    return digest.hexdigest()[:32]


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    if path.is_file():
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns)]
    if not path.is_dir():
        return []
    stamps = []
    for entry in os.scandir(path):
        if entry.is_dir():
            stamps += _stamps(Path(entry.path))
        else:
            stat = entry.stat()
            stamps.append((entry.path, stat.st_size, stat.st_mtime_ns))
    return sorted(stamps)


def _box(values: FloatArray) -> Box | None:
    if np.isnan(values).any():
        return None
    left, top, right, bottom = (float(value) for value in values)
    return left, top, right, bottom
