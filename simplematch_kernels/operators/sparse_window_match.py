"""`sparse_window_match`: gather, similarity, argmax, window and soft-argmax; from descriptors too."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _resolved
from .._check_options import check_window_size
from .._checks import check_image_size_values, check_values
from .._options import LocalizationOptions, MetricOptions, SamplingOptions
from .._result_options import DetailOptions
from .._types import (
    DetailedUpstream,
    MatchDetails,
    MatchGradients,
    MatchProblem,
    MatchResult,
    Rows,
    Upstream,
    accumulation_dtype,
    empty_match_details,
    empty_match_result,
)
from ._operator import Operator


class Arguments(NamedTuple):
    """Without `keypoints` the source is a list of descriptors, (B, C, 1, N), and `sampling` says nothing.

    source_sizes, target_sizes: (B, 2) sizes of the images, or None where the options have one for all.
    keep_scores: whether to keep the scores in the windows for a backward.
    """

    source: Tensor
    keypoints: Tensor | None
    target: Tensor
    rows: Rows
    temperature: Tensor | None
    source_sizes: Tensor | None
    target_sizes: Tensor | None
    sampling: SamplingOptions
    metric: MetricOptions
    localization: LocalizationOptions
    keep_scores: bool
    backend: str

    @property
    def queries(self) -> int:
        return self.source.shape[3] if self.keypoints is None else self.keypoints.shape[1]

    @property
    def window_bytes(self) -> int:
        """Bytes of the scores in the windows of all queries."""
        rows, columns = self._box()
        size: int = self.target.shape[0] * self.queries * rows * columns * accumulation_dtype(self.target).itemsize
        return size

    def problem(self) -> MatchProblem:
        return MatchProblem(
            self.source,
            self.keypoints,
            self.target,
            self.rows,
            self.temperature,
            None
            if self.keypoints is None
            else self.sampling.resolve(*self.source.shape[-2:], image_sizes=self.source_sizes),
            self.metric.resolve(),
            self.localization.resolve(*self.target.shape[-2:], image_sizes=self.target_sizes),
            self._kept_queries(),
        )

    def check_values(self) -> None:
        check_values(self.keypoints, self.rows, self.temperature, self.queries)
        check_image_size_values("source_size", self.source_sizes)
        check_image_size_values("target_size", self.target_sizes)

    def empty_result(self) -> MatchResult:
        return empty_match_result(self.target, self.queries, self._kept_queries(), self._box())

    def _box(self) -> tuple[int, int]:
        """`Window.box`, with sym_min, which brings no guard on a symbolic shape."""
        height, width = self.target.shape[-2:]
        if self.localization.localization == "argmax":
            return 1, 1
        if self.localization.localization != "window":
            return height, width
        rows, columns = check_window_size(self.localization.window_size)
        return torch.sym_min(rows, height), torch.sym_min(columns, width)

    def _kept_queries(self) -> int:
        """How many queries' scores fit the budget; with sym_min as in `_box`."""
        if not self.keep_scores:
            return 0
        rows, columns = self._box()
        bytes_per_query = self.target.shape[0] * rows * columns * accumulation_dtype(self.target).itemsize
        kept: int = torch.sym_min(self.queries, _resolved.SCORE_BUDGET_BYTES // torch.sym_max(1, bytes_per_query))
        return kept


run = Operator("sparse_window_match", Arguments, MatchResult, Upstream, MatchGradients, autocast=("source", "target"))


class DetailedArguments(NamedTuple):
    """`Arguments`, and what to return besides `Matches`."""

    source: Tensor
    keypoints: Tensor | None
    target: Tensor
    rows: Rows
    temperature: Tensor | None
    source_sizes: Tensor | None
    target_sizes: Tensor | None
    sampling: SamplingOptions
    metric: MetricOptions
    localization: LocalizationOptions
    details: DetailOptions
    keep_scores: bool
    backend: str

    @property
    def plain(self) -> Arguments:
        return Arguments(*self[:10], *self[11:])

    def problem(self) -> MatchProblem:
        return self.plain.problem()._replace(details=self.details)

    def check_values(self) -> None:
        self.plain.check_values()

    def empty_result(self) -> MatchDetails:
        plain = self.plain
        return empty_match_details(self.target, plain.queries, plain._kept_queries(), plain._box(), self.details)


run_detailed = Operator(
    "sparse_window_match_detailed", DetailedArguments, MatchDetails, DetailedUpstream, MatchGradients,
    autocast=("source", "target"), optional=("covariance",),
)  # fmt: skip
