"""`localize`: coordinates from scores."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .._checks import check_image_size_values, check_values
from .._options import LocalizationOptions
from .._result_options import DetailOptions
from .._types import (
    DetailedUpstream,
    LocalizeDetails,
    LocalizeGradients,
    LocalizeProblem,
    Matches,
    Rows,
    Upstream,
    empty_localize_details,
    empty_matches,
)
from ._operator import Operator


class Arguments(NamedTuple):
    """target_sizes: (B, 2) sizes of the images, or None where `localization` has one for all."""

    scores: Tensor
    rows: Rows
    temperature: Tensor | None
    target_sizes: Tensor | None
    localization: LocalizationOptions
    backend: str

    def problem(self) -> LocalizeProblem:
        localization = self.localization.resolve(*self.scores.shape[-2:], image_sizes=self.target_sizes)
        return LocalizeProblem(self.scores, self.rows, self.temperature, localization)

    def check_values(self) -> None:
        check_values(None, self.rows, self.temperature, self.scores.shape[1])
        check_image_size_values("target_size", self.target_sizes)

    def empty_result(self) -> Matches:
        return empty_matches(self.scores, self.scores.shape[0], self.scores.shape[1])


run = Operator("localize", Arguments, Matches, Upstream, LocalizeGradients)


class DetailedArguments(NamedTuple):
    """`Arguments`, and what to return besides `Matches`."""

    scores: Tensor
    rows: Rows
    temperature: Tensor | None
    target_sizes: Tensor | None
    localization: LocalizationOptions
    details: DetailOptions
    backend: str

    @property
    def plain(self) -> Arguments:
        return Arguments(*self[:5], self.backend)

    def problem(self) -> LocalizeProblem:
        return self.plain.problem()._replace(details=self.details)

    def check_values(self) -> None:
        self.plain.check_values()

    def empty_result(self) -> LocalizeDetails:
        return empty_localize_details(self.scores, self.scores.shape[0], self.scores.shape[1], self.details)


run_detailed = Operator(
    "localize_detailed", DetailedArguments, LocalizeDetails, DetailedUpstream, LocalizeGradients,
    optional=("covariance",),
)  # fmt: skip
