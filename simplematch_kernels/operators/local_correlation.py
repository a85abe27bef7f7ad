"""`local_correlation`: scores of queries with the samples around given points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check_values
from .._options import MetricOptions, SamplingOptions
from .._types import (
    CorrelationGradients,
    CorrelationProblem,
    CorrelationResult,
    CorrelationUpstream,
    Rows,
    accumulation_dtype,
)
from ._operator import Operator


class Arguments(NamedTuple):
    queries: Tensor
    target: Tensor
    coords: Tensor
    offsets: Tensor | None
    rows: Rows
    sampling: SamplingOptions
    metric: MetricOptions
    radius: Sequence[int] | None
    scale: float
    backend: str

    def problem(self) -> CorrelationProblem:
        rows, columns = self.radius or (0, 0)
        return CorrelationProblem(
            self.queries,
            self.target,
            self.coords,
            self.offsets,
            self.rows,
            self.sampling.resolve(*self.target.shape[-2:]),
            self.metric.resolve(),
            (rows, columns),
            self.scale,
        )

    def check_values(self) -> None:
        check_values(None, self.rows, None, self.coords.shape[1])

    def empty_result(self) -> CorrelationResult:
        return empty_correlation(self.coords, self.target, self.offsets, self.radius)


def empty_correlation(
    coords: Tensor, target: Tensor, offsets: Tensor | None, radius: Sequence[int] | None
) -> CorrelationResult:
    """`CorrelationResult`, not filled in."""
    rows, columns = radius or (0, 0)
    samples = (2 * rows + 1) * (2 * columns + 1) if offsets is None else offsets.shape[1]
    shape = (coords.shape[0], coords.shape[1], samples)
    return CorrelationResult(torch.empty(shape, dtype=accumulation_dtype(target), device=target.device))


run = Operator(
    "local_correlation", Arguments, CorrelationResult, CorrelationUpstream, CorrelationGradients,
    keeps_result=False, autocast=("queries", "target"),
)  # fmt: skip
