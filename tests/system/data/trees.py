"""Makes tiny data sets of every layout."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

WIDTH, HEIGHT = 40, 30


def write_image(path: Path, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write a smooth random image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def edit_json(path: Path, **changes: Any) -> None:
    """Change fields; None removes a field."""
    content = json.loads(path.read_text()) | changes
    write_json(path, {name: value for name, value in content.items() if value is not None})


def make_spair(
    root: Path, pairs: Sequence[tuple[str, str]] = (("a-1", "b-2"), ("b-2", "c"), ("c", "a-1"))
) -> list[Path]:
    """Make pairs of one category "cat face", equal in all splits; return the pair files of "test"."""
    category = "cat face"
    names = sorted({name for pair in pairs for name in pair})
    draw = np.random.default_rng(1)
    points = {name: np.round(draw.uniform(2, 28, (6, 2)), 2) for name in names}
    for i, name in enumerate(names):
        write_image(root / f"JPEGImages/{category}/{name}.jpg", i)
        keypoints: dict[str, Any] = {str(k): p.tolist() for k, p in enumerate(points[name])} | {"6": None}
        record = {"filename": f"{name}.jpg", "image_width": WIDTH, "image_height": HEIGHT, "kps": keypoints}
        write_json(root / f"ImageAnnotation/{category}/{name}.json", record)
    files = []
    for split in ("trn", "val", "test"):
        lines = [f"{i:06d}-{a}-{b}:{category}" for i, (a, b) in enumerate(pairs)]
        (root / "Layout/large").mkdir(parents=True, exist_ok=True)
        (root / f"Layout/large/{split}.txt").write_text("\n".join(lines) + "\n")
        for i, (line, (a, b)) in enumerate(zip(lines, pairs, strict=True)):
            record = {
                "src_imname": f"{a}.jpg",
                "trg_imname": f"{b}.jpg",
                "src_imsize": [WIDTH, HEIGHT, 3],
                "trg_imsize": [WIDTH, HEIGHT, 3],
                "src_bndbox": [1, 2, 30, 29],
                "trg_bndbox": [2, 3, 22, 28],
                "category": category,
                "src_kps": points[a][: 3 + i % 3].tolist(),
                "trg_kps": points[b][: 3 + i % 3].tolist(),
                "kps_ids": [str(k) for k in range(3 + i % 3)],
                "viewpoint_variation": i % 2,
                "scale_variation": 0,
            }
            files.append(write_json(root / f"PairAnnotation/{split}/{line}.json", record))
    return files[-len(pairs) :]


PASCAL_POINTS = {
    "2008_000001": [[1.5, 2.5], [float("nan")] * 2, [10, 11], [20, 21]],
    "2009_000002": [[3, 4], [5, 6], [float("nan")] * 2, [30, 25]],
}


def make_pf_pascal(root: Path, folder: str = "", *, listed: bool = False, flip: int = 0) -> None:
    """Make one pair of class 2 per split, with points in .mat files, or in the csv if `listed`."""
    base = root / folder
    for i, (name, points) in enumerate(PASCAL_POINTS.items()):
        write_image(base / f"JPEGImages/{name}.jpg", i)
        if not listed:
            path = base / f"Annotations/bicycle/{name}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            savemat(path, {"kps": np.array(points, dtype=float), "bbox": np.array([[1.0, 2, 35, 28]])})
    source, target = (f"PF-dataset-PASCAL/JPEGImages/{name}.jpg" for name in PASCAL_POINTS)
    for split in ("train" if listed else "trn", "val", "test"):
        row: dict[str, Any] = {"source_image": source, "target_image": target, "class": 2}
        row |= {"XA": "1;2.5;3", "YA": "4;5;6", "XB": "7;8;9", "YB": "10;11;12"} if listed else {"flip": flip}
        _write_csv(root / f"{split}_pairs.csv", [list(row), list(row.values())])


def make_pf_willow(root: Path, *, with_csv: bool, images: int = 3) -> None:
    """Make two classes of three or more images, with all ordered pairs."""
    header = ["imageA", "imageB", *(f"{axis}{i}" for axis in ("XA", "YA", "XB", "YB") for i in range(1, 11))]
    rows: list[list[Any]] = [header]
    draw = np.random.default_rng(2)
    for kind in ("car(G)", "duck(S)"):
        points = {}
        for i in range(images):
            name = f"PF-dataset/{kind}/Image_{i:03d}"
            write_image(root / f"{name}.png", i)
            points[name] = np.round(draw.uniform(1, 29, (2, 10)), 6)
            savemat(root / f"{name}.mat", {"pts_coord": points[name]})
        rows += [
            [f"{a}.png", f"{b}.png", *points[a].ravel(), *points[b].ravel()] for a in points for b in points if a != b
        ]
    if with_csv:
        _write_csv(root / "test_pairs.csv", rows)


def make_ap10k(root: Path, images_per_species: int = 60) -> None:
    """Make the raw layout with two families and three species; some images are unusable."""
    species = [("Felidae", "cat"), ("Felidae", "lion"), ("Canidae", "arctic fox")]
    categories = [{"id": i, "name": n, "supercategory": f} for i, (f, n) in enumerate(species, 1)]
    parts: dict[str, dict[str, list[Any]]] = {p: {"images": [], "annotations": []} for p in ("train", "val", "test")}
    draw = np.random.default_rng(3)
    number = 0
    for i in range(images_per_species):
        for category in categories:
            number += 1
            part = parts[("train", "val", "test")[number % 3]]
            name = f"{number:012d}.jpg"
            write_image(root / f"data/{name}", number, 20, 16)
            part["images"].append({"id": number, "file_name": name, "width": 20, "height": 16})
            visible = draw.random(17) < 0.7
            if i == 0:
                visible[:] = np.arange(17) < 2  # too few
            keypoints = np.stack((draw.integers(0, 20, 17), draw.integers(0, 16, 17), 2 * visible), axis=1)
            keypoints[~visible] = 0
            annotation = {"id": number, "image_id": number, "category_id": category["id"], "bbox": [1, 2, 10, 8]}
            annotation |= {"keypoints": keypoints.ravel().tolist(), "iscrowd": int(i == 1)}
            part["annotations"] += [annotation] * (2 if i == 2 else 1)
    for name, part in parts.items():
        write_json(root / f"annotations/ap10k-{name}-split1.json", part | {"categories": categories})


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
