"""`local_correlation` and its backward: the launches of their kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._types import (
    CorrelationGradients,
    CorrelationProblem,
    CorrelationResult,
    CorrelationUpstream,
    Given,
    accumulation_dtype,
)
from . import _arguments as to
from . import _steps
from ._groups import encode
from ._launch import ALL_REGISTERS, ceil_div, launch, row_block
from .local_correlation import CorrelationSizes, correlation_samples_kernel, correlation_scores_kernel
from .local_correlation_backward import (
    correlation_coords_kernel,
    correlation_queries_kernel,
    correlation_target_kernel,
    correlation_weights_kernel,
)


class Correlation:
    """One problem: its sizes, the scores of the cells around its points, and the norms that these are divided by.

    Attributes:
        cells: J, the cells of a query.
        scores: (B, N, J). query_norms: (B, N) and norms (B, M), for the cosine, else None.
    """

    def __init__(self, p: CorrelationProblem) -> None:
        self.p = p
        (B, C, H, W), N = p.target.shape, p.coords.shape[1]
        self.B, self.N, self.C, self.M = B, N, C, H * W
        extra = 1 if p.sampling.mode == "bilinear" else 0
        rows, columns = p.radius
        if p.offsets is None:
            self.samples = (2 * rows + 1) * (2 * columns + 1)
            self.cells = (2 * rows + 1 + extra) * (2 * columns + 1 + extra)
        else:
            self.samples = p.offsets.shape[1]
            self.cells = self.samples * (1 + 3 * extra)
        valid_b = 0 if p.rows.valid is None else p.rows.valid.stride(0)
        numbers = (N, C, H, W, p.queries.shape[3], rows, columns, self.samples, self.cells, valid_b)
        self.sizes = CorrelationSizes._make(encode(x) for x in numbers)
        self.dtype = accumulation_dtype(p.target)
        self.block_c = min(32 if self.dtype == torch.float64 else 64, max(16, 1 << (C - 1).bit_length()))
        self.points: dict[str, Any] = {
            "coords": p.coords, "offsets": p.offsets, "sizes": self.sizes,
            "coords_strides": to.point_strides(p.coords), "offsets_strides": to.point_strides(p.offsets),
            "to_cells": to.to_cells(p.sampling), "SAMPLING": to.sampling_switches(p.sampling),
        }  # fmt: skip
        self.rows = {"num_keypoints": p.rows.num_keypoints, "valid": p.rows.valid}
        self.maps: dict[str, Any] = {
            "queries": p.queries, "target": p.target, "queries_strides": to.encoded_map_strides(p.queries),
            "target_strides": to.encoded_map_strides(p.target), "eps": p.metric.eps,
            "METRIC": to.metric_switches(p.metric),
        }  # fmt: skip
        self._score()

    def _new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.p.target.device)

    def _launch(self, kernel: Any, programs: int, arguments: dict[str, Any], registers: int | None = None) -> None:
        launch(kernel, programs, self.p.target.device, arguments, 4, 2, registers)

    def _score(self) -> None:
        self.norms = self.query_norms = None
        if self.p.metric.kind == "cosine":
            self.norms, self.query_norms = self._new(self.B, self.M), self._new(self.B, self.N)
            _steps.norms(self.p.target, self.norms)
        self.scores = self._new(self.B, self.N, self.cells)
        block = 32
        arguments = {
            **self.points, **self.rows, **self.maps, "norms": self.norms, "query_norms": self.query_norms,
            "scores": self.scores, "BLOCK_J": block, "BLOCK_C": self.block_c,
        }  # fmt: skip
        self._launch(correlation_scores_kernel, self.B * self.N * ceil_div(self.cells, block), arguments)

    def sample(self, samples: Tensor) -> None:
        arguments = {
            **self.points, **self.rows, "scores": self.scores, "samples": samples, "scale": self.p.scale, "BLOCK": 256,
        }  # fmt: skip
        self._launch(correlation_samples_kernel, self.B * ceil_div(self.N * self.samples, 256), arguments)

    def weigh(self, upstream: Tensor, with_cells: bool) -> None:
        """weights (B, N, J), and the cell of each (B, N, J)."""
        self.weights = torch.empty_like(self.scores)
        self.of_cell = self._new(self.B, self.N, self.cells, dtype=torch.int64) if with_cells else None
        arguments = {
            **self.points, **self.rows, "scores": self.scores, "upstream": upstream, "weights": self.weights,
            "cells": self.of_cell, "upstream_strides": to.point_strides(upstream), "scale": self.p.scale, "BLOCK": 256,
        }  # fmt: skip
        self._launch(correlation_weights_kernel, self.B * ceil_div(self.N * self.cells, 256), arguments)

    def _gradient_arguments(self, gradient: Tensor) -> dict[str, Any]:
        return {
            **self.maps, "sizes": self.sizes, "norms": self.norms, "query_norms": self.query_norms,
            "scores": self.scores, "weights": self.weights, "gradient": gradient,
            "gradient_strides": to.encoded_map_strides(gradient), "BLOCK_C": self.block_c,
        }  # fmt: skip

    def query_backward(self, gradient: Tensor) -> None:
        arguments = {**self.points, **self._gradient_arguments(gradient), "BLOCK_J": 32}
        programs = self.B * self.N * ceil_div(self.C, self.block_c)
        self._launch(correlation_queries_kernel, programs, arguments, ALL_REGISTERS)

    def target_backward(self, gradient: Tensor) -> None:
        """Entries sorted by their cell: a cell sums its own, in the order of the queries."""
        assert self.of_cell is not None
        cells, order = self.of_cell.flatten().sort(stable=True)
        wanted = torch.arange(self.B * self.M + 1, device=cells.device)
        starts = torch.searchsorted(cells, wanted)
        arguments = {**self._gradient_arguments(gradient), "order": order, "starts": starts, "BLOCK_E": 16}
        self._launch(correlation_target_kernel, self.B * self.M * ceil_div(self.C, self.block_c), arguments)

    def coords_backward(self, upstream: Tensor, gradient: Tensor) -> None:
        arguments = {
            **self.points, **self.rows, "scores": self.scores, "upstream": upstream, "gradient": gradient,
            "upstream_strides": to.point_strides(upstream), "gradient_strides": to.point_strides(gradient),
            "scale": self.p.scale, "BLOCK": min(128, row_block(self.samples)),
        }  # fmt: skip
        self._launch(correlation_coords_kernel, self.B * self.N, arguments)


def local_correlation(p: CorrelationProblem) -> CorrelationResult:
    B, N = p.coords.shape[:2]
    rows, columns = p.radius
    samples = (2 * rows + 1) * (2 * columns + 1) if p.offsets is None else p.offsets.shape[1]
    found = torch.empty((B, N, samples), dtype=accumulation_dtype(p.target), device=p.target.device)
    if B * N > 0:
        Correlation(p).sample(found)
    return CorrelationResult(found)


def local_correlation_backward(
    p: CorrelationProblem, upstream: CorrelationUpstream, needs: CorrelationGradients[bool]
) -> CorrelationGradients[Given]:
    B, N = p.coords.shape[:2]
    found = CorrelationGradients(
        torch.empty_like(p.queries) if needs.queries else None,
        torch.empty_like(p.target) if needs.target else None,
        torch.empty_like(p.coords) if needs.coords else None,
    )
    if B * N == 0:
        return CorrelationGradients(*(x if x is None else x.zero_() for x in found))
    correlation, gradient = Correlation(p), upstream.correlation
    if found.queries is not None or found.target is not None:
        correlation.weigh(gradient, found.target is not None)
    if found.queries is not None:
        correlation.query_backward(found.queries)
    if found.target is not None:
        correlation.target_backward(found.target)
    if found.coords is not None and p.sampling.mode == "bilinear":
        correlation.coords_backward(gradient, found.coords)
    elif found.coords is not None:
        found.coords.zero_()
    return found
