"""A calibration: what turns a model's evidence into error bars and probabilities, stored as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..._files import DataError
from ..._json import read_object, write_json
from ...data.records import BoolArray, FloatArray
from ...models.evidence import Evidence
from ...models.identity import difference
from .conformal import deviation, in_target, scaled_covariance
from .logistic import Logistic

FILE = "calibration.json"
LEVEL = 0.9
FEATURES = (
    "similarity",
    "second_over_first",
    "log_deviation",
    "log_cycle",
    "salience",
    "pair_salience",
    "mutual_share",
    "pooled_similarity",
)
_FORMAT = "simplematch-calibration-1"
_LARGEST = 1 << 20
_HALF_CELL = 1 / 100  # of the input's side: a shorter cycle tells nothing


@dataclass(frozen=True)
class Calibration:
    """What turns a model's evidence into error bars and probabilities.

    Attributes:
        model: the `identity` of the model it belongs to.
        scale, floor: an error has the covariance scale * spread + floor^2 * I, in pixels of the model's input.
        radii: for each level, the radius in standard deviations that holds this share of the truths.
        no_match: the probability that a point has no match, a logistic regression of `FEATURES`; with even odds before.
        different_above: two photographs show different things if the mean of these probabilities over the points of
            `salient_points` is above.
        data: the data that it was fitted to, with counts.
    """

    model: Mapping[str, Any]
    scale: float
    floor: float
    radii: Mapping[float, float]
    no_match: Logistic
    different_above: float
    data: Mapping[str, Any]

    def covariance(self, evidence: Evidence, scale: FloatArray) -> FloatArray:
        """Return the covariances (N, 2, 2) of the errors in pixels of the target image.

        Args:
            evidence: of N points.
            scale: factors (x, y), or (N, 2), from pixels of the target image to pixels of the model's input.
        """
        factors = np.broadcast_to(scale, (len(evidence), 2))
        return in_target(scaled_covariance(evidence.spread, self.scale, self.floor), factors)

    def radius(self, evidence: Evidence, scale: FloatArray, level: float = LEVEL) -> FloatArray:
        """Return the radii (N,) in pixels of the target image that hold a share `level` of the truths.

        Raises:
            ValueError: the calibration has no such level.
        """
        if level not in self.radii:
            levels = ", ".join(f"{x:g}" for x in self.radii)
            raise ValueError(f"level must be one of the calibration's, {levels}, got {level:g}")
        return self.radii[level] * deviation(self.covariance(evidence, scale))

    def no_match_probability(self, evidence: Evidence, side: float) -> FloatArray:
        """Return the probabilities (N,) that the points have no match; `side` is that of the model's input."""
        return self.no_match.probability(features_of(evidence, side))

    def shows_different(self, no_match: FloatArray) -> bool:
        """Whether two photographs show different things, by the probabilities of their `salient_points`."""
        return bool(np.mean(no_match) > self.different_above)

    def check_model(self, model: nn.Module, name: str, source: str) -> None:
        """Check that this calibration belongs to a model.

        Args:
            model: the model.
            name: its name, for the message.
            source: where the calibration comes from, likewise.

        Raises:
            ValueError: it belongs to another.
        """
        differs = difference(dict(self.model), model)
        if differs is not None:
            raise ValueError(
                f"calibration {source} must belong to the model {name}, got that of {self.model.get('name')!r}, "
                f"{differs}: run simplematch calibrate for {name}"
            )

    def save(self, path: Path | str) -> None:
        """Write a JSON file atomically.

        Raises:
            WriteError: the file can't be written.
        """
        write_json(path, self.to_dict(), indent=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `load` reads."""
        radii = [{"level": level, "deviations": radius} for level, radius in self.radii.items()]
        return {
            "format": _FORMAT,
            "model": dict(self.model),
            "data": dict(self.data),
            "covariance": {"scale": self.scale, "floor": self.floor},
            "radii": radii,
            "no_match": {"features": list(FEATURES), **json.loads(json.dumps(vars(self.no_match)))},
            "different_above": self.different_above,
        }

    @classmethod
    def load(cls, path: Path | str) -> Calibration:
        """Read a file that `save` wrote.

        Raises:
            DataError: the file is missing, has another format, or lacks a field.
        """
        content = read_object(path, largest=_LARGEST)
        if content.get("format") != _FORMAT:
            raise DataError(f"{path} must be a calibration of simplematch calibrate ({_FORMAT}).")
        try:
            return cls._read(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} must be a calibration of simplematch calibrate, but is damaged: {error}"
            ) from error

    @classmethod
    def _read(cls, content: Mapping[str, Any]) -> Calibration:
        given = content["no_match"]
        if tuple(given["features"]) != FEATURES:
            raise ValueError(f"features must be {', '.join(FEATURES)}, got {given['features']}")
        kinds = len(given["positive"])
        mean, deviation = (_numbers(given[name], len(FEATURES)) for name in ("mean", "deviation"))
        weights = tuple(_numbers(row, len(FEATURES)) for row in given["weights"])
        if len(weights) != kinds or not all(isinstance(x, bool) for x in given["positive"]):
            raise ValueError(f"no_match must have weights and truth values of {kinds} kinds")
        no_match = Logistic(mean, deviation, weights, _numbers(given["bias"], kinds), tuple(given["positive"]))
        return cls(
            model=dict(content["model"]),
            scale=_number(content["covariance"]["scale"]),
            floor=_number(content["covariance"]["floor"]),
            radii={_number(row["level"]): _number(row["deviations"]) for row in content["radii"]},
            no_match=no_match,
            different_above=_number(content["different_above"]),
            data=dict(content["data"]),
        )


def features_of(evidence: Evidence, side: float) -> FloatArray:
    """Return the features (N, F) of the logistic regression; lengths are shares of the input's side."""
    first = np.where(np.abs(evidence.similarity) < 1e-6, 1e-6, evidence.similarity)
    return np.stack(
        (
            evidence.similarity,
            np.clip(evidence.second / first, -2, 2),
            np.log(deviation(evidence.spread) / side + 1e-3),
            np.log(evidence.cycle / side + _HALF_CELL),
            evidence.salience,
            evidence.pair_salience,
            evidence.mutual_share,
            evidence.pooled_similarity,
        ),
        axis=1,
    )


def finite_rows(evidence: Evidence) -> BoolArray:
    """Tell which rows (N,) have finite numbers only."""
    columns = [x.reshape(len(evidence), -1) for x in vars(evidence).values()]
    return np.asarray(np.isfinite(np.concatenate(columns, axis=1)).all(axis=1))


def _numbers(values: object, count: int) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"a list of {count} numbers is needed, got {values!r}")
    return tuple(map(_number, values))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a finite number is needed, got {value!r}")
    return float(value)
