"""`sparse_window_match` and `localize`: where queries match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, cast

import torch
from torch import Tensor

from .._resolved import Localization, Metric, Sampling
from .._result_options import DetailOptions
from .common import Rows, T, accumulation_dtype


class Matches(NamedTuple):
    """Where each query matches in the target.

    Invalid rows hold keypoints (-1, -1), score 0, peak -1 and log_sum_exp 0. It has the attributes of `DetailedMatches`
    too, which are None.

    Attributes:
        keypoints: (B, N, 2) matched points as (x, y), in pixels of `target_size`, or in cells if that was None.
        score: (B, N) similarity at the peak.
        peak: (B, N) int64 flat index y * W + x of the best cell; not differentiable.
        log_sum_exp: (B, N) log of the sum of exp(score / temperature) over the support, so that the
            probability of the peak is exp(score / temperature - log_sum_exp).
    """

    keypoints: Tensor
    score: Tensor
    peak: Tensor
    log_sum_exp: Tensor

    @property
    def covariance(self) -> Tensor | None:
        return None

    @property
    def second_score(self) -> Tensor | None:
        return None

    @property
    def second_peak(self) -> Tensor | None:
        return None

    @property
    def top_score(self) -> Tensor | None:
        return None

    @property
    def top_peak(self) -> Tensor | None:
        return None

    @property
    def scores(self) -> Tensor | None:
        return None


class DetailedMatches(NamedTuple):
    """`Matches`, and what `return_covariance`, `return_second`, `top_k` and `return_scores` ask for; None where not.

    Invalid rows hold covariance 0, second_score and top_score 0, and second_peak and top_peak -1.

    Attributes:
        keypoints, score, peak, log_sum_exp: as in `Matches`.
        covariance: (B, N, 2, 2) of the matched point under the softmax, E[(c - keypoint) (c - keypoint)^T], with rows
            and columns (x, y), in the units of `keypoints` squared.
        second_score: (B, N) score of the best cell outside the window, -inf where there is none; not differentiable.
        second_peak: (B, N) int64 flat index of that cell, -1 where there is none; not differentiable.
        top_score: (B, N, K) scores of the best cells, best first, -inf where there are fewer; not differentiable.
        top_peak: (B, N, K) int64 flat indices of these cells, -1 where there are fewer; not differentiable.
        scores: (B, N, Ht, Wt) similarity with every cell, of the mask or not; 0 in rows of padding.
    """

    keypoints: Tensor
    score: Tensor
    peak: Tensor
    log_sum_exp: Tensor
    covariance: Tensor | None = None
    second_score: Tensor | None = None
    second_peak: Tensor | None = None
    top_score: Tensor | None = None
    top_peak: Tensor | None = None
    scores: Tensor | None = None


def as_detailed(matches: Matches, **details: Tensor) -> Matches:
    """`DetailedMatches` with further fields; the public functions promise `Matches`, all of whose fields they have."""
    plain = DetailedMatches(*matches) if isinstance(matches, DetailedMatches) else DetailedMatches(*matches[:4])
    return cast(Matches, plain._replace(**details))


def concatenated(parts: Sequence[Matches]) -> Matches:
    """The matches of blocks of queries as those of all of them."""
    fields = (torch.cat(x, 1) if x[0] is not None else None for x in zip(*parts, strict=True))
    return type(parts[0])(*fields)  # type: ignore[arg-type]


class LocalizeDetails(NamedTuple):
    """`DetailedMatches` of an operator: an empty tensor stands for what is not asked for."""

    keypoints: Tensor
    score: Tensor
    peak: Tensor
    log_sum_exp: Tensor
    covariance: Tensor
    second_score: Tensor
    second_peak: Tensor

    @property
    def matches(self) -> Matches:
        return Matches(*self[:4])


class MatchDetails(NamedTuple):
    """`LocalizeDetails`, and what `MatchResult` keeps for the backward."""

    keypoints: Tensor
    score: Tensor
    peak: Tensor
    log_sum_exp: Tensor
    covariance: Tensor
    second_score: Tensor
    second_peak: Tensor
    target_norm: Tensor
    window_scores: Tensor

    @property
    def matches(self) -> Matches:
        return Matches(*self[:4])


class MatchResult(NamedTuple):
    """`Matches`, and what the backward reads besides the inputs.

    target_norm: (B, M) Euclidean norm of every target cell, float32 (float64 for float64 features).
    window_scores: (B, K, rows, columns) raw scores inside the windows of the first K queries, same dtype;
        (rows, columns) is `Window.box`, and the first entry is the top-left cell of the window clipped to the map.
    """

    keypoints: Tensor
    score: Tensor
    peak: Tensor
    log_sum_exp: Tensor
    target_norm: Tensor
    window_scores: Tensor

    @property
    def matches(self) -> Matches:
        return Matches(self.keypoints, self.score, self.peak, self.log_sum_exp)


def empty_matches(like: Tensor, batch: int, queries: int) -> Matches:
    """`Matches` of features `like`, not filled in."""
    dtype, device = accumulation_dtype(like), like.device
    return Matches(
        torch.empty(batch, queries, 2, dtype=dtype, device=device),  # torch takes longer to read a tuple
        torch.empty(batch, queries, dtype=dtype, device=device),
        torch.empty(batch, queries, dtype=torch.int64, device=device),
        torch.empty(batch, queries, dtype=dtype, device=device),
    )


def empty_localize_details(like: Tensor, batch: int, queries: int, details: DetailOptions) -> LocalizeDetails:
    """`LocalizeDetails` of features `like`, not filled in."""
    dtype, device = accumulation_dtype(like), like.device
    covariance = (batch, queries, 2, 2) if details.return_covariance else (0,)
    second = (batch, queries) if details.return_second else (0,)
    return LocalizeDetails(
        *empty_matches(like, batch, queries),
        torch.empty(covariance, dtype=dtype, device=device),
        torch.empty(second, dtype=dtype, device=device),
        torch.empty(second, dtype=torch.int64, device=device),
    )


def empty_match_result(target: Tensor, queries: int, kept_queries: int, box: tuple[int, int]) -> MatchResult:
    """`MatchResult` of a target, not filled in; `box` is `Window.box`."""
    (batch, _, height, width), dtype, device = target.shape, accumulation_dtype(target), target.device
    return MatchResult(
        *empty_matches(target, batch, queries),
        torch.empty((batch, height * width), dtype=dtype, device=device),
        torch.empty((batch, kept_queries, *box), dtype=dtype, device=device),
    )


def empty_match_details(
    target: Tensor, queries: int, kept_queries: int, box: tuple[int, int], details: DetailOptions
) -> MatchDetails:
    """`MatchDetails` of a target, not filled in."""
    result = empty_match_result(target, queries, kept_queries, box)
    return MatchDetails(*empty_localize_details(target, target.shape[0], queries, details), *result[4:])


class MatchProblem(NamedTuple):
    """The inputs of `sparse_window_match` and its backward.

    source: (B, C, Hs, Ws) features; without `keypoints` a list of descriptors, (B, C, 1, N).
    keypoints: (B, N, 2) float32 or float64. target: (B, C, H, W) features.
    temperature: (B, N), or None where `localization` holds the number.
    kept_queries: K of `MatchResult.window_scores`.
    """

    source: Tensor
    keypoints: Tensor | None
    target: Tensor
    rows: Rows
    temperature: Tensor | None
    sampling: Sampling | None
    metric: Metric
    localization: Localization
    kept_queries: int = 0
    details: DetailOptions = DetailOptions()

    @property
    def queries(self) -> int:
        """N."""
        return self.source.shape[3] if self.keypoints is None else self.keypoints.shape[1]


class LocalizeProblem(NamedTuple):
    """scores: (B, N, H, W); temperature as in `MatchProblem`."""

    scores: Tensor
    rows: Rows
    temperature: Tensor | None
    localization: Localization
    details: DetailOptions = DetailOptions()


class MatchGradients(NamedTuple, Generic[T]):
    """One T for each differentiable input of `sparse_window_match`: whether its gradient is needed, or the gradient."""

    source: T
    keypoints: T
    target: T
    temperature: T


class LocalizeGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    scores: T
    temperature: T


class Upstream(NamedTuple):
    """Gradients with respect to the differentiable fields of `Matches`; None stands for zeros."""

    keypoints: Tensor | None
    score: Tensor | None
    log_sum_exp: Tensor | None

    @property
    def covariance(self) -> Tensor | None:
        return None


class DetailedUpstream(NamedTuple):
    """Gradients with respect to the differentiable fields of `DetailedMatches`; None stands for zeros."""

    keypoints: Tensor | None
    score: Tensor | None
    log_sum_exp: Tensor | None
    covariance: Tensor | None


AnyUpstream = Upstream | DetailedUpstream
