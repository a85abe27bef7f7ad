"""`sparse_match_cross_entropy`: a loss for known matches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._resolved import IDENTITY, Localization, Metric, Sampling, Truth, Window
from .common import Rows, accumulation_dtype
from .matches import MatchProblem


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


class CrossEntropyResult(NamedTuple):
    """The loss of every row, and what the backward reads besides the inputs.

    loss: (B, N). cell: (B, N) int64, the cell nearest to the true point; -1 in invalid rows, whose loss is 0.
    target_norm: (B, M), as in `MatchResult`.
    """

    loss: Tensor
    cell: Tensor
    target_norm: Tensor


def empty_cross_entropy_result(target: Tensor, queries: int) -> CrossEntropyResult:
    """`CrossEntropyResult`, not filled in."""
    (batch, _, height, width), dtype, device = target.shape, accumulation_dtype(target), target.device
    return CrossEntropyResult(
        torch.empty((batch, queries), dtype=dtype, device=device),
        torch.empty((batch, queries), dtype=torch.int64, device=device),
        torch.empty((batch, height * width), dtype=dtype, device=device),
    )


class CrossEntropyUpstream(NamedTuple):
    """The gradient with respect to the loss."""

    loss: Tensor
