"""`pair_scores`: scores of chosen pairs of descriptors of two sets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._options import MetricOptions
from .._set_checks import check_indices_in_range
from .._types import PairGradients, PairProblem, PairResult, PairUpstream, accumulation_dtype
from ._operator import Operator


class Arguments(NamedTuple):
    """a, b: maps (B, C, H, W); lists of descriptors are maps of one row. index_a, index_b: (B, K) int64."""

    a: Tensor
    b: Tensor
    index_a: Tensor
    index_b: Tensor
    metric: MetricOptions
    backend: str

    def problem(self) -> PairProblem:
        return PairProblem(self.a, self.b, self.index_a, self.index_b, self.metric.resolve())

    def check_values(self) -> None:
        for name, index, x in (("a", self.index_a, self.a), ("b", self.index_b, self.b)):
            check_indices_in_range(f"index_{name}", index, name, x.shape[2] * x.shape[3])

    def empty_result(self) -> PairResult:
        return PairResult(torch.empty(self.index_a.shape, dtype=accumulation_dtype(self.a), device=self.a.device))


run = Operator("pair_scores", Arguments, PairResult, PairUpstream, PairGradients, autocast=("a", "b"))
