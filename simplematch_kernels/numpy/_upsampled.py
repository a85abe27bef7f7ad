"""The option `upsample`, on arrays; see `functional/_upsampled.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import _resolved
from .._resolved import Localization, Metric, Sampling
from ..native import _records
from ..native._records import _C
from . import _arrays
from ._arrays import Array, Matches, Rows, view

LINEAR = Metric("dot", 0.0, False)


class Sources(NamedTuple):
    """What is looked for: keypoints of a map, or with `keypoints` None a list of descriptors (B, C, 1, N)."""

    source: Array
    keypoints: Array | None
    sampling: Sampling | None
    rows: Rows
    temperature: Array | None


def localize(
    scores: Array,
    products: Array | None,
    rows: Rows,
    temperature: Array | None,
    metric: Metric,
    upsample: tuple[int, int],
    localization: Localization,
    device: _C.Device,
) -> Matches:
    """Matches of scores (B, N, h, w) upsampled to H x W."""
    matches = _arrays.empty_matches(scores.shape[0], scores.shape[1], _arrays.accumulation_dtype(scores))
    address = None if products is None else _arrays.address(products)
    problem = _records.upsampled_problem(
        view(scores), address, _arrays.native_rows(rows), view(temperature), upsample, metric, localization
    )
    _C.localize_upsampled(problem, _records.native_matches(*_arrays.addresses(matches)), device)
    return matches


def match(
    sources: Sources,
    target: Array,
    metric: Metric,
    upsample: tuple[int, int],
    localization: Localization,
    device: _C.Device,
) -> Matches:
    """Matches in target (B, C, h, w) upsampled to H x W, in blocks of queries under the score budget."""
    descriptors = _descriptors(sources, device)
    (batch, _, height, width), dtype = target.shape, _arrays.accumulation_dtype(target)
    products = None
    if metric.kind != "dot":
        products = np.empty((batch, 5, height, width), np.float64)
        _C.neighbour_products({"features": view(target)}, {"products": _arrays.address(products)}, device)
    norm = np.empty((batch, height * width), dtype)
    queries, found = descriptors.shape[3], []
    most = _resolved.queries_within_budget(batch * height * width * dtype.itemsize)
    for first in range(0, max(1, queries), most):
        block = slice(first, min(queries, first + most))
        scores = np.empty((batch, block.stop - first, height, width), dtype)
        problem = _records.similarity_problem(view(descriptors[..., block]), view(target), metric)
        result: _C.SimilarityResult = {"scores": _arrays.address(scores), "target_norm": _arrays.address(norm)}
        _C.cosine_similarity(problem, result, device)
        rows, temperature = _rows_of_block(sources, block)
        found.append(localize(scores, products, rows, temperature, metric, upsample, localization, device))
    return found[0] if len(found) == 1 else Matches(*(np.concatenate(x, 1) for x in zip(*found, strict=True)))


def _rows_of_block(sources: Sources, block: slice) -> tuple[Rows, Array | None]:
    counts, valid, mask = sources.rows
    if counts is not None:
        counts = np.clip(counts - block.start, 0, block.stop - block.start)
    valid = None if valid is None else np.ascontiguousarray(valid[:, block])
    return Rows(counts, valid, mask), None if sources.temperature is None else sources.temperature[:, block]


def _descriptors(sources: Sources, device: _C.Device) -> Array:
    """(B, C, 1, N); padding, which may be NaN, reads cell 0."""
    source, keypoints, sampling, (counts, valid, _), _ = sources
    if keypoints is None or sampling is None:
        return source
    batch, queries = keypoints.shape[:2]
    takes_part = np.ones((batch, queries), np.bool_) if valid is None else valid
    if counts is not None:
        takes_part = takes_part & (np.arange(queries) < counts[:, None])
    points = np.where(takes_part[..., None], keypoints, 0).astype(keypoints.dtype)
    descriptors = np.empty((batch, queries, source.shape[1]), source.dtype)
    problem = _records.gather_problem(view(source), view(points), sampling)
    _C.gather_keypoints(problem, {"descriptors": _arrays.address(descriptors)}, device)
    return descriptors.transpose(0, 2, 1)[:, :, None, :]
