"""Files to download: matches as JSON and CSV, and both pictures' points as COCO keypoints."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._json import to_json
from . import bodies

COLUMNS = (
    "x_a", "y_a", "x_b", "y_b", "confidence", "cycle_distance", "variance_x", "covariance_xy", "variance_y", "mutual",
    "corrected",
)  # fmt: skip
_NUMBERS = COLUMNS[:9]
_VISIBLE = 2  # COCO: labelled and visible


@dataclass(frozen=True)
class Shown:
    """What the page shows.

    Attributes:
        files: the names of both pictures.
        sizes: their (width, height).
        model: the name of the model.
        rows: a value for each of COLUMNS; a match that the user moved has None for what the model said of it.
    """

    files: tuple[str, str]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    model: str
    rows: list[dict[str, Any]]


def shown(fields: Mapping[str, Any]) -> Shown:
    """Check what the page sends of the matches that it shows.

    Raises:
        ValueError: a field is missing, of another type, or out of range.
    """
    images = bodies.objects(fields, "images")
    if len(images) != 2:
        raise ValueError(f"images must be two, got {len(images)}")
    first, second = ((bodies.side(image, "width"), bodies.side(image, "height")) for image in images)
    names = (bodies.text(images[0], "file_name"), bodies.text(images[1], "file_name"))
    rows = [_row(row) for row in bodies.objects(fields, "matches")]
    return Shown(names, (first, second), bodies.text(fields, "model"), rows)


def write_json(found: Shown) -> str:
    """Write the format of `simplematch match`, with the names of the files and what the user corrected."""
    images = {
        f"image_{side}": {"file_name": name, "height": height, "width": width}
        for side, name, (width, height) in zip("ab", found.files, found.sizes, strict=True)
    }
    return to_json({"model": found.model, **images, "matches": found.rows}, indent=1)


def write_csv(found: Shown) -> str:
    """Write a line for each match; truth values are 0 and 1, and unknown values are empty."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found.rows:
        writer.writerow(int(value) if isinstance(value, bool) else value for value in row.values())
    return output.getvalue()


def write_coco(found: Shown) -> str:
    """Write COCO keypoints: an image and an annotation for each picture; keypoint k of one matches k of the other."""
    names = [f"point {i}" for i in range(1, len(found.rows) + 1)]
    category = {"id": 1, "name": "object", "supercategory": "object", "keypoints": names, "skeleton": []}
    images, annotations = [], []
    for i, (name, (width, height)) in enumerate(zip(found.files, found.sizes, strict=True), start=1):
        side = "ab"[i - 1]
        images.append({"id": i, "file_name": name, "width": width, "height": height})
        annotations.append(_annotation(i, [(row[f"x_{side}"], row[f"y_{side}"]) for row in found.rows]))
    info = {"description": f"keypoints matched by simplematch app with {found.model}"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": [category]}
    return to_json(content, indent=1)


KINDS = {
    "json": (write_json, "application/json", "matches.json"),
    "csv": (write_csv, "text/csv", "matches.csv"),
    "coco": (write_coco, "application/json", "keypoints-coco.json"),
}


def _row(fields: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in _NUMBERS:
        optional = name not in COLUMNS[:4] and fields.get(name) is None
        row[name] = None if optional else round(bodies.number(fields, name), 4)
    for name in ("mutual", "corrected"):
        value = fields.get(name)
        if not isinstance(value, bool) and not (name == "mutual" and value is None):
            raise ValueError(f"{name} must be true or false")
        row[name] = value
    return row


def _annotation(image: int, points: list[tuple[float, float]]) -> dict[str, Any]:
    left, top = (min(point[axis] for point in points) for axis in (0, 1))
    width, height = (max(point[axis] for point in points) - low for axis, low in ((0, left), (1, top)))
    return {
        "id": image,
        "image_id": image,
        "category_id": 1,
        "keypoints": [value for x, y in points for value in (x, y, _VISIBLE)],
        "num_keypoints": len(points),
        "bbox": [left, top, round(width, 4), round(height, 4)],
        "area": round(width * height, 4),
        "iscrowd": 0,
    }
