"""`match_all`: every descriptor of one set against every one of another, both ways at once."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from .._options import MetricOptions
from .._set_checks import check_set_values
from .._types import (
    MatchAllGradients,
    MatchAllProblem,
    MatchAllResult,
    MatchAllUpstream,
    SetRows,
    empty_match_all_result,
)
from ._operator import Operator


class SoftmaxOptions(NamedTuple):
    """The numbers are None where a tensor has one for each image; without `fixed_bin_score` there is no bin."""

    fixed_temperature: float | None
    fixed_bin_score: float | None
    return_log_sum_exp: bool
    return_second: bool


class Arguments(NamedTuple):
    """a, b: maps (B, C, H, W); lists of descriptors are maps of one row. temperature, bin_score: (B,)."""

    a: Tensor
    b: Tensor
    rows: SetRows
    temperature: Tensor | None
    bin_score: Tensor | None
    metric: MetricOptions
    softmax: SoftmaxOptions
    backend: str

    def problem(self) -> MatchAllProblem:
        o = self.softmax
        return MatchAllProblem(
            self.a,
            self.b,
            self.rows,
            self.temperature,
            self.bin_score,
            self.metric.resolve(),
            1.0 if o.fixed_temperature is None else o.fixed_temperature,
            -math.inf if o.fixed_bin_score is None else o.fixed_bin_score,
            o.return_log_sum_exp,
            o.return_second,
        )

    def check_values(self) -> None:
        cells = (self.a.shape[2] * self.a.shape[3], self.b.shape[2] * self.b.shape[3])
        check_set_values(self.rows, *cells, self.temperature)

    def empty_result(self) -> MatchAllResult:
        return empty_match_all_result(self.a, self.b, self.softmax.return_log_sum_exp, self.softmax.return_second)


run = Operator("match_all", Arguments, MatchAllResult, MatchAllUpstream, MatchAllGradients, autocast=("a", "b"))
