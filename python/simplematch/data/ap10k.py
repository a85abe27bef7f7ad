"""AP-10K as pairs, in the layout that `prepare_ap10k` and published scripts write."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache as remember
from pathlib import Path
from typing import Any

import numpy as np

from .._files import DataError
from .._json import read_object as read_json
from .dataset import PairDataset, read_records
from .files import inside, read_box, read_field, read_points, read_size
from .records import FloatArray, ImageInfo, PairInfo, Size
from .table import PairTable, cached_table

FOLDERS = ("", "ap-10k", "AP-10K", "ap10k")
KEYPOINTS = 17
_KINDS = {"": "intra-species", "_cross_species": "cross-species", "_cross_family": "cross-family"}
_ORIGIN = "prepare_ap10k writes it from the raw AP-10K of https://github.com/AlexTheBad/AP-10K"


class AP10K(PairDataset):
    """`{ImageAnnotation,JPEGImages}/<family>/<species>/` and `PairAnnotation/<split>/*.json`.

    Only the part of an annotation's path from `ImageAnnotation` on is used.
    """

    name = "ap10k"

    def __init__(self, root: Path, split: str, *, skip_broken: bool = False, cache: bool = True) -> None:
        """Read the records of a split.

        Args:
            root: the folder that contains `PairAnnotation`, or its parent.
            split: "trn", "val", "test", or the latter two followed by "_cross_species" or "_cross_family".
            skip_broken: skip pairs with a broken annotation and log how many.
            cache: cache the records in the user's cache folder.
        """
        root = next((root / name for name in FOLDERS if (root / name / "PairAnnotation").is_dir()), root)
        folder = root / "PairAnnotation" / split
        if not folder.is_dir():
            raise DataError(f"{folder} is missing; {_ORIGIN}.")

        def build() -> PairTable:
            reader = _Reader(root, split)
            files = sorted(folder.glob("*.json"))
            return PairTable.of(read_records(files, reader.read, skip_broken=skip_broken, what=str(folder)), root)

        key = f"ap10k {split} {skip_broken}"
        annotations = [folder, root / "ImageAnnotation"]
        super().__init__(root, split, cached_table(root, key, annotations, build) if cache else build())

    def target_keypoints(self, info: PairInfo) -> Mapping[str, FloatArray]:
        """Return all visible keypoints (x, y) of a pair's target image by name, from its `ImageAnnotation`."""
        file = self._annotation_of(info.target_path)
        points = keypoints_of(read_json(file), file)
        return {str(i): points[i, :2] for i in np.flatnonzero(points[:, 2] > 0)}

    def keypoint_names(self, category: str) -> set[str]:
        """Return the names "0" to "16"; all categories have the same keypoints."""
        return {str(i) for i in range(KEYPOINTS)}

    def _annotation_of(self, image: Path) -> Path:
        return self.root / "ImageAnnotation" / image.relative_to(self.root / "JPEGImages").with_suffix(".json")

    def images(self) -> list[ImageInfo]:
        """List every image once, with all its visible keypoints."""
        paths = {path for i in range(len(self)) for path in (self.info(i).source_path, self.info(i).target_path)}
        images = []
        for path in sorted(paths):
            file = self._annotation_of(path)
            record = read_json(file)
            points = keypoints_of(record, file)
            images.append(ImageInfo(path, path.parent.name, _size(record, file), points[points[:, 2] > 0, :2]))
        return images


class _Reader:
    def __init__(self, root: Path, split: str) -> None:
        self.root = root
        self.kind = _KINDS["_" + split.partition("_")[2] if "_" in split else ""]
        self.annotation = remember(read_json)
        self.image = remember(self._image)

    def read(self, path: Path) -> PairInfo:
        record = read_json(path)
        source, target = (self._reroot(str(read_field(record, f"{s}_json_path", path)), path) for s in ("src", "trg"))
        a, b = self.annotation(source), self.annotation(target)
        points_a, points_b = keypoints_of(a, source), keypoints_of(b, target)
        common = np.flatnonzero((points_a[:, 2] > 0) & (points_b[:, 2] > 0))
        if not len(common):
            raise DataError(f"{path}: {source.name} and {target.name} have no common keypoint in their 'keypoints'.")
        category = path.stem.rpartition(":")[2] if ":" in path.stem else target.parent.name
        return PairInfo(
            pair_id=path.stem,
            category=category,
            source_path=self.image(source),
            target_path=self.image(target),
            source_size=_size(a, source),
            target_size=_size(b, target),
            source_box=read_box(read_field(a, "bbox", source), "bbox", source, corners=False),
            target_box=read_box(read_field(b, "bbox", target), "bbox", target, corners=False),
            source_keypoints=points_a[common, :2],
            target_keypoints=points_b[common, :2],
            keypoint_ids=tuple(str(i) for i in common),
            variations={"pairs": self.kind},
        )

    def _reroot(self, name: str, path: Path) -> Path:
        parts = Path(name.replace("\\", "/")).parts
        if "ImageAnnotation" not in parts:
            raise DataError(f"{path}: every path must contain the folder ImageAnnotation, got '{name}'.")
        return self.root / inside(str(Path(*parts[parts.index("ImageAnnotation") :])), f"{path}: every path")

    def _image(self, annotation: Path) -> Path:
        stem = self.root / "JPEGImages" / annotation.relative_to(self.root / "ImageAnnotation")
        candidates = [stem.with_suffix(suffix) for suffix in (".jpg", ".jpeg", ".png")]
        return next((path for path in candidates if path.is_file()), candidates[0])


def _size(record: dict[str, Any], path: Path) -> Size:
    return read_size(read_field(record, "width", path), read_field(record, "height", path), "width", path)


def keypoints_of(record: dict[str, Any], path: Path) -> FloatArray:
    """Return (KEYPOINTS, 3): x, y and visibility, which is positive for annotated points."""
    values = read_field(record, "keypoints", path)
    if not isinstance(values, list) or len(values) % 3:
        raise DataError(f"{path}: field 'keypoints' must be a flat list of x, y, visibility.")
    return read_points([values[i : i + 3] for i in range(0, len(values), 3)], "keypoints", path, columns=3)
