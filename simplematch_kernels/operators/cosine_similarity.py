"""`cosine_similarity`: scores of descriptors with every cell."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .._options import MetricOptions
from .._types import (
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    empty_similarity_result,
)
from ._operator import Operator


class Arguments(NamedTuple):
    descriptors: Tensor
    target: Tensor
    metric: MetricOptions
    backend: str

    def problem(self) -> SimilarityProblem:
        return SimilarityProblem(self.descriptors, self.target, self.metric.resolve())

    def check_values(self) -> None:
        """Any descriptors will do."""

    def empty_result(self) -> SimilarityResult:
        return empty_similarity_result(self.descriptors, self.target)


run = Operator(
    "cosine_similarity", Arguments, SimilarityResult, SimilarityUpstream, SimilarityGradients,
    autocast=("descriptors", "target"),
)  # fmt: skip
