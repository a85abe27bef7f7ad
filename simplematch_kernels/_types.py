"""What the public functions return, and what the backends hand to the operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from ._options import Localization, Metric, Sampling


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


class ForwardResult(NamedTuple):
    """`Matches`, and what its backward reads besides the inputs.

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


class Rows(NamedTuple):
    """Which query rows and which target cells take part. Every field may be None: no restriction.

    num_keypoints: (B,) int64, rows n >= num_keypoints[b] are padding.
    valid: (B, N) bool, contiguous; False rows are padding. target_mask: (B, M) bool, contiguous; False cells
        can be neither peak nor support, and a row without a True cell is invalid.
    """

    num_keypoints: Tensor | None
    valid: Tensor | None
    target_mask: Tensor | None


class Upstream(NamedTuple):
    """Gradients that arrive at the outputs; None stands for zeros."""

    keypoints: Tensor | None
    score: Tensor | None
    log_sum_exp: Tensor | None


Gradients = tuple[Tensor | None, ...]


class Backend(Protocol):
    """The functions of a backend: tensors in, tensors out, no autograd. `reference/backend.py` defines their results.

    Without keypoints, `source` is a list of descriptors, (B, C, 1, N). `temperature` is (B, N), or None where
    `localization` holds a number. Gradients come in the order of the inputs they belong to, in those inputs' dtype
    and memory format; None where `needs` is False.
    """

    def sparse_window_match(
        self,
        source: Tensor,
        keypoints: Tensor | None,
        target: Tensor,
        rows: Rows,
        temperature: Tensor | None,
        sampling: Sampling | None,
        metric: Metric,
        localization: Localization,
        kept_queries: int,
    ) -> ForwardResult: ...

    def sparse_window_match_backward(
        self,
        upstream: Upstream,
        forward: ForwardResult,
        source: Tensor,
        keypoints: Tensor | None,
        target: Tensor,
        rows: Rows,
        temperature: Tensor | None,
        sampling: Sampling | None,
        metric: Metric,
        localization: Localization,
        needs: Sequence[bool],
    ) -> Gradients: ...

    def localize(
        self, scores: Tensor, rows: Rows, temperature: Tensor | None, localization: Localization
    ) -> Matches: ...

    def localize_backward(
        self,
        upstream: Upstream,
        matches: Matches,
        scores: Tensor,
        rows: Rows,
        temperature: Tensor | None,
        localization: Localization,
        needs: Sequence[bool],
    ) -> Gradients: ...

    def gather_keypoints(self, features: Tensor, keypoints: Tensor, sampling: Sampling) -> Tensor: ...

    def gather_keypoints_backward(
        self, gradient: Tensor, features: Tensor, keypoints: Tensor, sampling: Sampling, needs: Sequence[bool]
    ) -> Gradients: ...

    def cosine_similarity(self, descriptors: Tensor, target: Tensor, metric: Metric) -> tuple[Tensor, Tensor]: ...

    def cosine_similarity_backward(
        self,
        gradient: Tensor,
        scores: Tensor,
        target_norm: Tensor,
        descriptors: Tensor,
        target: Tensor,
        metric: Metric,
        needs: Sequence[bool],
    ) -> Gradients: ...
