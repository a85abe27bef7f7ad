"""The functions of a backend."""

from __future__ import annotations

from typing import Protocol

from .common import Given
from .correlation import CorrelationGradients, CorrelationProblem, CorrelationResult, CorrelationUpstream
from .cross_entropy import CrossEntropyProblem, CrossEntropyResult, CrossEntropyUpstream
from .matches import (
    DetailedUpstream,
    LocalizeDetails,
    LocalizeGradients,
    LocalizeProblem,
    MatchDetails,
    Matches,
    MatchGradients,
    MatchProblem,
    MatchResult,
    Upstream,
)
from .sets import (
    MatchAllGradients,
    MatchAllProblem,
    MatchAllResult,
    MatchAllUpstream,
    PairGradients,
    PairProblem,
    PairResult,
    PairUpstream,
)
from .steps import (
    GatherGradients,
    GatherProblem,
    GatherResult,
    GatherUpstream,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
)
from .upsample import (
    NeighbourGradients,
    NeighbourProblem,
    NeighbourResult,
    NeighbourUpstream,
    UpsampledGradients,
    UpsampledProblem,
)


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
