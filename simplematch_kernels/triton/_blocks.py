"""The backward in blocks of queries, so that the scores held at a time stay within the budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import _resolved
from .._resolved import Localization
from .._types import AnyUpstream, MatchDetails, MatchProblem, MatchResult, Rows, accumulation_dtype
from . import _steps
from ._step_records import Gradient, LocalizeOutputs, Queries, Source


def part(x: Tensor | None, b: slice, n: slice) -> Tensor | None:
    """Rows n of images b of what is (B, N, ...)."""
    return None if x is None else x[b, n]


def part_of_rows(rows: Rows, b: slice, n: slice) -> Rows:
    return Rows(
        None if rows.num_keypoints is None else rows.num_keypoints[b],
        part(rows.valid, b, n),
        part_of_mask(rows.target_mask, b, n),
    )


def part_of_mask(mask: Tensor | None, b: slice, n: slice) -> Tensor | None:
    """Of (B, M) or (B, N, M)."""
    return mask[b, n] if mask is not None and mask.dim() == 3 else None if mask is None else mask[b]


@dataclass(frozen=True, slots=True)
class Block:
    """Queries n of images b; whether they are the first and the last of these images, and all of all images."""

    b: slice
    n: slice
    first: bool
    last: bool
    whole: bool = False


class Backward:
    """One backward of `sparse_window_match`: its blocks, and the gradient of the scores in each.

    All at once if the forward kept the scores of every window. Otherwise image by image, because the scores of an
    image mostly fit and its target gradient is written once; if they do not, it is summed in the arithmetic's dtype.
    """

    def __init__(
        self, p: MatchProblem, source: Source, forward: MatchResult | MatchDetails, upstream: AnyUpstream
    ) -> None:
        self.upstream, self.forward, self.rows, self.temperature = upstream, forward, p.rows, p.temperature
        self.source, self.target, self.metric, self.localization = source, p.target, p.metric, p.localization
        self.dtype = accumulation_dtype(p.target)
        self.map_size = (p.target.shape[2], p.target.shape[3])
        self.box = p.localization.window.box(*self.map_size)
        self.partial: Tensor | None = None
        asked = isinstance(forward, MatchDetails) and p.details.return_covariance
        self.covariance = forward.covariance if isinstance(forward, MatchDetails) and asked else None

    def blocks(self) -> Iterator[Block]:
        (B, N), kept = self.forward.peak.shape, self.forward.window_scores.shape[1]
        if kept == N:
            yield Block(slice(None), slice(0, N), True, True, whole=True)
            return
        cells = self.map_size[0] * self.map_size[1] + 2 * self.box[0] * self.box[1]
        size = _resolved.queries_within_budget(cells * self.dtype.itemsize)
        for b in range(B):
            for start in range(0, N, size):
                n = slice(start, min(N, start + size))
                yield Block(slice(b, b + 1), n, start == 0, n.stop == N)

    def localize_backward(self, block: Block, queries: Queries | None, temperature_out: Tensor | None) -> Gradient:
        """ds of a block of queries, and their part of `queries` and temperature_out."""
        if block.whole:
            return self._localize_backward_of_all(queries, temperature_out)
        b, n = block.b, block.n
        kept = self.forward.window_scores.shape[1]
        size = (self.forward.peak[b].shape[0], n.stop - n.start, *self.box)
        ds, scores = self.target.new_empty((2, *size), dtype=self.dtype)
        middle = min(max(n.start, kept), n.stop)
        for some, are_kept in ((slice(n.start, middle), True), (slice(middle, n.stop), False)):
            if some.stop == some.start:
                continue
            local = slice(some.start - n.start, some.stop - n.start)
            outputs = LocalizeOutputs(
                ds[:, local], scores[:, local], part(temperature_out, b, some),
                None if queries is None else queries.part(b, some),
            )  # fmt: skip
            given = self.forward.window_scores[b, some] if are_kept else self._similarity(b, some)
            target_mask = part_of_rows(self.rows, b, some).target_mask
            _steps.localize_backward(
                type(self.upstream)(*(part(x, b, some) for x in self.upstream)), given, self.forward.peak[b, some],
                self.map_size, target_mask, part(self.temperature, b, some), self._localization_of(b), outputs,
                kept=are_kept, covariance=part(self.covariance, b, some),
            )  # fmt: skip
        return Gradient(ds, scores, self.forward.peak[b, n], self.localization.window)

    def _localization_of(self, b: slice) -> Localization:
        """With the sizes of images b."""
        sizes = self.localization.image_sizes
        return self.localization if sizes is None else replace(self.localization, image_sizes=sizes[b])

    def _localize_backward_of_all(self, queries: Queries | None, temperature_out: Tensor | None) -> Gradient:
        scores, peak = self.forward.window_scores, self.forward.peak
        ds = torch.empty_like(scores) if queries is not None else scores
        outputs = LocalizeOutputs(None if queries is None else ds, None, temperature_out, queries)
        _steps.localize_backward(
            self.upstream, scores, peak, self.map_size, self.rows.target_mask, self.temperature, self.localization,
            outputs, kept=True, covariance=self.covariance,
        )  # fmt: skip
        return Gradient(ds, scores, peak, self.localization.window)

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

    def _similarity(self, b: slice, n: slice) -> Tensor:
        """Scores (B, N, H, W) of queries n of images b, made again."""
        target = self.target[b]
        scores = target.new_empty((target.shape[0], n.stop - n.start, *self.map_size), dtype=self.dtype)
        rows = part_of_rows(self.rows, b, n)
        _steps.similarity(
            self.source.part(b, n), target, rows, self.metric, scores, None, first_query=n.start, with_best=False
        )
        return scores
