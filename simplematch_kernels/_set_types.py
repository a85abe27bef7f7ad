"""Records of two sets of descriptors: what `match_all` and `pair_scores` return, and the gradients of both."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from torch import Tensor

T = TypeVar("T")


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


class MatchAllGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    a: T
    b: T
    temperature: T
    bin_score: T


class MatchAllUpstream(NamedTuple):
    """Gradients with respect to the differentiable fields of `MatchAllResult`; None stands for zeros.

    Those of log_sum_exp say nothing where it was not computed.
    """

    score_a: Tensor | None
    log_sum_exp_a: Tensor | None
    score_b: Tensor | None
    log_sum_exp_b: Tensor | None
