"""One call of the operator `localize`, on checked scores."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from .._result_options import DetailOptions
from .._types import DetailedMatches, LocalizeDetails, MatchDetails, Matches
from ..operators import localize as operator
from ._shared import Localizing


def localize_scores(scores: Tensor, localizing: Localizing) -> Matches:
    """Matches of scores (B, N, H, W)."""
    rows, temperature, sizes, options, details, backend = localizing
    inputs = (scores, rows, temperature, sizes, options)
    if details is not None:
        arguments = operator.DetailedArguments(*inputs, details, backend)
        return with_details(operator.run_detailed(arguments), details)
    return operator.run(operator.Arguments(*inputs, backend))


def with_details(found: LocalizeDetails | MatchDetails, details: DetailOptions) -> Matches:
    """`DetailedMatches`, of which the types of the public functions say that they have the fields of `Matches`."""
    detailed = DetailedMatches(
        *found[:4],
        found.covariance if details.return_covariance else None,
        found.second_score if details.return_second else None,
        found.second_peak if details.return_second else None,
    )
    return cast(Matches, detailed)
