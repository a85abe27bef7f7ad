"""`simplematch match`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import correspondences
from .._files import DataError, NewFiles, check_output
from .._json import loads, to_json
from ..correspondences import Correspondences, open_image
from ..data.records import FloatArray
from ..evaluation.calibration import LEVEL
from ..models import check_model, load_model
from ..models.available import best_available
from ..viz import draw_grid, encode_figure
from .match_report import calibrated_columns, conclusions, match_panel, title
from .model_options import model_options

_log = logging.getLogger(__name__)


def match(
    image_a: Path,
    image_b: Path,
    points: str | None = None,
    grid: int | None = None,
    model: str | None = None,
    weights: Path | None = None,
    encoder: str | None = None,
    block: int | None = None,
    image_size: str | None = None,
    resize: str | None = None,
    calibration: Path | None = None,
    level: float = LEVEL,
    output: Path | None = None,
    device: str | None = None,
    format: str = "simplematch",
) -> None:
    """Find points of one image in another, and write OUTPUT.json, OUTPUT.csv and OUTPUT.png.

    Args:
        image_a: the first image.
        image_b: the second image, of the same object or category.
        points: points in pixels of image_a: "120,80 200,150", a csv file with columns x and y, or a json list.
        grid: points along the longer side of a regular grid, used without `points`; default: salient points that are
            mutual nearest neighbours.
        model: a preset, the folder of a model, or a repository owner/name of the Hugging Face hub; default: the best
            preset whose weights are on this machine.
        weights: file of the encoder weights of the preset or of encoder.
        encoder: instead of a model, any model of timm, for an untrained nearest-neighbour matcher.
        block: with encoder, the block (or the stage) whose descriptors are compared; default: three quarters of a ViT's
            depth, or strides 8 and 16 of an encoder with stages.
        image_size: size of the network's input instead of the preset's: 448, or height x width: 448x672.
        resize: squash (each axis independently) or letterbox (keep the aspect ratio); default: the model's.
        calibration: a file of simplematch calibrate; default: calibration.json in the model's folder, if there is one.
        level: share of the truths within the radius; one of the calibration's levels.
        output: path of the output files without suffix; default: the names of both images, in the current folder.
        device: default: cuda if available.
        format: contents of OUTPUT.json: simplematch, or transformers: a list with the dictionary of keypoints0,
            keypoints1 and matching_scores that its post_process_keypoint_matching returns, in whole pixels.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    chosen = None if points is None else read_points(points)
    how = model_options(encoder, block, image_size, resize)
    name, where = (model, "") if model or encoder or weights else best_available()
    if name is None and encoder is None:
        name = correspondences.DEFAULT_MODEL  # whose weights are given
    check_model(name, encoder, block)
    output = output or Path(f"{image_a.stem}-{image_b.stem}")
    files = [output.with_name(f"{output.name}.{kind}") for kind in ("json", "csv", "png")]
    _check_outputs(files, [image_a, image_b])
    pictures = [open_image(image, f"image_{side}") for image, side in ((image_a, "a"), (image_b, "b"))]
    for note in (note for picture in pictures for note in picture.notes.values()):
        _log.warning(note)
    a, b = (picture.pixels for picture in pictures)
    network = load_model(name, weights, **how) if weights or any(x is not None for x in how.values()) else name
    found = correspondences.match_pictures(
        a, b, chosen, grid=grid, model=network, calibration=calibration, level=level, device=device
    )
    heading = title(found, image_a.name, image_b.name)
    picture = encode_figure(draw_grid([[match_panel(pictures, found, heading)]]), files[2])
    with NewFiles() as new:
        for file, content in zip(
            files, (FORMATS[format](found).encode(), found.to_csv().encode(), picture), strict=True
        ):
            new.add(file).write(content)
    _print_table(found)
    print(f"model: {found.model}" + (f" ({where}; --model chooses another)" if where else ""))
    for sentence in conclusions(found, image_a.name, image_b.name):
        print(sentence)
    print("written: " + ", ".join(str(file) for file in files))


def _transformers_json(found: Correspondences) -> str:
    return to_json([{name: x.tolist() for name, x in pair.items()} for pair in found.to_transformers()])


FORMATS: dict[str, Callable[[Correspondences], str]] = {
    "simplematch": Correspondences.to_json,
    "transformers": _transformers_json,
}


def _print_table(found: Correspondences) -> None:
    columns = {
        "x_a": [f"{x:.1f}" for x in found.points[:, 0]],
        "y_a": [f"{y:.1f}" for y in found.points[:, 1]],
        "x_b": [f"{x:.1f}" for x in found.matches[:, 0]],
        "y_b": [f"{y:.1f}" for y in found.matches[:, 1]],
        "confidence": [f"{x:.3f}" for x in found.confidence],
        "cycle distance, pixels": [f"{x:.1f}" for x in found.cycle_distance],
    }
    if found.mutual is not None:
        columns["mutual"] = ["yes" if x else "no" for x in found.mutual]
    columns |= calibrated_columns(found)
    widths = [max(8, len(head), *map(len, cells)) for head, cells in columns.items()]
    for row in (columns.keys(), *zip(*columns.values(), strict=True)):
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))


def _check_outputs(files: list[Path], inputs: list[Path]) -> None:
    for file in files:
        if any(file.exists() and path.exists() and file.samefile(path) for path in inputs):
            raise ValueError(f"output must not overwrite an input image, got {file}")
        check_output(file)


def read_points(text: str) -> FloatArray:
    """Parse points (N, 2) from "x,y x,y ..." or from a file.

    Raises:
        DataError: the file doesn't hold points.
        ValueError: the text is neither a file nor points.
    """
    path = Path(text)
    if path.suffix in (".json", ".csv", ".txt"):
        return _read_file(path)
    try:
        return np.array([[float(x), float(y)] for x, y in (part.split(",") for part in text.split())])
    except ValueError as error:
        raise ValueError(f'points must be a .json or .csv file, or "x,y x,y ...", got {text!r}') from error


def _read_file(path: Path) -> FloatArray:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return np.array(loads(text), dtype=np.float64).reshape(-1, 2)
        rows = [re.split(r"[,;\s]+", line.strip()) for line in text.splitlines() if line.strip()]
        columns = _columns(rows[0]) if rows else None
        x, y = columns or (0, 1)
        return np.array([[float(row[x]), float(row[y])] for row in rows[1 if columns else 0 :]]).reshape(-1, 2)
    except FileNotFoundError as error:
        raise DataError(f"points {path} is missing.") from error
    except (ValueError, IndexError, TypeError, OSError) as error:
        raise DataError(f"points {path} must hold x and y of each point, a list or columns: {error}") from error


def _columns(first: list[str]) -> tuple[int, int] | None:
    """Find the columns named x and y (or x_a and y_a, as this command writes); None without a header."""
    for names in (("x", "y"), ("x_a", "y_a")):
        if set(names) <= set(first):
            return first.index(names[0]), first.index(names[1])
    return None
