"""A file format for predictions, from which any protocol and averaging can be computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .._files import DataError, new_file
from .._json import read_lines, to_json
from ..data.files import read_box, read_field, read_list, read_points, read_size
from ..data.records import FloatArray, PairInfo
from ..sizes import ImageSize, check_resize, checked_size
from .pck import PCK, Groups, PCKResult
from .protocol import PCKProtocol

_FORMAT = "simplematch-predictions-1"


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for a pair.

    Attributes:
        info: the pair's record, swapped if `reverse`.
        predicted: (N, 2) float64, in original pixels of the target image.
        score: (N,) similarity at the peak.
        reverse: True if target keypoints were matched in the source image.
    """

    info: PairInfo
    predicted: FloatArray
    score: FloatArray
    reverse: bool = False


@dataclass(frozen=True, eq=False)
class Predictions:
    """All predictions of an evaluation, with the model's input size, window, and way to resize images."""

    items: list[Prediction]
    image_size: ImageSize
    window: object = None
    dataset: str = ""
    resize: str | None = None

    def of(self, protocol: PCKProtocol) -> list[Prediction]:
        """Return the predictions in the protocol's direction.

        Raises:
            ValueError: there is none.
        """
        items = [item for item in self.items if item.reverse == protocol.reverse]
        if not items:
            direction = "target to source" if protocol.reverse else "source to target"
            raise ValueError(f"predictions must have pairs from {direction} for this protocol, got none")
        return items

    def save(self, path: Path | str) -> None:
        """Write a JSON lines file atomically: a header, then one object per pair.

        Numbers are written exactly; "NaN", "Infinity" and "-Infinity" are strings.

        Raises:
            WriteError: the file can't be written.
        """
        with new_file(path) as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """Write the contents of `save` to an open file."""
        header = {"format": _FORMAT, "image_size": self.image_size, "window": self.window, "dataset": self.dataset}
        header |= {"resize": self.resize, "pairs": len(self.items)}
        for record in (header, *map(_to_json, self.items)):
            file.write(to_json(record).encode() + b"\n")

    @classmethod
    def load(cls, path: Path | str) -> Predictions:
        """Read a file that `save` wrote.

        Raises:
            DataError: the file is missing, has another format, or lacks a field.
        """
        path = Path(path)
        records = read_lines(path)
        header = next(records, None)
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise DataError(f"{path} must begin with the header of a predictions file ({_FORMAT}).")
        image_size, resize = _read_size(header, path)
        items = [_from_json(record, f"{path}, line {line}") for line, record in enumerate(records, start=2)]
        if len(items) != header.get("pairs", len(items)):
            raise DataError(f"{path} must have the {header['pairs']} pairs of its header, got {len(items)}.")
        return cls(items, image_size, header.get("window"), str(header.get("dataset", "")), resize)


def score_predictions(predictions: Predictions | Path | str, protocol: PCKProtocol) -> PCKResult:
    """Compute PCK of predictions, or of a predictions file, under any protocol.

    Raises:
        ValueError: no prediction has the protocol's direction.
    """
    if not isinstance(predictions, Predictions):
        predictions = Predictions.load(predictions)
    items = predictions.of(protocol)
    groups = groups_of(item.info for item in items)
    metric = PCK(protocol, predictions.image_size, groups, predictions.window, predictions.resize)
    metric.update([item.predicted for item in items], [item.info for item in items])
    result: PCKResult = metric.compute()
    return result


def _read_size(header: dict[str, Any], path: Path) -> tuple[ImageSize, str | None]:
    try:
        size, resize = checked_size(read_field(header, "image_size", path)), header.get("resize")
        if resize is not None:
            check_resize(resize)
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error
    return size, resize


def pck_curve(
    predictions: Predictions | Path | str, protocol: PCKProtocol, alphas: Sequence[float]
) -> list[tuple[float, float]]:
    """Compute pairs (alpha, PCK) with the protocol's averaging (Figure 4 of the paper)."""
    result = score_predictions(predictions, replace(protocol, alphas=tuple(alphas)))
    return list(zip(alphas, result.headline, strict=True))


def groups_of(infos: Iterable[PairInfo]) -> Groups:
    """Collect the categories and the values of variation fields of pairs, the `groups` of `PCK`."""
    groups: dict[str, set[str]] = {"category": set()}
    for info in infos:
        groups["category"].add(info.category)
        for field, value in info.variations.items():
            groups.setdefault(field, set()).add(value)
    return {field: sorted(values) for field, values in groups.items()}


_POINTS = ("source_keypoints", "target_keypoints")
_SIZES = ("source_size", "target_size")
_BOXES = ("source_box", "target_box")
_TEXTS = ("pair_id", "category", "source_path", "target_path", "source_variant", "target_variant")
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _to_json(item: Prediction) -> dict[str, Any]:
    info = item.info
    record: dict[str, Any] = {name: str(getattr(info, name)) for name in _TEXTS}
    record |= {name: getattr(info, name) for name in (*_SIZES, *_BOXES)}
    record |= {name: getattr(info, name).tolist() for name in _POINTS}
    record |= {"keypoint_ids": info.keypoint_ids, "variations": dict(info.variations), "reverse": item.reverse}
    found = {"predicted": item.predicted.tolist(), "score": item.score.tolist()}
    return record | {name: _encode_numbers(values) for name, values in found.items()}


def _encode_numbers(values: Any) -> Any:
    """Replace NaN and infinities in a nested list by their names."""
    if isinstance(values, list):
        return [_encode_numbers(value) for value in values]
    if math.isfinite(values):
        return values
    return "NaN" if math.isnan(values) else "Infinity" if values > 0 else "-Infinity"


def _from_json(record: Any, where: str) -> Prediction:
    fields: dict[str, Any] = {name: read_field(record, name, where) for name in _TEXTS}
    for name, text in fields.items():
        if not isinstance(text, str):
            raise DataError(f"{where}: field '{name}' must be text, got {text!r}.")
    fields |= {name: Path(fields[name]) for name in ("source_path", "target_path")}
    for name in _SIZES:
        height, width = (*read_list(record, name, where), None, None)[:2]
        fields[name] = read_size(width, height, name, where)
    for name in _BOXES:
        box = read_field(record, name, where)
        fields[name] = None if box is None else read_box(box, name, where)
    fields |= {name: read_points(read_field(record, name, where), name, where) for name in _POINTS}
    fields["keypoint_ids"] = tuple(map(str, read_list(record, "keypoint_ids", where)))
    variations = read_field(record, "variations", where)
    if not isinstance(variations, dict):
        raise DataError(f"{where}: field 'variations' must be an object, got {variations!r}.")
    fields["variations"] = {name: str(value) for name, value in variations.items()}
    count = len(fields["source_keypoints"])
    predicted, score = _numbers(record, "predicted", where, (count, 2)), _numbers(record, "score", where, (count,))
    return Prediction(PairInfo(**fields), predicted, score, read_field(record, "reverse", where) is True)


def _numbers(record: Any, name: str, where: str, shape: tuple[int, ...]) -> FloatArray:
    """Read a field of numbers, in which NaN and infinities are names."""
    given = _decode_numbers(read_list(record, name, where))
    try:
        values = np.array(given)
    except ValueError:  # ragged lists
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "iuf" or values.shape != shape:
        raise DataError(f"{where}: field '{name}' must be a list of numbers of shape {shape}.")
    return values.astype(np.float64)


def _decode_numbers(values: Any) -> Any:
    if isinstance(values, list):
        return [_decode_numbers(value) for value in values]
    return _NON_FINITE.get(values, values) if isinstance(values, str) else values
