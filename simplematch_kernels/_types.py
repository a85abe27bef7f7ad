"""Records of tensors by name: what the public functions return, and what operators and backends exchange.

Every operator has a problem (its inputs), a result, gradients that arrive (upstream) and gradients that leave.
"""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from ._options import DetailOptions
from ._resolved import IDENTITY, Localization, Metric, Sampling, Truth, Window
from ._set_types import AllMatches as AllMatches
from ._set_types import MatchAllGradients as MatchAllGradients
from ._set_types import MatchAllResult as MatchAllResult
from ._set_types import MatchAllUpstream as MatchAllUpstream
from ._set_types import PairGradients as PairGradients
from ._set_types import PairResult as PairResult
from ._set_types import PairUpstream as PairUpstream

T = TypeVar("T")


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


class DetailedMatches(NamedTuple):
    """`Matches`, and what `return_covariance` and `return_second` ask for; None where they don't.

    Invalid rows hold covariance 0, second_score 0 and second_peak -1.

    Attributes:
        keypoints, score, peak, log_sum_exp: as in `Matches`.
        covariance: (B, N, 2, 2) of the matched point under the softmax, E[(c - keypoint) (c - keypoint)^T], with rows
            and columns (x, y), in the units of `keypoints` squared.
        second_score: (B, N) score of the best cell outside the window, -inf where there is none; not differentiable.
        second_peak: (B, N) int64 flat index of that cell, -1 where there is none; not differentiable.
    """

    keypoints: Tensor
    score: Tensor
    peak: Tensor
    log_sum_exp: Tensor
    covariance: Tensor | None = None
    second_score: Tensor | None = None
    second_peak: Tensor | None = None


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


class DenseMatches(NamedTuple):
    """Where each source cell matches in the target. Cells outside the mask hold flow (0, 0), score 0 and log_sum_exp 0.

    Attributes:
        flow: (B, 2, Hs, Ws) from the cell's own place, in pixels of `source_size`, to the matched point in pixels of
            `target_size`, as (x, y); each in cells if its size was None.
        score: (B, Hs, Ws) similarity at the peak.
        log_sum_exp: (B, Hs, Ws) as in `Matches`.
        mutual: (B, Hs, Ws) bool, whether the best source cell of the peak is this one; None if not asked for.
    """

    flow: Tensor
    score: Tensor
    log_sum_exp: Tensor
    mutual: Tensor | None


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


class Rows(NamedTuple):
    """Which query rows and which target cells take part. Every field may be None: no restriction.

    num_keypoints: (B,) int64, rows n >= num_keypoints[b] are padding.
    valid: (B, N) bool, contiguous; False rows are padding. target_mask: (B, M) bool, contiguous; False cells
        can be neither peak nor support, and a row without a True cell is invalid.
    """

    num_keypoints: Tensor | None = None
    valid: Tensor | None = None
    target_mask: Tensor | None = None


ALL_ROWS = Rows()


class CrossEntropyResult(NamedTuple):
    """The loss of every row, and what the backward reads besides the inputs.

    loss: (B, N). cell: (B, N) int64, the cell nearest to the true point; -1 in invalid rows, whose loss is 0.
    target_norm: (B, M), as in `MatchResult`.
    """

    loss: Tensor
    cell: Tensor
    target_norm: Tensor


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


def empty_similarity_result(descriptors: Tensor, target: Tensor) -> SimilarityResult:
    """`SimilarityResult`, not filled in."""
    (batch, _, height, width), dtype, device = target.shape, accumulation_dtype(target), target.device
    return SimilarityResult(
        torch.empty((batch, descriptors.shape[1], height, width), dtype=dtype, device=device),
        torch.empty((batch, height * width), dtype=dtype, device=device),
    )


def empty_match_details(
    target: Tensor, queries: int, kept_queries: int, box: tuple[int, int], details: DetailOptions
) -> MatchDetails:
    """`MatchDetails` of a target, not filled in."""
    result = empty_match_result(target, queries, kept_queries, box)
    return MatchDetails(*empty_localize_details(target, target.shape[0], queries, details), *result[4:])


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


def empty_cross_entropy_result(target: Tensor, queries: int) -> CrossEntropyResult:
    """`CrossEntropyResult`, not filled in."""
    (batch, _, height, width), dtype, device = target.shape, accumulation_dtype(target), target.device
    return CrossEntropyResult(
        torch.empty((batch, queries), dtype=dtype, device=device),
        torch.empty((batch, queries), dtype=torch.int64, device=device),
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


class PairProblem(NamedTuple):
    """a: (B, C, H, W), b: (B, C, H', W'), as in `MatchAllProblem`; index_a, index_b: (B, K) int64 cells of them."""

    a: Tensor
    b: Tensor
    index_a: Tensor
    index_b: Tensor
    metric: Metric


class CrossEntropyProblem(NamedTuple):
    """The inputs of `sparse_match_cross_entropy`: those of a match, and the true points.

    target_keypoints: (B, N, 2) float32 or float64.
    temperature: (B, N), or None where `truth` holds the number.
    """

    source: Tensor
    keypoints: Tensor | None
    target: Tensor
    target_keypoints: Tensor
    rows: Rows
    temperature: Tensor | None
    sampling: Sampling | None
    metric: Metric
    truth: Truth

    @property
    def match(self) -> MatchProblem:
        """The match whose softmax, over the whole map, is compared with the truth."""
        whole = Localization(Window(*self.target.shape[2:]), self.truth.temperature, IDENTITY, IDENTITY, 0.0)
        return MatchProblem(
            self.source, self.keypoints, self.target, self.rows, self.temperature, self.sampling, self.metric, whole
        )


class NeighbourProblem(NamedTuple):
    """features: (B, C, H, W)."""

    features: Tensor


class NeighbourResult(NamedTuple):
    """products: (B, 5, H, W) float64; 0 where a neighbour lies outside the map."""

    products: Tensor


class NeighbourUpstream(NamedTuple):
    """The gradient with respect to the products."""

    products: Tensor


class UpsampledProblem(NamedTuple):
    """scores: (B, N, h, w) of the cells of a map that is read as if it had `upsample` = (H, W) cells.

    products: (B, 5, h, w), those of `NeighbourResult`; None for the metric "dot".
    rows: the target mask is one of H x W cells. temperature: as in `MatchProblem`.
    """

    scores: Tensor
    products: Tensor | None
    rows: Rows
    temperature: Tensor | None
    upsample: tuple[int, int]
    metric: Metric
    localization: Localization


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


class NeighbourGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    features: T


class UpsampledGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    scores: T
    products: T
    temperature: T


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


class GatherUpstream(NamedTuple):
    """The gradient with respect to the descriptors."""

    descriptors: Tensor


class SimilarityUpstream(NamedTuple):
    """The gradient with respect to the scores."""

    scores: Tensor


class CrossEntropyUpstream(NamedTuple):
    """The gradient with respect to the loss."""

    loss: Tensor


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

    def sparse_window_match_detailed(self, problem: MatchProblem) -> MatchDetails: ...

    def sparse_window_match_detailed_backward(
        self, problem: MatchProblem, result: MatchDetails, upstream: DetailedUpstream, needs: MatchGradients[bool]
    ) -> MatchGradients[Given]: ...

    def localize_detailed(self, problem: LocalizeProblem) -> LocalizeDetails: ...

    def localize_detailed_backward(
        self,
        problem: LocalizeProblem,
        result: LocalizeDetails,
        upstream: DetailedUpstream,
        needs: LocalizeGradients[bool],
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

    def match_all(self, problem: MatchAllProblem) -> MatchAllResult: ...

    def match_all_backward(
        self,
        problem: MatchAllProblem,
        result: MatchAllResult,
        upstream: MatchAllUpstream,
        needs: MatchAllGradients[bool],
    ) -> MatchAllGradients[Given]: ...

    def pair_scores(self, problem: PairProblem) -> PairResult: ...

    def pair_scores_backward(
        self, problem: PairProblem, result: PairResult, upstream: PairUpstream, needs: PairGradients[bool]
    ) -> PairGradients[Given]: ...

    def sparse_match_cross_entropy(self, problem: CrossEntropyProblem) -> CrossEntropyResult: ...

    def sparse_match_cross_entropy_backward(
        self,
        problem: CrossEntropyProblem,
        result: CrossEntropyResult,
        upstream: CrossEntropyUpstream,
        needs: MatchGradients[bool],
    ) -> MatchGradients[Given]: ...

    def neighbour_products(self, problem: NeighbourProblem) -> NeighbourResult: ...

    def neighbour_products_backward(
        self, problem: NeighbourProblem, upstream: NeighbourUpstream, needs: NeighbourGradients[bool]
    ) -> NeighbourGradients[Given]: ...

    def localize_upsampled(self, problem: UpsampledProblem) -> Matches: ...

    def localize_upsampled_backward(
        self, problem: UpsampledProblem, result: Matches, upstream: Upstream, needs: UpsampledGradients[bool]
    ) -> UpsampledGradients[Given]: ...

    def local_correlation(self, problem: CorrelationProblem) -> CorrelationResult: ...

    def local_correlation_backward(
        self, problem: CorrelationProblem, upstream: CorrelationUpstream, needs: CorrelationGradients[bool]
    ) -> CorrelationGradients[Given]: ...
