"""The option `upsample`, on arrays; see `functional/_upsampled.py`."""

from __future__ import annotations

import numpy as np

from .. import _resolved
from .._resolved import Localization, Metric
from ..native import _records
from ..native._records import _C
from . import _arrays
from ._arrays import Array, Matches, Rows, view

LINEAR = Metric("dot", 0.0, False)


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
    descriptors: Array,
    target: Array,
    rows: Rows,
    temperature: Array | None,
    metric: Metric,
    upsample: tuple[int, int],
    localization: Localization,
    device: _C.Device,
) -> Matches:
    """Matches of descriptors (B, C, 1, N) in target (B, C, h, w) upsampled to H x W; in blocks under the budget."""
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
        of_block = _rows_of_block(rows, block)
        temperatures = None if temperature is None else temperature[:, block]
        found.append(localize(scores, products, of_block, temperatures, metric, upsample, localization, device))
    return found[0] if len(found) == 1 else Matches(*(np.concatenate(x, 1) for x in zip(*found, strict=True)))


def without_padding(keypoints: Array, rows: Rows) -> Array:
    """Keypoints of padding, which may be NaN, as zeros."""
    valid = np.ones(keypoints.shape[:2], np.bool_) if rows.valid is None else rows.valid
    if rows.num_keypoints is not None:
        valid = valid & (np.arange(keypoints.shape[1]) < rows.num_keypoints[:, None])
    return np.where(valid[..., None], keypoints, 0).astype(keypoints.dtype)


def _rows_of_block(rows: Rows, block: slice) -> Rows:
    counts, valid, mask = rows
    if counts is not None:
        counts = np.clip(counts - block.start, 0, block.stop - block.start)
    return Rows(counts, None if valid is None else np.ascontiguousarray(valid[:, block]), mask)
