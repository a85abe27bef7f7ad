"""`match_all` and `pair_scores`: two sets of descriptors."""

from __future__ import annotations

import math
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from .._resolved import Metric
from .common import Rows, T, accumulation_dtype


class AllMatches(NamedTuple):
    """The best partner of every descriptor of a, N of them, in b, M of them, and the other way round.

    Padded descriptors, and those without a candidate, hold index -1, score 0, second 0 and mutual False. Their
    log_sum_exp is 0; without a candidate but with a bin it is that of the bin alone.

    Attributes:
        index_a: (B, N) int64 best descriptor of b for each of a; not differentiable.
        score_a: (B, N) its score.
        log_sum_exp_a: (B, N) log of the sum over all descriptors of b, and the bin, of exp(score / temperature); None
            if it wasn't asked for.
        index_b, score_b, log_sum_exp_b: (B, M) the same of each descriptor of b among those of a.
        mutual: (B, N) bool, whether index_b[index_a[n]] is n.
        second_a, second_b: (B, N), (B, M) the best score of another descriptor, -inf if there is none; not
            differentiable; None if they weren't asked for.
    """

    index_a: Tensor
    score_a: Tensor
    log_sum_exp_a: Tensor | None
    index_b: Tensor
    score_b: Tensor
    log_sum_exp_b: Tensor | None
    mutual: Tensor
    second_a: Tensor | None = None
    second_b: Tensor | None = None


class SetRows(NamedTuple):
    """Which descriptors of two sets take part. Every field may be None: no restriction.

    num_a, num_b: (B,) int64, descriptors from there on are padding. valid_a (B, N), valid_b (B, M): bool, contiguous.
    """

    num_a: Tensor | None = None
    valid_a: Tensor | None = None
    num_b: Tensor | None = None
    valid_b: Tensor | None = None

    @property
    def of_a(self) -> Rows:
        return Rows(self.num_a, self.valid_a)

    @property
    def of_b(self) -> Rows:
        return Rows(self.num_b, self.valid_b)


class MatchAllProblem(NamedTuple):
    """a: (B, C, H, W), N = H * W; b: (B, C, H', W'), M = H' * W'. Lists of descriptors are maps of one row.

    temperature, bin_score: (B,) in the dtype of the arithmetic, or None where the number beside them counts; a
    fixed_bin_score of -inf is no bin. log_sum_exp, second: whether they are wanted.
    """

    a: Tensor
    b: Tensor
    rows: SetRows
    temperature: Tensor | None
    bin_score: Tensor | None
    metric: Metric
    fixed_temperature: float = 1.0
    fixed_bin_score: float = -math.inf
    log_sum_exp: bool = True
    second: bool = False

    @property
    def has_bin(self) -> bool:
        return self.bin_score is not None or self.fixed_bin_score != -math.inf


class MatchAllResult(NamedTuple):
    """`AllMatches`, and what the backward reads besides the inputs. Scores come first: torch's opcheck adds results up.

    log_sum_exp_*, second_*: (B, 0) where they weren't asked for.
    norm_a, norm_b: (B, N), (B, M) Euclidean norms of all descriptors, in the dtype of the scores.
    """

    score_a: Tensor
    index_a: Tensor
    log_sum_exp_a: Tensor
    second_a: Tensor
    score_b: Tensor
    index_b: Tensor
    log_sum_exp_b: Tensor
    second_b: Tensor
    mutual: Tensor
    norm_a: Tensor
    norm_b: Tensor


def empty_match_all_result(a: Tensor, b: Tensor, log_sum_exp: bool, second: bool) -> MatchAllResult:
    """`MatchAllResult` of maps a (B, C, H, W) and b, not filled in."""
    dtype, device, batch = accumulation_dtype(a), a.device, a.shape[0]

    def side(cells: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        score, *others = (
            torch.empty((batch, cells if wanted else 0), dtype=dtype, device=device)
            for wanted in (True, log_sum_exp, second)
        )
        return score, torch.empty((batch, cells), dtype=torch.int64, device=device), others[0], others[1]

    of_a, of_b = a.shape[2] * a.shape[3], b.shape[2] * b.shape[3]
    return MatchAllResult(
        *side(of_a),
        *side(of_b),
        torch.empty((batch, of_a), dtype=torch.bool, device=device),
        torch.empty((batch, of_a), dtype=dtype, device=device),
        torch.empty((batch, of_b), dtype=dtype, device=device),
    )


class MatchAllUpstream(NamedTuple):
    """Gradients with respect to the differentiable fields of `MatchAllResult`; None stands for zeros.

    Those of log_sum_exp say nothing where it was not computed.
    """

    score_a: Tensor | None
    log_sum_exp_a: Tensor | None
    score_b: Tensor | None
    log_sum_exp_b: Tensor | None


class MatchAllGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    a: T
    b: T
    temperature: T
    bin_score: T


class PairProblem(NamedTuple):
    """a: (B, C, H, W), b: (B, C, H', W'), as in `MatchAllProblem`; index_a, index_b: (B, K) int64 cells of them."""

    a: Tensor
    b: Tensor
    index_a: Tensor
    index_b: Tensor
    metric: Metric


class PairResult(NamedTuple):
    """scores: (B, K)."""

    scores: Tensor


class PairUpstream(NamedTuple):
    """The gradient with respect to the scores."""

    scores: Tensor


class PairGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    a: T
    b: T
