"""PCK of keypoints that have a look-alike in the target image, and how often a match lands on the look-alike.

"Geo-aware" is a keypoint of a pair if another keypoint of its group, such as the other ear, is annotated in the target
image as well (Zhang et al. 2024, Telling Left from Right). Only those matches can confuse left and right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..data.dataset import PairDataset
from ..data.records import BoolArray, FloatArray
from ..data.symmetry import Symmetry
from ..sizes import ImageSize
from .pck import Scores
from .predictions import Prediction, Predictions
from .protocol import PCKProtocol

ALL = "all"


@dataclass
class GeoAwareScores:
    """Scores of a group of pairs.

    Attributes:
        geo_aware, rest: PCK of the keypoints with and without a look-alike in the target. `pairs` counts the pairs with
            such a keypoint, over which `per_image` is the mean.
        wrong: number of wrong geo-aware keypoints for each alpha.
        confused: how many of these are within alpha times the threshold of a keypoint of the same group.
    """

    geo_aware: Scores
    rest: Scores
    wrong: list[int]
    confused: list[int]


@dataclass
class GeoAwareResult:
    """The scores of each category, and of "all" pairs, under one protocol.

    Attributes:
        protocol: the protocol; `description` is its one-line description.
        symmetry: name of the symmetry.
        groups: the scores by category, "all" last.
    """

    protocol: PCKProtocol
    description: str
    symmetry: str
    groups: dict[str, GeoAwareScores]


def geo_aware(
    predictions: Predictions, dataset: PairDataset, symmetry: Symmetry, protocol: PCKProtocol
) -> GeoAwareResult:
    """Compute PCK of geo-aware keypoints and of the rest, and count confusions.

    Args:
        predictions: predictions for pairs of `dataset`.
        dataset: the data set, which knows all keypoints of the target images.
        symmetry: the groups of keypoints.
        protocol: threshold, space, comparison and alphas; averaging is always given both ways.

    Raises:
        DataError: the data set lacks a category or a keypoint of the symmetry.
        ValueError: no prediction has the protocol's direction.
    """
    symmetry.check(dataset)
    items = predictions.of(protocol)
    partners = {category: symmetry.partners(category) for category in {item.info.category for item in items}}
    counts: dict[str, list[_Counts]] = {category: [] for category in (*sorted(partners), ALL)}
    for item in items:
        found = _count(item, partners[item.info.category], dataset, protocol, predictions.image_size)
        counts[item.info.category].append(found)
        counts[ALL].append(found)
    description = protocol.describe(predictions.image_size, predictions.window, predictions.resize)
    return GeoAwareResult(protocol, description, symmetry.name, {k: _scores(v) for k, v in counts.items()})


@dataclass
class _Counts:
    """A pair's numbers of keypoints and of correct ones (A,): geo-aware and the rest; and confused ones (A,)."""

    points: tuple[int, int]
    hits: tuple[FloatArray, FloatArray]
    confused: FloatArray


def _count(
    item: Prediction,
    partners: Mapping[str, tuple[str, ...]],
    dataset: PairDataset,
    protocol: PCKProtocol,
    image_size: ImageSize,
) -> _Counts:
    known = dataset.target_keypoints(item.info) if partners else {}
    correct = protocol.within(protocol.distances(item.predicted, item.info, image_size))
    chosen = np.zeros(len(correct), dtype=bool)
    on_other = np.zeros_like(correct)
    for i, name in enumerate(item.info.keypoint_ids):
        others = [known[other] for other in partners.get(name, ()) if other in known]
        chosen[i] = bool(others)
        for other in others:
            to_other = protocol.distances_to(other[None], item.predicted[i : i + 1], item.info, image_size)
            on_other[i] |= protocol.within(to_other)[0]
    number = int(chosen.sum())
    return _Counts(
        (number, len(chosen) - number),
        (_sum(correct[chosen]), _sum(correct[~chosen])),
        _sum((on_other & ~correct)[chosen]),
    )


def _scores(counts: list[_Counts]) -> GeoAwareScores:
    geo, rest = (_part_scores(counts, part) for part in (0, 1))
    wrong = geo.points - np.stack([found.hits[0] for found in counts]).sum(0)
    confused = np.stack([found.confused for found in counts]).sum(0)
    return GeoAwareScores(geo, rest, wrong.astype(int).tolist(), confused.astype(int).tolist())


def _part_scores(counts: list[_Counts], part: int) -> Scores:
    points = np.array([found.points[part] for found in counts])
    hits = np.stack([found.hits[part] for found in counts])
    kept = points > 0
    nothing = np.full(hits.shape[1], np.nan)
    if not kept.any():
        return Scores(0, 0, nothing.tolist(), nothing.tolist())
    per_image = (hits[kept] / points[kept, None]).mean(0)
    return Scores(int(kept.sum()), int(points.sum()), per_image.tolist(), (hits.sum(0) / points.sum()).tolist())


def _sum(values: BoolArray) -> FloatArray:
    return np.asarray(values.sum(0), dtype=np.float64)


def format_geo_aware(result: GeoAwareResult) -> str:
    """Format the result as a table: two lines of percentages for each category, and one for confusions."""
    rows: list[tuple[str, str, str, list[float]]] = []
    by_point = result.protocol.averaging == "per-point"
    for category, scores in result.groups.items():
        for name, part in (("geo-aware", scores.geo_aware), ("the rest", scores.rest)):
            values = part.per_point if by_point else part.per_image
            rows.append((f"{category}, {name}", str(part.pairs), str(part.points), values))
        rows.append((f"{category}, wrong ones on a counterpart", "", "", _shares(scores)))
    width = max(len(name) for name, *_ in rows)
    heads = "".join(f"{f'@{alpha:g}':>7}" for alpha in result.protocol.alphas)
    averaged = "per point" if by_point else "per image"
    lines = [f"geo-aware keypoints ({result.symmetry}), {averaged}; wrong ones in % of the wrong geo-aware keypoints"]
    lines.append(f"{'':{width}}  pairs  points{heads}")
    for name, pairs, points, values in rows:
        lines.append(f"{name:{width}}  {pairs:>5}  {points:>6}" + "".join(f"{100 * x:>7.1f}" for x in values))
    return "\n".join(lines)


def geo_aware_rows(result: GeoAwareResult) -> list[tuple[object, ...]]:
    """Return rows for the table of `to_csv`; "confused" is the share of wrong geo-aware keypoints."""
    rows: list[tuple[object, ...]] = []
    for category, scores in result.groups.items():
        for field, part in (("geo-aware", scores.geo_aware), ("geo-aware rest", scores.rest)):
            averages = {"per-image": part.per_image, "per-point": part.per_point}
            averages |= {"confused": _shares(scores)} if part is scores.geo_aware else {}
            rows += [
                (result.description, field, category, averaging, alpha, value, part.pairs, part.points)
                for averaging, values in averages.items()
                for alpha, value in zip(result.protocol.alphas, values, strict=True)
            ]
    return rows


def geo_aware_json(result: GeoAwareResult) -> dict[str, Any]:
    return {
        "description": result.description,
        "symmetry": result.symmetry,
        "groups": {category: asdict(scores) for category, scores in result.groups.items()},
    }


def _shares(scores: GeoAwareScores) -> list[float]:
    return [c / w if w else float("nan") for c, w in zip(scores.confused, scores.wrong, strict=True)]
