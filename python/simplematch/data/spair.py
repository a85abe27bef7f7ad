"""SPair-71k, and any other data in its layout."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache as remember
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from .._files import DataError
from .._json import read_object as read_json
from .dataset import PairDataset, named_targets, read_records
from .files import inside, read_box, read_field, read_list, read_points, read_size, read_text
from .records import Box, FloatArray, ImageInfo, PairInfo, Size
from .table import PairTable, cached_table

_log = logging.getLogger(__name__)
_ORIGIN = "it comes with SPair-71k.tar.gz from https://cvlab.postech.ac.kr/research/SPair-71k"
SPLITS = ("trn", "val", "test")
ANNOTATIONS = ("image", "pair")
_TOLERANCE = 1.0  # pixels: annotations round
_VARIATIONS = ("viewpoint_variation", "scale_variation", "truncation", "occlusion")


class SPair(PairDataset):
    """`Layout/<layout>/<split>.txt`, `PairAnnotation`, `ImageAnnotation` and `JPEGImages` under one root.

    Categories come from the data. Annotations are read once and then cached.
    """

    name = "spair"
    max_keypoints = 30

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        layout: str = "large",
        annotations: str = "image",
        skip_broken: bool = False,
        cache: bool = True,
    ) -> None:
        """Read the records of a split.

        Args:
            root: the folder that holds `Layout`.
            split: "trn", "val", "test", or "all": the three splits, and every annotated image.
            layout: "large" or "small", the folder under `Layout`.
            annotations: which annotation to use where `PairAnnotation` and `ImageAnnotation` differ: "image" takes
                size, box and keypoints from `ImageAnnotation`; "pair" takes box and keypoints from `PairAnnotation`.
                They agree in SPair-71k itself, but not in every data set of its layout.
            skip_broken: skip pairs with a broken annotation and log how many.
            cache: cache the records in the user's cache folder.
        """
        if annotations not in ANNOTATIONS:
            raise ValueError(f"annotations must be one of {', '.join(ANNOTATIONS)}, got '{annotations}'")
        splits = SPLITS if split == "all" else (split,)
        lists = [root / "Layout" / layout / f"{name}.txt" for name in splits]
        lines = [(name, line) for name, path in zip(splits, lists, strict=True) for line in _lines(path)]
        folders = [root / "ImageAnnotation", *(root / "PairAnnotation" / name for name in splits)]

        def build() -> PairTable:
            what = f"{root}, split '{split}'"
            reader = _Reader(root, annotations)
            records = read_records(lines, reader.read, skip_broken=skip_broken, what=what)
            for number, have in ((reader.other_sizes, "another size"), (reader.other_keypoints, "other keypoints")):
                if number:
                    _log.warning(
                        "%s: %d images have %s in PairAnnotation than in ImageAnnotation, which is used",
                        what,
                        number,
                        have,
                    )
            return PairTable.of(records, root)

        key = f"spair {layout} {split} {annotations} {skip_broken}"
        super().__init__(root, split, cached_table(root, key, [*lists, *folders], build) if cache else build())

    def images(self) -> list[ImageInfo]:
        """List every image once, with all keypoints of its `ImageAnnotation`; split "all" has every annotated image."""
        folder = self.root / "ImageAnnotation"
        if self.split == "all":
            return [self._read_image(file) for file in sorted(folder.glob("*/*.json"))]
        paths = {path for info in map(self.info, range(len(self))) for path in (info.source_path, info.target_path)}
        return [self._read_image(folder / path.parent.name / f"{path.stem}.json") for path in sorted(paths)]

    def target_keypoints(self, info: PairInfo) -> Mapping[str, FloatArray]:
        """Return all keypoints (x, y) of a pair's target image by name, from its `ImageAnnotation` and the pair."""
        path = info.target_path
        if path not in self._own_keypoints:
            own = _read_annotation(self.root, path)
            self._own_keypoints[path] = {} if own is None else own.points()
        return self._own_keypoints[path] | named_targets(info)

    def keypoint_names(self, category: str) -> set[str]:
        """Return the names in the `ImageAnnotation` files of a category, with those of missing keypoints."""
        images = sorted((self.root / "ImageAnnotation" / category).glob("*.json"))
        annotations = [_read_annotation(self.root, image) for image in images]
        names = {name for own in annotations if own is not None for name in own.keypoints}
        return names or super().keypoint_names(category)

    @cached_property
    def _own_keypoints(self) -> dict[Path, dict[str, FloatArray]]:
        return {}

    def _read_image(self, file: Path) -> ImageInfo:
        category = file.parent.name
        record = read_json(file)
        path = self.root / "JPEGImages" / category / _image_name(record, "filename", file)
        keypoints = read_field(record, "kps", file)
        if not isinstance(keypoints, dict):
            raise DataError(f"{file}: field 'kps' must be an object, got {type(keypoints).__name__}.")
        points = [point for point in keypoints.values() if point is not None]
        size = read_size(read_field(record, "image_width", file), record.get("image_height"), "image_width", file)
        return ImageInfo(path, category, size, read_points(points, "kps", file) if points else np.zeros((0, 2)))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path, _ORIGIN).splitlines() if line.strip()]


@dataclass(frozen=True)
class _ImageAnnotation:
    file: Path
    size: Size
    box: Box | None
    keypoints: dict[str, Any]

    def points(self) -> dict[str, FloatArray]:
        names = [name for name, point in self.keypoints.items() if point is not None]
        if not names:
            return {}
        points = read_points([self.keypoints[name] for name in names], "kps", self.file)
        return dict(zip(names, points, strict=True))


class _Reader:
    """Reads the lines of the lists as records."""

    def __init__(self, root: Path, annotations: str) -> None:
        self.root = root
        self.annotations = annotations
        self.annotation = remember(partial(_read_annotation, root))
        self.other_sizes = self.other_keypoints = 0

    def read(self, item: tuple[str, str]) -> PairInfo:
        """Read the record of a line such as 000009-2008_001546-2009_000327:aeroplane; image names may contain '-'."""
        split, line = item
        where = f"{self.root / 'Layout'}: a line of the list of {split} pairs"
        path = self.root / "PairAnnotation" / split / inside(f"{line}.json", where)
        record = read_json(path)
        category = str(inside(record.get("category") or line.rpartition(":")[2], f"{path}: field 'category'"))
        source = read_points(read_field(record, "src_kps", path), "src_kps", path)
        target = read_points(read_field(record, "trg_kps", path), "trg_kps", path)
        if len(source) != len(target):
            raise DataError(
                f"{path}: 'src_kps' and 'trg_kps' must have as many points, got {len(source)} and {len(target)}."
            )
        ids = tuple(str(name) for name in read_list(record, "kps_ids", path)) if record.get("kps_ids") else ()
        ids = ids if len(ids) == len(source) else tuple(str(i) for i in range(len(source)))
        images = [
            self.root / "JPEGImages" / category / _image_name(record, f"{side}_imname", path) for side in ("src", "trg")
        ]
        boxes = [
            read_box(read_field(record, f"{side}_bndbox", path), f"{side}_bndbox", path) for side in ("src", "trg")
        ]
        source, source_box = self._own(images[0], ids, source, boxes[0])
        target, target_box = self._own(images[1], ids, target, boxes[1])
        return PairInfo(
            pair_id=line,
            category=category,
            source_path=images[0],
            target_path=images[1],
            source_size=self._size(record, "src_imsize", images[0], path),
            target_size=self._size(record, "trg_imsize", images[1], path),
            source_box=source_box,
            target_box=target_box,
            source_keypoints=source,
            target_keypoints=target,
            keypoint_ids=ids,
            variations={name: str(record[name]) for name in _VARIATIONS if name in record},
        )

    def _size(self, record: dict[str, Any], name: str, image: Path, path: Path) -> Size:
        """Return the size in the image's own annotation, if any: some pair annotations swap the two sizes."""
        size = _size(read_field(record, name, path), name, path)
        own = self.annotation(image)
        known = size if own is None else own.size
        self.other_sizes += known != size
        return known

    def _own(self, image: Path, ids: tuple[str, ...], points: FloatArray, box: Box) -> tuple[FloatArray, Box]:
        """Return keypoints and box, from the image's own annotation if the pair's differ and `annotations` says so."""
        own = self.annotation(image)
        if self.annotations == "pair" or own is None or any(own.keypoints.get(name) is None for name in ids):
            return points, box
        known = read_points([own.keypoints[name] for name in ids], "kps", own.file)
        if np.allclose(known, points, rtol=0, atol=_TOLERANCE):
            return points, box
        self.other_keypoints += 1
        return known, own.box or box


def _read_annotation(root: Path, image: Path) -> _ImageAnnotation | None:
    file = root / "ImageAnnotation" / image.parent.name / f"{image.stem}.json"
    if not file.is_file():
        return None
    record = read_json(file)
    width, height = (read_field(record, name, file) for name in ("image_width", "image_height"))
    box = read_box(record["bndbox"], "bndbox", file) if record.get("bndbox") else None
    keypoints = record.get("kps") if isinstance(record.get("kps"), dict) else {}
    return _ImageAnnotation(file, read_size(width, height, "image_width", file), box, keypoints or {})


def _image_name(record: dict[str, Any], name: str, path: Path) -> Path:
    return inside(read_field(record, name, path), f"{path}: field '{name}'")


def _size(values: object, name: str, path: Path) -> Size:
    if not isinstance(values, list) or len(values) < 2:
        raise DataError(f"{path}: field '{name}' must be [width, height, channels], got {values!r}.")
    return read_size(values[0], values[1], name, path)
