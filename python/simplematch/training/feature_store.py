"""Encoded images in a folder: read through memory maps, shared by processes, and intact after a kill at any moment.

FOLDER/KEY/settings.json        what the features depend on; KEY is its digest
FOLDER/KEY/3f2a....features     rows of float16, one for each copy of an image
FOLDER/KEY/3f2a....json         which copies these are, written last: without it the features don't count
FOLDER/KEY/.lock                held by the run that is encoding

Each file is written under another name, flushed to disk and renamed. Files of other settings have another KEY.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._files import DataError, reason_of, write_bytes
from .._json import read_object, to_json, write_json

SETTINGS, FEATURES, INDEX = "settings.json", ".features", ".json"
ABANDONED = 3600  # seconds after which nobody is still writing a file
FILE_BYTES, FILES = 64 << 20, 512  # bytes of a file, unless that makes more files than this
_log = logging.getLogger(__name__)


class FeatureStore:
    """The features of one encoder and transform.

    Attributes:
        folder: the folder of these settings.
        length: number of values of a row.
    """

    def __init__(self, root: Path, settings: dict[str, Any], length: int) -> None:
        """Read what is there.

        Args:
            root: folder of the cache.
            settings: everything that the features depend on, as JSON values.
            length: number of values of a row.

        Raises:
            DataError: the folder's settings are damaged.
            WriteError: the folder can't be made.
        """
        self.length = length
        self.settings = settings
        key = hashlib.sha256(to_json(settings).encode()).hexdigest()[:16]
        self.folder = root / key
        self._places: dict[str, tuple[str, int]] = {}  # name of a copy: its file and row
        self._affine: dict[str, list[float]] = {}
        self._sizes: dict[str, int] = {}  # rows of each file
        self._maps: dict[str, Tensor] = {}
        self._own: list[str] = []  # files written by this process
        if (self.folder / SETTINGS).is_file():
            found = read_object(self.folder / SETTINGS)
            if to_json(found) != to_json(settings):
                raise DataError(
                    f"{self.folder / SETTINGS} must hold the settings of its features, got others: delete {self.folder}"
                )
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # another process maps the files again

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def row_bytes(self) -> int:
        return 2 * self.length

    def others(self) -> list[dict[str, Any]]:
        """Return the settings of other features in the same cache."""
        folders = sorted(self.folder.parent.glob(f"*/{SETTINGS}"))
        found = []
        for path in folders:
            if path.parent != self.folder:
                try:
                    found.append(read_object(path))
                except DataError as error:
                    _log.warning("%s", error)
        return found

    def refresh(self) -> None:
        """Find the files that other processes have finished."""
        for path in sorted(self.folder.glob(f"*{INDEX}")):
            name = path.name.removesuffix(INDEX)
            if path.name != SETTINGS and name not in self._sizes:
                self._add(path, name)

    def _add(self, path: Path, name: str) -> None:
        features = path.with_suffix(FEATURES)
        try:
            copies = read_object(path)
            size = features.stat().st_size
        except (DataError, OSError) as error:
            _log.warning("%s: its images are encoded again", reason_of(error))
            return
        intact = all(isinstance(x, list) and len(x) == 6 for x in copies.values())
        if not copies or not intact or size != len(copies) * self.row_bytes:
            _log.warning("%s is damaged: its images are encoded again", features)
            return
        self._sizes[name] = len(copies)
        for row, (copy, affine) in enumerate(copies.items()):
            self._places[copy] = (name, row)
            self._affine[copy] = affine

    def read(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the row (F,) float16 of a copy, and the map (2, 3) float64 of its points."""
        file, row = self._places[name]
        if file not in self._maps:
            count = self._sizes[file] * self.length
            path = str(self.folder / f"{file}{FEATURES}")
            self._maps[file] = torch.from_file(path, shared=False, size=count, dtype=torch.float16).view(
                -1, self.length
            )
        affine = torch.tensor(self._affine[name], dtype=torch.float64).view(2, 3)
        return self._maps[file][row].clone(), affine

    def prepare(self, total: int) -> None:
        """Make the folder for `total` copies.

        Raises:
            WriteError: the folder can't be written.
            OSError: the disk has too little space for the copies that are missing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clean()
        if not (self.folder / SETTINGS).is_file():
            write_json(self.folder / SETTINGS, self.settings, indent=1)
        free, needed = shutil.disk_usage(self.folder).free, (total - len(self)) * self.row_bytes
        if needed > free:
            raise OSError(f"it needs {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free")

    def _clean(self) -> None:
        """Remove what killed processes have left unfinished."""
        for path in (*self.folder.glob(f"*{FEATURES}"), *self.folder.glob(".*.part")):
            if path.with_suffix(INDEX).is_file():
                continue
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()

    def rows_of_a_file(self, total: int) -> int:
        """Return how many of `total` rows to write to a file: enough for few files, and little lost in a kill."""
        return max(max(FILE_BYTES, total * self.row_bytes // FILES) // self.row_bytes, 1)

    def write(self, names: Sequence[str], rows: Tensor, affine: Tensor) -> None:
        """Write the rows (n, F) float16 and maps (n, 2, 3) of copies.

        Raises:
            WriteError: the disk is full, or the folder can't be written.
        """
        file = secrets.token_hex(8)
        self._own.append(file)
        write_bytes(self.folder / f"{file}{FEATURES}", np.ascontiguousarray(rows.numpy()).tobytes())
        copies = dict(zip(names, affine.flatten(1).tolist(), strict=True))
        write_json(self.folder / f"{file}{INDEX}", copies)
        self._add(self.folder / f"{file}{INDEX}", file)

    def discard(self) -> None:
        """Remove the files that this process has written, to leave their space to the run's states."""
        for name in self._own:
            for suffix in (INDEX, FEATURES):
                (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
        self._own.clear()
