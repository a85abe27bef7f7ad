"""PF-PASCAL, in its two published forms."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache as remember
from pathlib import Path

import numpy as np

from .._files import DataError
from .dataset import PairDataset, read_records
from .files import first_folder, inside, read_box, read_mat, read_text
from .images import image_size
from .records import Box, FloatArray, PairInfo, Size
from .table import PairTable

FOLDERS = (
    "",
    "PF-PASCAL",
    "PF-dataset-PASCAL",
    "pf-pascal",
    "pf-pascal/PF-dataset-PASCAL",
    "PF-PASCAL/PF-dataset-PASCAL",
)
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_ORIGIN = "the images and annotations are PF-dataset-PASCAL.zip from https://www.di.ens.fr/willow/research/proposalflow"
_LISTS = {"trn": ("trn_pairs", "train_pairs"), "val": ("val_pairs",), "test": ("test_pairs",)}
Points = tuple[FloatArray, FloatArray, tuple[str, ...]]


def find_list(root: Path, split: str) -> Path | None:
    """Find the csv file with the pairs of a split, in `root` or one of its known folders."""
    for folder in (root / name for name in FOLDERS):
        for stem in _LISTS.get(split, ()):
            for path in (folder / f"{stem}.csv", *sorted(folder.glob(f"{stem}*.csv"))):
                if path.is_file():
                    return path
    return None


class PFPascal(PairDataset):
    """A csv list of pairs, `JPEGImages`, and keypoints either in the csv (XA;YA;XB;YB) or in `Annotations/*.mat`.

    The columns of the csv decide which. A row with flip = 1 flips both images horizontally, x -> W - x.
    """

    name = "pf-pascal"

    def __init__(self, root: Path, split: str, *, skip_broken: bool = False) -> None:
        """Read the records of "trn", "val" or "test". `skip_broken` skips broken pairs and logs how many."""
        path = find_list(root, split)
        if path is None:
            raise DataError(f"{root} has no {_LISTS[split][0]}.csv; the lists of pairs come with NC-Net and DHPF.")
        images = first_folder([folder / "JPEGImages" for folder in _folders(path.parent, root)])
        if images is None:
            raise DataError(f"no folder JPEGImages beside or below {path.parent}; {_ORIGIN}.")
        rows = list(enumerate(csv.DictReader(read_text(path, _ORIGIN).splitlines()), start=2))
        reader = _Reader(path, images)
        records = read_records(rows, reader.read, skip_broken=skip_broken, what=str(path))
        super().__init__(images.parent, split, PairTable.of(records, images.parent))


class _Reader:
    """Reads the rows of a csv file as records."""

    def __init__(self, path: Path, images: Path) -> None:
        self.path = path
        self.images = images
        self.annotations = images.parent / "Annotations"
        self.annotation = remember(self._annotation)
        self.size = remember(image_size)

    def read(self, numbered_row: tuple[int, Mapping[str, str]]) -> PairInfo:
        line, row = numbered_row
        where = f"{self.path}, line {line}"
        source, target = (self._image(row, name, where) for name in ("source_image", "target_image"))
        category = _category(_column(row, "class", where), where)
        listed = "XA" in row
        points = _listed_points(row, where) if listed else self._annotated_points(source, target, category, where)
        boxes = [self._box(source, category), self._box(target, category)]
        info = PairInfo(
            pair_id=f"{line - 2:06d}-{source.stem}-{target.stem}:{category}",
            category=category,
            source_path=source,
            target_path=target,
            source_size=self.size(source),
            target_size=self.size(target),
            source_box=boxes[0],
            target_box=boxes[1],
            source_keypoints=points[0],
            target_keypoints=points[1],
            keypoint_ids=points[2],
        )
        return _hflipped(info) if row.get("flip", "0").strip() == "1" else info

    def _image(self, row: Mapping[str, str], column: str, where: str) -> Path:
        """Return the path of an image; the folders in the lists are ignored, because they differ between lists."""
        return self.images / inside(Path(_column(row, column, where)).name, f"{where}: column '{column}'")

    def _annotated_points(self, source: Path, target: Path, category: str, where: str) -> Points:
        """Return the points that both images have; missing points are NaN."""
        a, b = self.annotation(source.stem, category), self.annotation(target.stem, category)
        if a.shape != b.shape:
            raise DataError(f"{where}: both images must have as many points in 'kps', got {len(a)} and {len(b)}.")
        common = np.flatnonzero(np.isfinite(a).all(1) & np.isfinite(b).all(1))
        if not len(common):
            raise DataError(f"{where}: {source.name} and {target.name} have no common keypoint.")
        return a[common], b[common], tuple(str(i) for i in common)

    def _annotation(self, stem: str, category: str) -> FloatArray:
        path = self.annotations / category / f"{stem}.mat"
        points = read_mat(path, "kps")
        if points.ndim != 2 or points.shape[1] != 2:
            raise DataError(f"{path}: field 'kps' must be (N, 2), got {points.shape}.")
        return points

    def _box(self, image: Path, category: str) -> Box | None:
        path = self.annotations / category / f"{image.stem}.mat"
        return read_box(read_mat(path, "bbox").ravel(), "bbox", path) if path.is_file() else None


def _folders(beside: Path, root: Path) -> list[Path]:
    return [start / name for start in (beside, root, beside.parent) for name in FOLDERS]


def _column(row: Mapping[str, str], name: str, where: str) -> str:
    if not row.get(name):
        raise DataError(f"{where} has no column '{name}'.")
    return row[name]


def _category(number: str, where: str) -> str:
    if not number.strip().isdigit() or not 1 <= int(number) <= len(CLASSES):
        raise DataError(f"{where}: column 'class' must be 1 to {len(CLASSES)}, got '{number}'.")
    return CLASSES[int(number) - 1]


def _listed_points(row: Mapping[str, str], where: str) -> Points:
    columns = []
    for name in ("XA", "YA", "XB", "YB"):
        try:
            columns.append(np.array([float(value) for value in _column(row, name, where).split(";") if value.strip()]))
        except ValueError:
            raise DataError(f"{where}: column '{name}' must be numbers separated by ';', got '{row[name]}'.") from None
    if len({len(column) for column in columns}) != 1:
        raise DataError(f"{where}: XA, YA, XB and YB must have as many numbers, got {[len(c) for c in columns]}.")
    points = np.stack(columns, axis=1)
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        raise DataError(f"{where} has no common keypoint.")
    return points[:, :2], points[:, 2:], ()


def _hflipped(info: PairInfo) -> PairInfo:
    fields = vars(info) | {"source_variant": "hflip", "target_variant": "hflip"}
    for side in ("source", "target"):
        size: Size = fields[f"{side}_size"]
        box: Box | None = fields[f"{side}_box"]
        fields[f"{side}_keypoints"] = np.array([size[1], 0]) + fields[f"{side}_keypoints"] * np.array([-1, 1])
        fields[f"{side}_box"] = box and (size[1] - box[2], box[1], size[1] - box[0], box[3])
    return PairInfo(**fields)
