"""`cosine_similarity`: scores of descriptors with every cell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._options import MetricOptions
from .._types import SimilarityGradients, SimilarityProblem, SimilarityResult, SimilarityUpstream, accumulation_dtype
from ._operator import Operator


class Arguments(NamedTuple):
    descriptors: Tensor
    target: Tensor
    metric: MetricOptions
    backend: str

    @property
    def device(self) -> torch.device:
        return self.target.device

    def problem(self) -> SimilarityProblem:
        return SimilarityProblem(self.descriptors, self.target, self.metric.resolve())

    def check_values(self) -> None:
        """Any descriptors will do."""

    def empty_result(self) -> SimilarityResult:
        (batch, _, height, width), dtype = self.target.shape, accumulation_dtype(self.target)
        return SimilarityResult(
            self.target.new_empty((batch, self.descriptors.shape[1], height, width), dtype=dtype),
            self.target.new_empty((batch, height * width), dtype=dtype),
        )


run = Operator(
    "cosine_similarity", Arguments, SimilarityResult, SimilarityUpstream, SimilarityGradients,
    autocast=("descriptors", "target"),
)  # fmt: skip
