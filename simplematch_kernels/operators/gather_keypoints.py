"""Descriptors at keypoints."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .._checks import check_image_size_values, check_values
from .._options import SamplingOptions
from .._types import GatherGradients, GatherProblem, GatherResult, GatherUpstream, Rows
from ._operator import Operator


class Arguments(NamedTuple):
    """sizes: (B, 2) sizes of the images, or None where `sampling` has one for all."""

    features: Tensor
    keypoints: Tensor
    sizes: Tensor | None
    sampling: SamplingOptions
    backend: str

    def problem(self) -> GatherProblem:
        sampling = self.sampling.resolve(*self.features.shape[-2:], image_sizes=self.sizes)
        return GatherProblem(self.features, self.keypoints, sampling)

    def check_values(self) -> None:
        check_values(self.keypoints, Rows(), None, self.keypoints.shape[1])
        check_image_size_values("size", self.sizes)

    def empty_result(self) -> GatherResult:
        shape = (self.keypoints.shape[0], self.keypoints.shape[1], self.features.shape[1])
        return GatherResult(self.features.new_empty(shape))


run = Operator("gather_keypoints", Arguments, GatherResult, GatherUpstream, GatherGradients, keeps_result=False)
