"""PCK as a torchmetrics Metric, which sums over batches and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from ..data.records import FloatArray, PairInfo
from ..sizes import ImageSize, place
from .protocol import PCKProtocol

Groups = Mapping[str, Sequence[str]]


@dataclass
class Scores:
    """PCK of a group of pairs, one number from 0 to 1 per alpha (NaN without pairs)."""

    pairs: int
    points: int
    per_image: list[float]
    per_point: list[float]


class PCKResult:
    """PCK of a data set under one protocol.

    Attributes:
        protocol: the protocol; `description` is its one-line description.
        overall: the scores of all pairs.
        category_mean: mean over categories of their `per_image`, one number per alpha.
        groups: the scores of each value of "category" and of every variation field.
    """

    # Not a dataclass: torchmetrics would recurse into it and fail on the frozen protocol.
    def __init__(
        self,
        protocol: PCKProtocol,
        description: str,
        overall: Scores,
        category_mean: list[float],
        groups: dict[str, dict[str, Scores]],
    ) -> None:
        self.protocol = protocol
        self.description = description
        self.overall = overall
        self.category_mean = category_mean
        self.groups = groups

    @property
    def headline(self) -> list[float]:
        """PCK with the protocol's averaging, one number per alpha."""
        averages = {
            "per-image": self.overall.per_image,
            "per-point": self.overall.per_point,
            "per-category": self.category_mean,
        }
        return averages[self.protocol.averaging]

    def at(self, alpha: float) -> float:
        """Return the headline at one alpha of the protocol."""
        if alpha not in self.protocol.alphas:
            raise ValueError(f"alpha must be one of {self.protocol.alphas}, got {alpha}")
        return self.headline[self.protocol.alphas.index(alpha)]


class PCK(Metric):
    """Percentage of correct keypoints under one protocol, overall and by groups of pairs.

    Its states are sums, so `compute` is exact for any split into batches and processes.
    """

    full_state_update = False
    higher_is_better = True
    pair_sums: Tensor
    pair_counts: Tensor
    point_hits: Tensor
    point_counts: Tensor

    def __init__(
        self,
        protocol: PCKProtocol,
        image_size: ImageSize,
        groups: Groups | None = None,
        window: object = None,
        resize: str | None = None,
        **options: Any,
    ) -> None:
        """Initialise the counts.

        Args:
            protocol: the protocol.
            image_size: size of the network's input, S for a square or (height, width).
            groups: the values of "category" and of each variation field; they must be equal on all processes.
            window: size of the matching window, for the description.
            resize: how images are brought to this size, "squash" (the default) or "letterbox".
            options: options of `torchmetrics.Metric`.
        """
        super().__init__(**options)
        self.protocol = protocol
        self.image_size = image_size
        self.window = window
        self.resize = resize
        keys = [(field, value) for field, values in (groups or {}).items() for value in values]
        self._rows = {("", ""): 0} | {key: i for i, key in enumerate(keys, start=1)}
        shape = (len(self._rows), len(protocol.alphas))
        self.add_state("pair_sums", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pair_counts", torch.zeros(shape[0], dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("point_hits", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("point_counts", torch.zeros(shape[0], dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor | Sequence[FloatArray], infos: Sequence[PairInfo]) -> None:
        """Count a batch.

        Args:
            predicted: points (B, N, 2) in pixels of the network's input, where rows past a pair's keypoints are
                ignored; or B arrays (Ni, 2) in original pixels of the target images.
            infos: B records, already swapped for `reverse` protocols. Their target keypoints are the ground truth.

        Raises:
            ValueError: the lengths differ, a pair's group is unknown, or a pair has no threshold.
        """
        if len(predicted) != len(infos):
            raise ValueError(f"predicted and infos must have as many pairs, got {len(predicted)} and {len(infos)}")
        if isinstance(predicted, Tensor):
            predicted = to_original(predicted, infos, self.image_size, self.resize or "squash")
        hits, rows, lengths = [], [], []
        for points, info in zip(predicted, infos, strict=True):
            correct = self._correct(points, info)
            for row in self._rows_of(info):
                hits.append(correct)
                rows.append(row)
                lengths.append(len(points))
        if rows:
            self._add(np.stack(hits), rows, lengths)

    def compute(self) -> PCKResult:
        """Compute the result over all batches and processes."""
        scores = {key: self._scores(row) for key, row in self._rows.items()}
        groups: dict[str, dict[str, Scores]] = {}
        for (field, value), score in scores.items():
            if field:
                groups.setdefault(field, {})[value] = score
        categories = [score.per_image for score in groups.get("category", {}).values() if score.pairs]
        empty = [float("nan")] * len(self.protocol.alphas)
        mean = [float(np.mean(column)) for column in zip(*categories, strict=True)] if categories else empty
        description = self.protocol.describe(self.image_size, self.window, self.resize)
        return PCKResult(self.protocol, description, scores[("", "")], mean, groups)

    def _correct(self, points: FloatArray, info: PairInfo) -> FloatArray:
        """Count a pair's correct keypoints at each alpha, (A,)."""
        if len(points) != len(info.target_keypoints):
            count = len(info.target_keypoints)
            raise ValueError(f"pair {info.pair_id} must have {count} predictions, got {len(points)}")
        return np.asarray(self.protocol.within(self.protocol.distances(points, info, self.image_size)).sum(0))

    def _rows_of(self, info: PairInfo) -> list[int]:
        keys = [("category", info.category), *info.variations.items()]
        fields = {field for field, _ in self._rows}
        try:
            return [0, *(self._rows[key] for key in keys if key[0] in fields)]
        except KeyError as error:
            raise ValueError(f"groups must have the group {error} of pair {info.pair_id}") from None

    def _add(self, hits: FloatArray, rows: list[int], lengths: list[int]) -> None:
        device = self.pair_sums.device
        index, count = torch.tensor(rows, device=device), torch.tensor(lengths, device=device)
        correct = torch.from_numpy(hits).to(device)
        self.pair_sums.index_add_(0, index, correct.double() / count[:, None])
        self.pair_counts.index_add_(0, index, torch.ones_like(count))
        self.point_hits.index_add_(0, index, correct.long())
        self.point_counts.index_add_(0, index, count)

    def _scores(self, row: int) -> Scores:
        pairs, points = int(self.pair_counts[row]), int(self.point_counts[row])
        per_image = self.pair_sums[row] / (pairs or float("nan"))
        per_point = self.point_hits[row].double() / (points or float("nan"))
        return Scores(pairs, points, per_image.tolist(), per_point.tolist())


def to_original(
    predicted: Tensor, infos: Sequence[PairInfo], image_size: ImageSize, resize: str = "squash"
) -> list[FloatArray]:
    """Convert points (B, N, 2) in pixels of the network's input to B arrays (Ni, 2) float64 in target pixels."""
    points = predicted.detach().double().cpu().numpy()
    return [
        place(info.target_size, image_size, resize).to_image(row[: len(info.target_keypoints)])
        for row, info in zip(points, infos, strict=True)
    ]
