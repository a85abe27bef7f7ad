"""`localize_upsampled`: coordinates from scores of a map that is read as if it were larger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from .._checks import check_image_size_values, check_values
from .._options import LocalizationOptions, MetricOptions
from .._types import Matches, Rows, UpsampledGradients, UpsampledProblem, Upstream, empty_matches
from ._operator import Operator


class Arguments(NamedTuple):
    scores: Tensor
    products: Tensor | None
    rows: Rows
    temperature: Tensor | None
    target_sizes: Tensor | None
    upsample: Sequence[int]
    metric: MetricOptions
    localization: LocalizationOptions
    backend: str

    def problem(self) -> UpsampledProblem:
        height, width = self.upsample
        return UpsampledProblem(
            self.scores,
            self.products,
            self.rows,
            self.temperature,
            (height, width),
            self.metric.resolve(),
            self.localization.resolve(height, width, image_sizes=self.target_sizes),
        )

    def check_values(self) -> None:
        check_values(None, self.rows, self.temperature, self.scores.shape[1])
        check_image_size_values("target_size", self.target_sizes)

    def empty_result(self) -> Matches:
        return empty_matches(self.scores, self.scores.shape[0], self.scores.shape[1])


run = Operator("localize_upsampled", Arguments, Matches, Upstream, UpsampledGradients)
