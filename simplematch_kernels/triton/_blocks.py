"""The backward in blocks of queries, so that the scores held at a time stay within the budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _resolved
from .._types import MatchProblem, MatchResult, Rows, Upstream, accumulation_dtype
from . import _steps
from ._steps import Gradient, Queries


def part(
    source: Tensor, keypoints: Tensor | None, rows: Rows, temperature: Tensor | None, b: slice, n: slice
) -> tuple[Tensor, Tensor | None, Rows, Tensor | None]:
    """The inputs of queries n of images b."""
    return (
        source[b, :, :, n] if keypoints is None else source[b],
        None if keypoints is None else keypoints[b, n],
        Rows(
            None if rows.num_keypoints is None else rows.num_keypoints[b],
            None if rows.valid is None else rows.valid[b, n],
            None if rows.target_mask is None else rows.target_mask[b],
        ),
        None if temperature is None else temperature[b, n],
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Queries n of images b; whether they are the first and the last of these images."""

    b: slice
    n: slice
    first: bool
    last: bool


class Backward:
    """One backward of `sparse_window_match`: its blocks, and the gradient of the scores in each.

    All at once if the forward kept the scores of every window. Otherwise image by image, because the scores of an
    image mostly fit and its target gradient is written once; if they do not, it is summed in the arithmetic's dtype.
    """

    def __init__(self, p: MatchProblem, forward: MatchResult, upstream: Upstream) -> None:
        self.upstream, self.forward, self.rows, self.temperature = upstream, forward, p.rows, p.temperature
        self.source, self.keypoints, self.target = p.source, p.keypoints, p.target
        self.sampling, self.metric, self.localization = p.sampling, p.metric, p.localization
        self.dtype = accumulation_dtype(p.target)
        self.map_size = (p.target.shape[2], p.target.shape[3])
        self.box = p.localization.window.box(*self.map_size)
        self.partial: Tensor | None = None

    def blocks(self) -> Iterator[Block]:
        (B, N), kept = self.forward.peak.shape, self.forward.window_scores.shape[1]
        if kept == N:
            yield Block(slice(None), slice(0, N), True, True)
            return
        cells = self.map_size[0] * self.map_size[1] + 2 * self.box[0] * self.box[1]
        size = _resolved.queries_within_budget(cells * self.dtype.itemsize)
        for b in range(B):
            for start in range(0, N, size):
                n = slice(start, min(N, start + size))
                yield Block(slice(b, b + 1), n, start == 0, n.stop == N)

    def localize_backward(self, block: Block, queries: Queries | None, temperature_out: Tensor | None) -> Gradient:
        """ds of a block of queries, and their part of `queries` and temperature_out."""
        b, n = block.b, block.n
        kept = self.forward.window_scores.shape[1]
        images = self.forward.peak[b].shape[0]
        size = (images, n.stop - n.start, *self.box)
        if kept == self.forward.peak.shape[1]:
            ds = self.target.new_empty(size if queries is not None else 0, dtype=self.dtype)
            written = None if queries is None else ds
            self._localize_backward(
                b, n, self.forward.window_scores, True, queries, written, None, temperature_out
            )  # fmt: skip
            return Gradient(ds, self.forward.window_scores, self.forward.peak, self.localization.window)
        ds, scores = self.target.new_empty((2, *size), dtype=self.dtype)
        middle = min(max(n.start, kept), n.stop)
        if middle > n.start:
            given = slice(n.start, middle)
            self._block(
                b, given, n.start, self.forward.window_scores[b, given], True, queries, ds, scores, temperature_out
            )
        if middle < n.stop:
            missing = slice(middle, n.stop)
            made = self._similarity(b, missing)
            self._block(b, missing, n.start, made, False, queries, ds, scores, temperature_out)
        return Gradient(ds, scores, self.forward.peak[b, n], self.localization.window)

    def accumulator(self, target_out: Tensor, block: Block) -> tuple[Tensor | None, Tensor]:
        """What to add a block's gradient of the target to, and where to write the sum."""
        written = target_out[block.b]
        if block.first and block.last:
            return None, written
        if target_out.dtype != self.dtype:
            if block.first:
                self.partial = torch.empty_like(written, dtype=self.dtype)
            assert self.partial is not None
            return None if block.first else self.partial, written if block.last else self.partial
        return None if block.first else written, written

    def _block(
        self,
        b: slice,
        n: slice,
        start: int,
        given: Tensor,
        kept: bool,
        queries: Queries | None,
        ds: Tensor,
        scores: Tensor,
        temperature_out: Tensor | None,
    ) -> None:
        local = slice(n.start - start, n.stop - start)
        self._localize_backward(b, n, given, kept, queries, ds[:, local], scores[:, local], temperature_out)

    def _localize_backward(
        self,
        b: slice,
        n: slice,
        scores: Tensor,
        kept: bool,
        queries: Queries | None,
        ds: Tensor | None,
        window_scores: Tensor | None,
        temperature_out: Tensor | None,
    ) -> None:
        upstream = Upstream(*(None if x is None else x[b, n] for x in self.upstream))
        _, _, rows, temperature = part(self.source, self.keypoints, self.rows, self.temperature, b, n)
        _steps.localize_backward(
            upstream, scores, self.forward.peak[b, n], self.map_size, rows.target_mask, temperature, self.localization,
            kept=kept, ds=ds, window_scores=window_scores,
            temperature_out=None if temperature_out is None else temperature_out[b, n],
            queries=None if queries is None else queries.part(b, n),
        )  # fmt: skip

    def _similarity(self, b: slice, n: slice) -> Tensor:
        """Scores (B, N, H, W) of queries n of images b, made again."""
        source, keypoints, rows, _ = part(self.source, self.keypoints, self.rows, None, b, n)
        target = self.target[b]
        H, W = self.map_size
        scores = target.new_empty((target.shape[0], n.stop - n.start, H, W), dtype=self.dtype)
        _steps.similarity(
            source, keypoints, target, rows, self.sampling, self.metric, scores, None,
            first_query=n.start, with_best=False,
        )  # fmt: skip
        return scores
