"""PF-WILLOW: test pairs of four objects, ten keypoints each."""

from __future__ import annotations

import csv
from functools import cache as remember
from itertools import permutations
from pathlib import Path

import numpy as np

from .._files import DataError
from .dataset import PairDataset, read_records
from .files import inside, read_mat, read_text
from .images import image_size
from .records import FloatArray, PairInfo
from .table import PairTable

FOLDERS = ("", "PF-WILLOW", "pf-willow", "PF-dataset", "PF-WILLOW/PF-dataset")
_LISTS = ("test_pairs.csv", "test_pairs_pf.csv")
_ORIGIN = "the images are PF-dataset.zip from https://www.di.ens.fr/willow/research/proposalflow"
_POINTS = 10


class PFWillow(PairDataset):
    """The pairs in `test_pairs.csv`; without it, all ordered pairs of each class, with points from `.mat` files."""

    name = "pf-willow"

    def __init__(self, root: Path, split: str = "test", *, use_csv: bool = True, skip_broken: bool = False) -> None:
        """Read the records.

        Args:
            root: the folder with the csv or the folders of classes, or its parent.
            split: "test", the only split.
            use_csv: prefer the csv list of pairs to the `.mat` files.
            skip_broken: skip broken pairs and log how many.
        """
        if split != "test":
            raise DataError(f"split must be 'test' for PF-WILLOW, got '{split}'.")
        folders = [root / name for name in FOLDERS]
        path = next((f / name for f in folders for name in _LISTS if (f / name).is_file()), None) if use_csv else None
        if path is not None:
            rows = [row for row in csv.reader(read_text(path, _ORIGIN).splitlines()) if row]
            reader = _Reader(path)
            numbered = list(enumerate(rows, start=1))[1:]
            records = read_records(numbered, reader.read_row, skip_broken=skip_broken, what=str(path))
            super().__init__(path.parent, split, PairTable.of(records, path.parent))
            return
        found = next((folder for folder in folders if next(folder.glob("*/*.mat"), None)), None)
        if found is None:
            raise DataError(f"{root} must have test_pairs.csv or <class>/*.mat, got neither; {_ORIGIN}.")
        reader = _Reader(found)
        pairs = [pair for c in sorted(found.iterdir()) for pair in permutations(sorted(c.glob("*.mat")), 2)]
        records = read_records(pairs, reader.read_annotations, skip_broken=skip_broken, what=str(found))
        super().__init__(found, split, PairTable.of(records, found))


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = remember(image_size)
        self.points = remember(_read_points)

    def read_row(self, numbered_row: tuple[int, list[str]]) -> PairInfo:
        """Read a row imageA, imageB, XA1..10, YA1..10, XB1..10, YB1..10."""
        line, row = numbered_row
        where = f"{self.path}, line {line}"
        if len(row) != 2 + 4 * _POINTS:
            raise DataError(f"{where} must have {2 + 4 * _POINTS} columns, got {len(row)}.")
        try:
            numbers = np.array([float(value or "nan") for value in row[2:]]).reshape(2, 2, _POINTS)
        except ValueError as error:
            raise DataError(f"{where}: {error}.") from None
        source, target = (self._image(inside(name, f"{where}: an image")) for name in row[:2])
        return self._info(f"{line - 2:06d}", source, target, numbers[0].T, numbers[1].T, where)

    def read_annotations(self, files: tuple[Path, Path]) -> PairInfo:
        source, target = (file.with_suffix(".png") for file in files)
        return self._info("", source, target, self.points(files[0]), self.points(files[1]), str(files[0]))

    def _info(self, prefix: str, source: Path, target: Path, a: FloatArray, b: FloatArray, where: str) -> PairInfo:
        common = np.flatnonzero(np.isfinite(a).all(1) & np.isfinite(b).all(1))
        if not len(common):
            raise DataError(f"{where}: {source.name} and {target.name} have no common keypoint.")
        category = target.parent.name
        return PairInfo(
            pair_id=f"{prefix}-{source.stem}-{target.stem}:{category}".lstrip("-"),
            category=category,
            source_path=source,
            target_path=target,
            source_size=self.size(source),
            target_size=self.size(target),
            source_box=None,
            target_box=None,
            source_keypoints=a[common],
            target_keypoints=b[common],
            keypoint_ids=tuple(str(i) for i in common),
        )

    def _image(self, name: Path) -> Path:
        """Find an image, whose path in the csv starts at one of several parent folders."""
        tails = (name, Path(*name.parts[-2:]), Path("PF-dataset", *name.parts[-2:]))
        return next((p for p in (self.path.parent / tail for tail in tails) if p.is_file()), self.path.parent / name)


def _read_points(path: Path) -> FloatArray:
    points = read_mat(path, "pts_coord")
    if points.ndim != 2 or points.shape[0] < 2:
        raise DataError(f"{path}: field 'pts_coord' must be (2, N), got {points.shape}.")
    return points[:2].T
