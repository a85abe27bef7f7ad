"""Descriptors at keypoints, and scores of descriptors with cells: the steps of a match as operators of their own."""

from __future__ import annotations

from typing import Generic, NamedTuple

import torch
from torch import Tensor

from .._resolved import Metric, Sampling
from .common import T, accumulation_dtype


class GatherProblem(NamedTuple):
    """features: (B, C, H, W); keypoints: (B, N, 2)."""

    features: Tensor
    keypoints: Tensor
    sampling: Sampling


class GatherResult(NamedTuple):
    """descriptors: (B, N, C) in the dtype of the features."""

    descriptors: Tensor


class GatherUpstream(NamedTuple):
    """The gradient with respect to the descriptors."""

    descriptors: Tensor


class GatherGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    features: T
    keypoints: T


class SimilarityProblem(NamedTuple):
    """descriptors: (B, N, C); target: (B, C, H, W)."""

    descriptors: Tensor
    target: Tensor
    metric: Metric


class SimilarityResult(NamedTuple):
    """scores: (B, N, H, W); target_norm: (B, M), as in `MatchResult`."""

    scores: Tensor
    target_norm: Tensor


def empty_similarity_result(descriptors: Tensor, target: Tensor) -> SimilarityResult:
    """`SimilarityResult`, not filled in."""
    (batch, _, height, width), dtype, device = target.shape, accumulation_dtype(target), target.device
    return SimilarityResult(
        torch.empty((batch, descriptors.shape[1], height, width), dtype=dtype, device=device),
        torch.empty((batch, height * width), dtype=dtype, device=device),
    )


class SimilarityUpstream(NamedTuple):
    """The gradient with respect to the scores."""

    scores: Tensor


class SimilarityGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    descriptors: T
    target: T
