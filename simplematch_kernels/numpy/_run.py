"""One call of the compiled module each, on checked arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import _resolved
from .._options import PEAK, LocalizationOptions
from .._resolved import Localization, Metric, Sampling
from .._result_options import DetailOptions
from ..native import _records
from ..native._records import _C
from . import _arrays, _checks
from ._arrays import Array, Matches, Rows, view


class Localizing(NamedTuple):
    """How scores become coordinates; sizes: (B, 2) of the target's images, or None if the options have one for all."""

    rows: Rows
    temperature: Array | None
    sizes: Array | None
    options: LocalizationOptions
    details: DetailOptions | None
    device: _C.Device

    def resolve(self, height: int, width: int) -> Localization:
        return self.options.resolve(height, width, image_sizes=self.sizes)

    def block(self, first: int, last: int) -> Localizing:
        """Of queries first..last - 1."""
        temperature = None if self.temperature is None else self.temperature[:, first:last]
        return self._replace(rows=rows_of_block(self.rows, first, last), temperature=temperature)

    def of_peak(self, rows: Rows) -> Localizing:
        """The peak alone, in cells."""
        return Localizing(rows, None, None, PEAK, None, self.device)


def localize(scores: Array, localizing: Localizing) -> Matches:
    """Matches of scores (B, N, H, W)."""
    rows, temperature, _, _, details, device = localizing
    matches = _arrays.empty_matches(scores.shape[0], scores.shape[1], _arrays.accumulation_dtype(scores))
    matches = _arrays.add_details(matches, details)
    resolved = localizing.resolve(*scores.shape[2:])
    problem = _records.localize_problem(view(scores), _arrays.native_rows(rows), view(temperature), resolved)
    _C.localize(problem, _arrays.native_matches(matches), device)
    return matches


def in_blocks(
    run: Callable[[Array, Localizing], Matches], descriptors: Array, target: Array, localizing: Localizing
) -> Matches:
    """Matches that `run` makes of some descriptors (B, C, 1, n) at a time, whose scores take the budget at most."""
    queries, (batch, _, height, width) = descriptors.shape[3], target.shape
    most = _resolved.queries_within_budget(batch * height * width * _arrays.accumulation_dtype(target).itemsize)
    if queries <= most:
        return run(descriptors, localizing)
    ends = [(first, min(first + most, queries)) for first in range(0, queries, most)]
    return _arrays.concatenated(
        [run(descriptors[..., first:last], localizing.block(first, last)) for first, last in ends]
    )


def similarity(descriptors: Array, target: Array, metric: Metric, device: _C.Device) -> Array:
    """Scores (B, N, H, W) of descriptors (B, C, 1, N) with a target (B, C, H, W)."""
    (batch, _, height, width), dtype = target.shape, _arrays.accumulation_dtype(target)
    scores = np.empty((batch, descriptors.shape[3], height, width), dtype)
    norm = np.empty((batch, height * width), dtype)
    problem = _records.similarity_problem(view(descriptors), view(target), metric)
    _C.cosine_similarity(problem, {"scores": _arrays.address(scores), "target_norm": _arrays.address(norm)}, device)
    return scores


def correlation(
    queries: Array,
    target: Array,
    coords: Array,
    offsets: Array | None,
    rows: Rows,
    sampling: Sampling,
    metric: Metric,
    radius: tuple[int, int],
    scale: float,
    device: _C.Device,
) -> Array:
    """(B, N, 2 ry + 1, 2 rx + 1) of queries (B, C, H, W), or (B, N, K) for offsets."""
    batch, count = coords.shape[:2]
    window = tuple(2 * r + 1 for r in radius) if offsets is None else (offsets.shape[1],)
    found = np.empty((batch, count, *window), _arrays.accumulation_dtype(target))
    problem = _records.correlation_problem(
        view(queries),
        view(target),
        view(coords),
        view(offsets),
        _arrays.native_rows(rows),
        sampling,
        metric,
        radius,
        scale,
    )
    _C.local_correlation(problem, {"correlation": _arrays.address(found)}, device)
    return found


def without_padding(x: Array, rows: Rows) -> Array:
    """x (B, N, ...) with zeros in rows of padding, which may be NaN."""
    if rows.valid is None and rows.num_keypoints is None:
        return x
    valid = _checks.valid_rows(rows, np.ones(x.shape[:2], np.bool_))
    return np.where(valid[(..., *[None] * (x.ndim - 2))], x, x.dtype.type(0))


def rows_of_block(rows: Rows, first: int, last: int) -> Rows:
    """The restrictions of queries first..last - 1."""
    counts, valid, mask = rows
    if counts is not None:
        counts = np.clip(counts - first, 0, last - first)
    if mask is not None and mask.ndim == 4:
        mask = np.ascontiguousarray(mask[:, first:last])
    return Rows(counts, None if valid is None else np.ascontiguousarray(valid[:, first:last]), mask)


def device_of(threads: int | None) -> _C.Device:
    _checks.check_threads(threads)
    return _records.cpu(_arrays.default_threads() if threads is None else threads)
