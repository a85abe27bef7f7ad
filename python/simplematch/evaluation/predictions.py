"""Predictions in one file, from which every protocol and averaging can be computed again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._files import DataError
from ..data.files import read_field
from ..data.records import FloatArray, PairInfo
from .pck import PCK, Groups, PCKResult
from .protocol import Protocol

_FORMAT = "simplematch-predictions-1"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was found for a pair.

    Attributes:
        info: the pair; exchanged if `reverse`.
        predicted: (N, 2) float64, in original pixels of the target image.
        score: (N,) similarity at the peak.
        reverse: target keypoints were looked for in the source image.
    """

    info: PairInfo
    predicted: FloatArray
    score: FloatArray
    reverse: bool = False


@dataclass(frozen=True, eq=False)
class Predictions:
    """All predictions of an evaluation, with the input size S and window of the model that made them."""

    items: list[Prediction]
    image_size: int
    window: object = None
    dataset: str = ""

    def save(self, path: Path | str) -> None:
        """Write JSON lines: a header, then one object a pair. Numbers are written exactly."""
        header = {"format": _FORMAT, "image_size": self.image_size, "window": self.window, "dataset": self.dataset}
        with Path(path).open("w", encoding="utf-8") as file:
            file.write(json.dumps(header) + "\n")
            for item in self.items:
                file.write(json.dumps(_to_json(item)) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Predictions:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, is something else, or lacks a field.
        """
        path = Path(path)
        try:
            header, *records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing.") from error
        except ValueError as error:
            raise DataError(f"{path} can't be read as JSON lines: {error}.") from error
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise DataError(f"{path} doesn't begin with the header of a file of predictions ({_FORMAT}).")
        items = [_from_json(record, path) for record in records]
        return cls(items, read_field(header, "image_size", path), header.get("window"), header.get("dataset", ""))


def score_predictions(predictions: Predictions | Path | str, protocol: Protocol) -> PCKResult:
    """PCK of predictions, or of a file of them, under any protocol.

    Raises:
        ValueError: there are none in the protocol's direction.
    """
    if not isinstance(predictions, Predictions):
        predictions = Predictions.load(predictions)
    items = [item for item in predictions.items if item.reverse == protocol.reverse]
    if not items:
        direction = "target to source" if protocol.reverse else "source to target"
        raise ValueError(f"predictions holds none from {direction}, which the protocol needs.")
    metric = PCK(protocol, predictions.image_size, groups_of(item.info for item in items), predictions.window)
    metric.update([item.predicted for item in items], [item.info for item in items])
    result: PCKResult = metric.compute()
    return result


def pck_curve(
    predictions: Predictions | Path | str, protocol: Protocol, alphas: Sequence[float]
) -> list[tuple[float, float]]:
    """(alpha, PCK) by the protocol's averaging (paper, Figure 4)."""
    result = score_predictions(predictions, replace(protocol, alphas=tuple(alphas)))
    return list(zip(alphas, result.headline, strict=True))


def groups_of(infos: Iterable[PairInfo]) -> Groups:
    """The categories and values of variation fields that pairs have, as `PCK` needs them."""
    groups: dict[str, set[str]] = {"category": set()}
    for info in infos:
        groups["category"].add(info.category)
        for field, value in info.variations.items():
            groups.setdefault(field, set()).add(value)
    return {field: sorted(values) for field, values in groups.items()}


_POINTS = ("source_keypoints", "target_keypoints")
_SIZES = ("source_size", "target_size", "source_box", "target_box")
_TEXTS = ("pair_id", "category", "source_path", "target_path", "source_variant", "target_variant")


def _to_json(item: Prediction) -> dict[str, Any]:
    info = item.info
    record: dict[str, Any] = {name: str(getattr(info, name)) for name in _TEXTS}
    record |= {name: getattr(info, name) for name in _SIZES}
    record |= {name: getattr(info, name).tolist() for name in _POINTS}
    record |= {"keypoint_ids": info.keypoint_ids, "variations": dict(info.variations), "reverse": item.reverse}
    return record | {"predicted": item.predicted.tolist(), "score": item.score.tolist()}


def _from_json(record: dict[str, Any], path: Path) -> Prediction:
    fields: dict[str, Any] = {name: read_field(record, name, path) for name in _TEXTS}
    fields |= {name: Path(fields[name]) for name in ("source_path", "target_path")}
    fields |= {name: value and tuple(value) for name in _SIZES for value in [read_field(record, name, path)]}
    fields |= {name: np.array(read_field(record, name, path), dtype=np.float64).reshape(-1, 2) for name in _POINTS}
    fields["keypoint_ids"] = tuple(read_field(record, "keypoint_ids", path))
    fields["variations"] = read_field(record, "variations", path)
    return Prediction(
        PairInfo(**fields),
        np.array(read_field(record, "predicted", path), dtype=np.float64).reshape(-1, 2),
        np.array(read_field(record, "score", path), dtype=np.float64),
        bool(read_field(record, "reverse", path)),
    )
