"""The launches of `cross_entropy` and `cross_entropy_backward`, and the backward in blocks of queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _resolved
from .._resolved import Truth
from .._types import CrossEntropyProblem, CrossEntropyResult, CrossEntropyUpstream, MatchResult, Rows, Upstream
from . import _arguments as to
from . import _launch, _steps
from ._blocks import Backward, Block, part, part_of_mask
from ._groups import WindowSwitches, encode
from ._step_records import Gradient, Queries, Source
from .sparse_match_cross_entropy import cross_entropy_backward_kernel, cross_entropy_kernel

WHOLE = WindowSwitches(SHIFT=True, SHAPE=to.SHAPES["square"], GAUSSIAN=False, OUTSIDE=False)


class EntropySizes(NamedTuple):
    """Sizes of `cross_entropy`, encoded. *_b, *_n: strides of images and queries."""

    N: int
    H: int
    W: int
    first_query: int
    kernel_size: int
    valid_b: int
    temperature_b: int
    temperature_n: int
    out_b: int
    mask_b: int
    mask_n: int


class EntropyBackwardSizes(NamedTuple):
    """Sizes of `cross_entropy_backward`, encoded, as above."""

    N: int
    C: int
    H: int
    W: int
    source_rows: int
    source_columns: int
    kernel_size: int
    cell_b: int
    upstream_b: int
    upstream_n: int
    temperature_b: int
    temperature_n: int
    scalar_b: int
    queries_b: int
    mask_b: int
    mask_n: int


def cross_entropy(
    scores: Tensor,
    points: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    truth: Truth,
    loss: Tensor,
    cell: Tensor,
    first_query: int,
) -> None:
    """Fill loss and cell (B, N) from scores (B, N, H, W) and true points (B, N, 2)."""
    B, N, H, W = scores.shape
    block = _launch.row_block(H * W, 512 if loss.dtype == torch.float64 else 2048)
    sizes = EntropySizes(
        encode(N), encode(H), encode(W), encode(first_query), encode(truth.kernel_size),
        to.row_strides(rows.valid)[0], *to.row_strides(temperature), encode(loss.stride(0)),
        *to.mask_strides(rows.target_mask),
    )  # fmt: skip
    arguments = {
        "scores": scores, "points": points, "num_keypoints": rows.num_keypoints, "valid": rows.valid,
        "target_mask": rows.target_mask, "temperature": temperature, "loss_out": loss, "cell_out": cell,
        "sizes": sizes, "scores_strides": to.score_strides(scores), "points_strides": to.point_strides(points),
        "to_cells": to.affine_maps(truth.to_cells_x, truth.to_cells_y, "corner"),
        "temperature_value": truth.temperature, "sigma": truth.sigma,
        "WINDOW": WHOLE, "BLOCK": block, "BLOCK_TRUE": _block_of_truth(truth, H, W),
    }  # fmt: skip
    warps, registers = _launch.row_warps(block), _launch.ALL_REGISTERS
    _steps.launch(cross_entropy_kernel, B * N, scores.device, arguments, warps, registers=registers)


class EntropyBackward(Backward):
    """The backward of `sparse_match_cross_entropy`: that of a match of which the forward kept no scores.

    All queries of all images at once if their scores and the gradients of these fit the budget, else image by image.
    """

    def __init__(
        self, p: CrossEntropyProblem, source: Source, forward: CrossEntropyResult, upstream: CrossEntropyUpstream
    ) -> None:
        nothing = forward.loss.new_empty((*forward.loss.shape[:1], 0, 1, 1))
        kept = MatchResult(forward.loss, forward.loss, forward.cell, forward.loss, forward.target_norm, nothing)
        super().__init__(p.match, source, kept, Upstream(None, None, None))
        self.points, self.truth, self.loss, self.arriving = p.target_keypoints, p.truth, forward.loss, upstream.loss

    def blocks(self) -> Iterator[Block]:
        B, N = self.loss.shape
        map_bytes = self.map_size[0] * self.map_size[1] * self.dtype.itemsize
        if 2 * B * N * map_bytes <= _resolved.SCORE_BUDGET_BYTES:
            yield Block(slice(None), slice(0, N), True, True, whole=True)
        else:
            yield from super().blocks()

    def localize_backward(self, block: Block, queries: Queries | None, temperature_out: Tensor | None) -> Gradient:
        b, n = block.b, block.n
        scores = self._similarity(b, n)
        ds, cell = torch.empty_like(scores), self.forward.peak[b, n]
        self._launch(
            scores, ds, b, n, None if queries is None else queries.part(b, n), part(temperature_out, b, n)
        )  # fmt: skip
        return Gradient(ds, scores, cell, self.localization.window)

    def _launch(
        self, scores: Tensor, ds: Tensor, b: slice, n: slice, queries: Queries | None, temperature_out: Tensor | None
    ) -> None:
        B, N, H, W = scores.shape
        cell, loss, arriving = self.forward.peak[b, n], self.loss[b, n], self.arriving[b, n]
        temperature, points, mask = (
            part(self.temperature, b, n),
            self.points[b, n],
            part_of_mask(self.rows.target_mask, b, n),
        )
        scalars = temperature_out if queries is None else queries.scale
        C = source_rows = source_columns = queries_b = 0
        if queries is not None:
            C, queries_b = queries.values.shape[3], queries.values.stride(1)
            source_rows, source_columns = queries.source.features.shape[2:]
        sizes = EntropyBackwardSizes(
            encode(N), encode(C), encode(H), encode(W), encode(source_rows), encode(source_columns),
            encode(self.truth.kernel_size), encode(cell.stride(0)), *to.row_strides(arriving),
            *to.row_strides(temperature), to.row_strides(scalars)[0], encode(queries_b), *to.mask_strides(mask),
        )  # fmt: skip
        block = _launch.row_block(H * W, 512)
        arguments = {
            "scores": scores, "points": points, "cell": cell, "loss": loss,
            "target_mask": mask, "temperature": temperature, "upstream": arriving,
            "ds_out": ds, "temperature_out": temperature_out, "sizes": sizes,
            "source_sizes": None if queries is None else to.source_sizes(queries.source.sampling),
            "scores_strides": to.score_strides(scores), "points_strides": to.point_strides(points),
            "true_to_cells": to.affine_maps(self.truth.to_cells_x, self.truth.to_cells_y, "corner"),
            "temperature_value": self.truth.temperature, "sigma": self.truth.sigma,
            "WINDOW": WHOLE, "BLOCK": block, "BLOCK_TRUE": _block_of_truth(self.truth, H, W),
            **(_steps.NO_QUERIES if queries is None else _steps.of_queries(queries)),
        }  # fmt: skip
        if queries is not None:
            source = queries.source
            arguments["keypoints"], arguments["keypoints_strides"] = (
                source.keypoints,
                to.point_strides(source.keypoints),
            )
            arguments["to_cells"] = to.to_cells(source.sampling)
        warps = _launch.row_warps(max(block, arguments["BLOCK_C"]))
        _steps.launch(cross_entropy_backward_kernel, B * N, scores.device, arguments, warps)


def _block_of_truth(truth: Truth, H: int, W: int) -> int:
    """The entries of W_n that a program visits at a time."""
    return _launch.row_block(min(truth.kernel_size, H) * min(truth.kernel_size, W), 256)
