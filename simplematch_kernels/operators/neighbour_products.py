"""`neighbour_products`: inner products of every cell with itself and its neighbours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._types import NeighbourGradients, NeighbourProblem, NeighbourResult, NeighbourUpstream
from ._operator import Operator


class Arguments(NamedTuple):
    features: Tensor
    backend: str

    def problem(self) -> NeighbourProblem:
        return NeighbourProblem(self.features)

    def check_values(self) -> None:
        """Any features will do."""

    def empty_result(self) -> NeighbourResult:
        batch, _, height, width = self.features.shape
        return NeighbourResult(self.features.new_empty((batch, 5, height, width), dtype=torch.float64))


run = Operator(
    "neighbour_products", Arguments, NeighbourResult, NeighbourUpstream, NeighbourGradients, keeps_result=False
)
