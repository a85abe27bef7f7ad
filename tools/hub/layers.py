"""Layers without state, whose `forward` the `kernels` library puts into a model's own modules.

Each calls the function of its name with the mapping `options` of the module that it is put into, or with the defaults
where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ._types import AllMatches, Matches
from .functional.gather import gather_keypoints
from .functional.match_all import match_all
from .functional.matching import cosine_similarity, localize, match_descriptors, sparse_window_match


def _options(layer: nn.Module) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(layer, "options", {})
    return found


class SparseWindowMatch(nn.Module):
    """Source maps (B, C, H, W), target maps (B, C, Ht, Wt) and keypoints (B, N, 2) of the source to matches (B, N)."""

    can_torch_compile: bool = True
    options: Mapping[str, Any]

    def forward(self, source: Tensor, target: Tensor, keypoints: Tensor) -> Matches:
        return sparse_window_match(source, target, keypoints, **_options(self))


class MatchDescriptors(nn.Module):
    """Descriptors (B, N, C) and target maps (B, C, Ht, Wt) to matches (B, N)."""

    can_torch_compile: bool = True
    options: Mapping[str, Any]

    def forward(self, descriptors: Tensor, target: Tensor) -> Matches:
        return match_descriptors(descriptors, target, **_options(self))


class MatchAll(nn.Module):
    """Two sets of descriptors, (B, N, C) and (B, M, C), to the best partners of each, both ways."""

    can_torch_compile: bool = True
    options: Mapping[str, Any]

    def forward(self, a: Tensor, b: Tensor) -> AllMatches:
        return match_all(a, b, **_options(self))


class GatherKeypoints(nn.Module):
    """Maps (B, C, H, W) and keypoints (B, N, 2) to descriptors (B, N, C)."""

    can_torch_compile: bool = True
    options: Mapping[str, Any]

    def forward(self, features: Tensor, keypoints: Tensor) -> Tensor:
        return gather_keypoints(features, keypoints, **_options(self))


class CosineSimilarity(nn.Module):
    """Descriptors (B, N, C) and target maps (B, C, Ht, Wt) to scores (B, N, Ht, Wt)."""

    can_torch_compile: bool = True
    options: Mapping[str, Any]

    def forward(self, descriptors: Tensor, target: Tensor) -> Tensor:
        return cosine_similarity(descriptors, target, **_options(self))


class Localize(nn.Module):
    """Scores (B, N, H, W) to matches (B, N)."""

    can_torch_compile: bool = True
    options: Mapping[str, Any]

    def forward(self, scores: Tensor) -> Matches:
        return localize(scores, **_options(self))
