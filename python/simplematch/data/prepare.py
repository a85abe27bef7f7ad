"""Makes pairs from the raw AP-10K (COCO json and a folder of images), the same pairs on every machine."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._files import DataError, writing
from .._json import read_object as read_json
from .._json import to_json
from .ap10k import keypoints_of
from .files import inside, read_box, read_field, read_list, read_number

_SEED = 42
_MIN_COMMON = 3
_TEST_IMAGES, _VAL_IMAGES = 30, 20
_TRAIN_PAIRS_OF_IMAGE = 50
_PAIRS_OF_FAMILY = {"val": 400, "test": 900}
_PAIRS_OF_FAMILIES = {"val": 20, "test": 30}
_ORIGIN = "it comes with AP-10K from https://github.com/AlexTheBad/AP-10K"


@dataclass(frozen=True, eq=False)
class _Animal:
    """An image with its only annotation; `visible` is (17,) bool."""

    family: str
    species: str
    image_id: int
    file: Path
    visible: npt.NDArray[np.bool_]
    record: dict[str, Any]

    @property
    def folder(self) -> Path:
        return Path(self.family, self.species)


_Pair = tuple[_Animal, _Animal, str]


def prepare_ap10k(source: Path | str, destination: Path | str, *, images: str = "link") -> dict[str, int]:
    """Write AP-10K as pairs, in the layout that `AP10K` reads.

    It uses images with exactly one annotation that is not a crowd and has 3 keypoints or more. Of each species, sorted
    by image id, the last 30 images are for testing, the 20 before them for validation, and the rest for training. Pairs
    share 3 visible keypoints or more. Training has at most 50 pairs per image; testing (validation) has all pairs
    within a species, 900 (400) pairs across the species of each family, and 30 (20) pairs across every two families.
    Pairs are sorted and drawn with seed 42.

    Args:
        source: the raw folder: `annotations/ap10k-{train,val,test}-split1.json` and `data/*.jpg`.
        destination: receives `ImageAnnotation`, `JPEGImages` and `PairAnnotation`; may be `source` itself.
        images: "link" (symbolic links to the raw images) or "copy".

    `PairAnnotation` appears only when all pairs are written; after an interruption, call it again.

    Returns:
        The number of pairs of every split, such as {"trn": ..., "test_cross_family": ...}.

    Raises:
        DataError: a file is missing, or lacks a field; or the destination already has pairs.
        WriteError: the disk is full, or the destination is not writable.
        ValueError: `images` is neither "link" nor "copy".
    """
    if images not in ("link", "copy"):
        raise ValueError(f"images must be 'link' or 'copy', got '{images}'")
    source, destination = Path(source), Path(destination)
    folder = destination / "PairAnnotation"
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} already has pairs; delete them, or choose another folder.")
    animals = _read_animals(source)
    for animal in animals:
        _write_image(animal, destination, images)
    with _whole_folder(folder) as beside:
        draw = random.Random(_SEED)
        counts = {}
        for split, members in _split(animals).items():
            for name, pairs in _pairs_of(split, members, draw):
                counts[name] = _write_pairs(beside / name, pairs)
    return counts


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Write a folder under another name and rename it at the end; an unfinished folder is removed."""
    beside = folder.with_name(f"{folder.name}.part")
    with writing(folder):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            yield beside
            os.sync()  # one call for all files, which must reach the disk before the name does
            os.replace(beside, folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def _read_animals(source: Path) -> list[_Animal]:
    """Read the usable images of all three files, sorted by family, species and image id."""
    animals: list[_Animal] = []
    for part in ("train", "val", "test"):
        path = source / "annotations" / f"ap10k-{part}-split1.json"
        if not path.is_file():
            raise DataError(f"{path} is missing; {_ORIGIN}.")
        animals += _animals_of(path, source / "data")
    return sorted(animals, key=lambda animal: (animal.family, animal.species, animal.image_id))


def _animals_of(path: Path, folder: Path) -> Iterator[_Animal]:
    content = read_json(path)
    categories = {read_number(category, "id", path): category for category in read_list(content, "categories", path)}
    images = {read_number(image, "id", path): image for image in read_list(content, "images", path)}
    annotations = read_list(content, "annotations", path)
    count = Counter(read_number(annotation, "image_id", path) for annotation in annotations)
    for annotation in annotations:
        has_keypoints = bool(read_list(annotation, "keypoints", path))
        visible = keypoints_of(annotation, path)[:, 2] > 0 if has_keypoints else np.zeros(0, dtype=bool)
        if count[annotation["image_id"]] > 1 or annotation.get("iscrowd", 0) or visible.sum() < _MIN_COMMON:
            continue
        if annotation["image_id"] not in images:
            raise DataError(f"{path} has an annotation of image {annotation['image_id']}, which is not in 'images'.")
        image = images[annotation["image_id"]]
        category = categories.get(read_number(annotation, "category_id", path))
        if category is None:
            number = annotation["category_id"]
            raise DataError(f"{path} has an annotation of category {number}, which is not in 'categories'.")
        read_box(read_field(annotation, "bbox", path), "bbox", path, corners=False)
        names = ("id", "image_id", "category_id", "bbox", "keypoints")
        record = {name: read_field(annotation, name, path) for name in names}
        record |= {name: read_field(image, name, path) for name in ("file_name", "width", "height")}
        record |= {name: read_field(category, name, path) for name in ("name", "supercategory")}
        family, species = (_folder_name(record[name], f"{path}: field '{name}'") for name in ("supercategory", "name"))
        file = folder / inside(record["file_name"], f"{path}: field 'file_name'")
        yield _Animal(family, species, record["image_id"], file, visible, record)


def _folder_name(name: Any, where: str) -> str:
    """Check the name of a folder that will be made in the destination."""
    path = inside(name, where)
    if len(path.parts) > 1:
        raise DataError(f"{where} must be a name without '/', got {name!r}.")
    return str(path)


def _split(animals: list[_Animal]) -> dict[str, list[_Animal]]:
    species = defaultdict(list)
    for animal in animals:
        species[animal.folder].append(animal)
    splits: dict[str, list[_Animal]] = {"trn": [], "val": [], "test": []}
    for members in species.values():
        rest, test = members[:-_TEST_IMAGES], members[-_TEST_IMAGES:]
        splits["trn"] += rest[:-_VAL_IMAGES]
        splits["val"] += rest[-_VAL_IMAGES:]
        splits["test"] += test
    return splits


def _pairs_of(split: str, animals: list[_Animal], draw: random.Random) -> Iterator[tuple[str, list[_Pair]]]:
    """Yield the name of each split with its pairs."""
    species, families = defaultdict(list), defaultdict(list)
    for animal in animals:
        species[animal.folder].append(animal)
        families[animal.family].append(animal)
    if split == "trn":
        yield split, [pair for members in species.values() for pair in _training_pairs(members, draw)]
        return
    yield split, [(a, b, a.species) for m in species.values() for a, b in _matching(m, m) if a.image_id < b.image_id]
    across = []
    for name, members in families.items():
        found = [(a, b, name) for a, b in _matching(members, members) if a.species < b.species]
        across += draw.sample(found, min(len(found), _PAIRS_OF_FAMILY[split]))
    yield f"{split}_cross_species", across
    across = []
    for one, other in combinations(families, 2):
        found = [(a, b, f"{one}-{other}") for a, b in _matching(families[one], families[other])]
        across += draw.sample(found, min(len(found), _PAIRS_OF_FAMILIES[split]))
    yield f"{split}_cross_family", across


def _training_pairs(members: list[_Animal], draw: random.Random) -> Iterator[_Pair]:
    for animal in members:
        partners = [other for _, other in _matching([animal], members) if other is not animal]
        for other in draw.sample(partners, min(len(partners), _TRAIN_PAIRS_OF_IMAGE)):
            yield animal, other, animal.species


def _matching(sources: list[_Animal], targets: list[_Animal]) -> Iterator[tuple[_Animal, _Animal]]:
    """Yield the pairs with enough common visible keypoints, in the order of the lists."""
    a = np.stack([animal.visible for animal in sources]).astype(np.int64)
    b = np.stack([animal.visible for animal in targets]).astype(np.int64)
    for i, j in np.argwhere(a @ b.T >= _MIN_COMMON):
        yield sources[i], targets[j]


def _write_image(animal: _Animal, destination: Path, how: str) -> None:
    if not animal.file.is_file():
        raise DataError(f"image {animal.file} is missing; {_ORIGIN}.")
    annotation = destination / "ImageAnnotation" / animal.folder / f"{animal.file.stem}.json"
    image = destination / "JPEGImages" / animal.folder / animal.file.name
    with writing(image):
        for path in (annotation, image):
            path.parent.mkdir(parents=True, exist_ok=True)
        _write(annotation, animal.record)
        _place(image, partial(_copy if how == "copy" else os.symlink, animal.file.resolve()))


def _place(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file under another name, then rename it; this replaces a link instead of its target."""
    beside = path.with_name(f".{path.name}.part")
    beside.unlink(missing_ok=True)
    try:
        make(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _copy(source: Path, destination: Path) -> None:
    shutil.copyfile(source, destination)


def _write(path: Path, content: dict[str, Any]) -> None:
    _place(path, lambda beside: beside.write_text(to_json(content)))


def _write_pairs(folder: Path, pairs: list[_Pair]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (a, b, category) in enumerate(pairs):
        names = [str(Path("ImageAnnotation", x.folder, f"{x.file.stem}.json")) for x in (a, b)]
        record = {"src_json_path": names[0], "trg_json_path": names[1]}
        path = folder / f"{number:06d}-{a.file.stem}-{b.file.stem}:{category}.json"
        path.write_text(to_json(record))  # no atomic write: the whole folder is renamed later
    return len(pairs)
