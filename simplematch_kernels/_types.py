"""Records of tensors by name: what the public functions return, and what operators and backends exchange.

Every operator has a problem (its inputs), a result, gradients that arrive (upstream) and gradients that leave.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from ._resolved import Localization, Metric, Sampling

T = TypeVar("T")


class Matches(NamedTuple):
    """Where each query matches in the target.

    Invalid rows hold keypoints (-1, -1), score 0, peak -1 and log_sum_exp 0.

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


class GatherResult(NamedTuple):
    """descriptors: (B, N, C) in the dtype of the features."""

    descriptors: Tensor


class SimilarityResult(NamedTuple):
    """scores: (B, N, H, W); target_norm: (B, M), as in `MatchResult`."""

    scores: Tensor
    target_norm: Tensor


class Rows(NamedTuple):
    """Which query rows and which target cells take part. Every field may be None: no restriction.

    num_keypoints: (B,) int64, rows n >= num_keypoints[b] are padding.
    valid: (B, N) bool, contiguous; False rows are padding. target_mask: (B, M) bool, contiguous; False cells
        can be neither peak nor support, and a row without a True cell is invalid.
    """

    num_keypoints: Tensor | None = None
    valid: Tensor | None = None
    target_mask: Tensor | None = None


def accumulation_dtype(features: Tensor) -> torch.dtype:
    """float64 for float64 features, float32 for everything else."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def empty_matches(like: Tensor, batch: int, queries: int) -> Matches:
    """`Matches` of features `like`, not filled in."""
    dtype, device = accumulation_dtype(like), like.device
    return Matches(
        torch.empty(batch, queries, 2, dtype=dtype, device=device),  # torch takes longer to read a tuple
        torch.empty(batch, queries, dtype=dtype, device=device),
        torch.empty(batch, queries, dtype=torch.int64, device=device),
        torch.empty(batch, queries, dtype=dtype, device=device),
    )


def empty_match_result(target: Tensor, queries: int, kept_queries: int, box: tuple[int, int]) -> MatchResult:
    """`MatchResult` of a target, not filled in; `box` is `Window.box`."""
    (batch, _, height, width), dtype, device = target.shape, accumulation_dtype(target), target.device
    return MatchResult(
        *empty_matches(target, batch, queries),
        torch.empty((batch, height * width), dtype=dtype, device=device),
        torch.empty((batch, kept_queries, *box), dtype=dtype, device=device),
    )


def empty_similarity_result(descriptors: Tensor, target: Tensor) -> SimilarityResult:
    """`SimilarityResult`, not filled in."""
    (batch, _, height, width), dtype, device = target.shape, accumulation_dtype(target), target.device
    return SimilarityResult(
        torch.empty((batch, descriptors.shape[1], height, width), dtype=dtype, device=device),
        torch.empty((batch, height * width), dtype=dtype, device=device),
    )


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


class GatherProblem(NamedTuple):
    """features: (B, C, H, W); keypoints: (B, N, 2)."""

    features: Tensor
    keypoints: Tensor
    sampling: Sampling


class SimilarityProblem(NamedTuple):
    """descriptors: (B, N, C); target: (B, C, H, W)."""

    descriptors: Tensor
    target: Tensor
    metric: Metric


class CorrelationProblem(NamedTuple):
    """queries: (B, C, Hq, Wq), N = Hq * Wq; target: (B, C, H, W); coords: (B, N, 2); offsets: (B, K, 2) in cells.

    Without offsets the samples are the window of (2 * radius[0] + 1) x (2 * radius[1] + 1) cells, row by row.
    """

    queries: Tensor
    target: Tensor
    coords: Tensor
    offsets: Tensor | None
    rows: Rows
    sampling: Sampling
    metric: Metric
    radius: tuple[int, int]
    scale: float


class CorrelationResult(NamedTuple):
    """correlation: (B, N, K)."""

    correlation: Tensor


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


class GatherGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    features: T
    keypoints: T


class SimilarityGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    descriptors: T
    target: T


class CorrelationGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    queries: T
    target: T
    coords: T


class Upstream(NamedTuple):
    """Gradients with respect to the differentiable fields of `Matches`; None stands for zeros."""

    keypoints: Tensor | None
    score: Tensor | None
    log_sum_exp: Tensor | None


class GatherUpstream(NamedTuple):
    """The gradient with respect to the descriptors."""

    descriptors: Tensor


class SimilarityUpstream(NamedTuple):
    """The gradient with respect to the scores."""

    scores: Tensor


class CorrelationUpstream(NamedTuple):
    """The gradient with respect to the correlation."""

    correlation: Tensor


Given = Tensor | None


class Backend(Protocol):
    """The functions of a backend: tensors in, tensors out, no autograd. `reference/backend.py` defines their results.

    A gradient has the dtype and memory format of its input, and is None where `needs` is False.
    """

    def sparse_window_match(self, problem: MatchProblem) -> MatchResult: ...

    def sparse_window_match_backward(
        self, problem: MatchProblem, result: MatchResult, upstream: Upstream, needs: MatchGradients[bool]
    ) -> MatchGradients[Given]: ...

    def localize(self, problem: LocalizeProblem) -> Matches: ...

    def localize_backward(
        self, problem: LocalizeProblem, result: Matches, upstream: Upstream, needs: LocalizeGradients[bool]
    ) -> LocalizeGradients[Given]: ...

    def gather_keypoints(self, problem: GatherProblem) -> GatherResult: ...

    def gather_keypoints_backward(
        self, problem: GatherProblem, upstream: GatherUpstream, needs: GatherGradients[bool]
    ) -> GatherGradients[Given]: ...

    def cosine_similarity(self, problem: SimilarityProblem) -> SimilarityResult: ...

    def cosine_similarity_backward(
        self,
        problem: SimilarityProblem,
        result: SimilarityResult,
        upstream: SimilarityUpstream,
        needs: SimilarityGradients[bool],
    ) -> SimilarityGradients[Given]: ...

    def local_correlation(self, problem: CorrelationProblem) -> CorrelationResult: ...

    def local_correlation_backward(
        self, problem: CorrelationProblem, upstream: CorrelationUpstream, needs: CorrelationGradients[bool]
    ) -> CorrelationGradients[Given]: ...
