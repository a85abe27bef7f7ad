"""LightGlue: matches of its last layer without the assignment matrix, at inference.

The logarithm of the assignment is 2 s_nm - log_sum_exp_n - log_sum_exp_m + log z_n + log z_m: a product of descriptors
with two more channels, one for what depends on n and one for what depends on m.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..functional.match_all import match_all
from ._patching import Integration, Replacement


class Assignment(NamedTuple):
    """Two sets of descriptors (B, M, C + 2) and (B, N, C + 2), whose products are the logarithm of the assignment."""

    first: Tensor
    second: Tensor


def forward(theirs: Any, self: Any, desc0: Tensor, desc1: Tensor) -> Any:
    """The assignment of descriptors (B, M, C) and (B, N, C); while training, theirs, for the losses."""
    if self.training or 0 in (desc0.shape[1], desc1.shape[1]):
        return theirs(self, desc0, desc1)
    first, second = (self.final_proj(x) / x.shape[-1] ** 0.25 for x in (desc0, desc1))
    found = match_all(first, second, metric="dot")
    assert found.log_sum_exp_a is not None and found.log_sum_exp_b is not None
    of_first = logsigmoid(self.matchability(desc0)) - found.log_sum_exp_a[..., None].to(first.dtype)
    of_second = logsigmoid(self.matchability(desc1)) - found.log_sum_exp_b[..., None].to(second.dtype)
    ones = (torch.ones_like(of_first), torch.ones_like(of_second))
    assignment = Assignment(torch.cat((2 * first, of_first, ones[0]), -1), torch.cat((second, ones[1], of_second), -1))
    return assignment, None


def filter_matches(theirs: Any, scores: Any, th: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Matches (B, M) and (B, N), -1 where there is none, and their probabilities."""
    if not isinstance(scores, Assignment):
        found: tuple[Tensor, Tensor, Tensor, Tensor] = theirs(scores, th)
        return found
    matches = match_all(*scores, metric="dot", return_log_sum_exp=False)
    first, second = matches.index_a, matches.index_b
    mutual = (matches.mutual, first.gather(1, second) == torch.arange(second.shape[1], device=second.device))
    zero = matches.score_a.new_zeros(())
    scores0 = torch.where(mutual[0], matches.score_a.exp(), zero)
    scores1 = torch.where(mutual[1], scores0.gather(1, second), zero)
    valid0 = mutual[0] & (scores0 > th)
    valid1 = mutual[1] & valid0.gather(1, second)
    return torch.where(valid0, first, -1), torch.where(valid1, second, -1), scores0, scores1


INTEGRATIONS = (
    Integration(
        "lightglue",
        "cvg/LightGlue",
        (
            Replacement(
                "lightglue.lightglue:MatchAssignment.forward", "self, desc0, desc1", forward, needs_theirs=True
            ),
            Replacement("lightglue.lightglue:filter_matches", "scores, th", filter_matches, needs_theirs=True),
        ),
    ),
)
