"""`local_correlation`: scores around given points."""

from __future__ import annotations

from typing import Generic, NamedTuple

from torch import Tensor

from .._resolved import Metric, Sampling
from .common import Rows, T


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


class CorrelationUpstream(NamedTuple):
    """The gradient with respect to the correlation."""

    correlation: Tensor


class CorrelationGradients(NamedTuple, Generic[T]):
    """As `MatchGradients`."""

    queries: T
    target: T
    coords: T
