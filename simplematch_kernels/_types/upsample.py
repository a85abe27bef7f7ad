"""The option `upsample`: products of neighbouring cells, and matches in a map that is never made."""

from __future__ import annotations

from typing import Generic, NamedTuple

from torch import Tensor

from .._resolved import Localization, Metric
from .common import Rows, T


class NeighbourProblem(NamedTuple):
    """features: (B, C, H, W)."""

    features: Tensor


class NeighbourResult(NamedTuple):
    """products: (B, 5, H, W) float64; 0 where a neighbour lies outside the map."""

    products: Tensor


class NeighbourUpstream(NamedTuple):
    """The gradient with respect to the products."""

    products: Tensor


class NeighbourGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    features: T


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


class UpsampledGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    scores: T
    products: T
    temperature: T
