"""`sparse_match_cross_entropy`: gather, similarity, and cross entropy with a true point; from descriptors too."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .._checks import check_finite, check_image_size_values, check_values
from .._options import MetricOptions, SamplingOptions
from .._truth_options import TruthOptions
from .._types import (
    CrossEntropyProblem,
    CrossEntropyResult,
    CrossEntropyUpstream,
    MatchGradients,
    Rows,
    empty_cross_entropy_result,
)
from ._operator import Operator


class Arguments(NamedTuple):
    """Without `keypoints` the source is a list of descriptors, (B, C, 1, N), and `sampling` says nothing.

    source_sizes: (B, 2) sizes of the images, or None where the options have one for all.
    """

    source: Tensor
    keypoints: Tensor | None
    target: Tensor
    target_keypoints: Tensor
    rows: Rows
    temperature: Tensor | None
    source_sizes: Tensor | None
    sampling: SamplingOptions
    metric: MetricOptions
    truth: TruthOptions
    backend: str

    def problem(self) -> CrossEntropyProblem:
        return CrossEntropyProblem(
            self.source,
            self.keypoints,
            self.target,
            self.target_keypoints,
            self.rows,
            self.temperature,
            None
            if self.keypoints is None
            else self.sampling.resolve(*self.source.shape[-2:], image_sizes=self.source_sizes),
            self.metric.resolve(),
            self.truth.resolve(*self.target.shape[-2:]),
        )

    def check_values(self) -> None:
        check_values(self.keypoints, self.rows, self.temperature, self.target_keypoints.shape[1])
        check_finite("target_keypoints", self.target_keypoints, self.rows)
        check_image_size_values("source_size", self.source_sizes)

    def empty_result(self) -> CrossEntropyResult:
        return empty_cross_entropy_result(self.target, self.target_keypoints.shape[1])


run = Operator(
    "sparse_match_cross_entropy", Arguments, CrossEntropyResult, CrossEntropyUpstream, MatchGradients,
    autocast=("source", "target"),
)  # fmt: skip
