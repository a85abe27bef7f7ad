"""The option `upsample`, on arrays; see `functional/_upsampled.py`."""

from __future__ import annotations

import numpy as np

from .._resolved import Metric
from ..native import _records
from ..native._records import _C
from . import _arrays, _run
from ._arrays import Array, Matches, view
from ._run import Localizing

_LINEAR = Metric("dot", 0.0, False)


def localize(scores: Array, size: tuple[int, int], localizing: Localizing) -> Matches:
    """Matches of scores (B, N, h, w) upsampled to H x W."""
    return _localize(scores, None, size, _LINEAR, localizing)


def match(descriptors: Array, target: Array, size: tuple[int, int], metric: Metric, localizing: Localizing) -> Matches:
    """Matches of descriptors (B, C, 1, N) in target (B, C, h, w) upsampled to H x W; in blocks under the budget."""
    products = None
    if metric.kind != "dot":
        products = np.empty((target.shape[0], 5, *target.shape[2:]), np.float64)
        _C.neighbour_products({"features": view(target)}, {"products": _arrays.address(products)}, localizing.device)

    def run(queries: Array, of_queries: Localizing) -> Matches:
        scores = _run.similarity(queries, target, metric, localizing.device)
        return _localize(scores, products, size, metric, of_queries)

    return _run.in_blocks(run, descriptors, target, localizing)


def _localize(
    scores: Array, products: Array | None, size: tuple[int, int], metric: Metric, localizing: Localizing
) -> Matches:
    matches = _arrays.empty_matches(scores.shape[0], scores.shape[1], _arrays.accumulation_dtype(scores))
    problem = _records.upsampled_problem(
        view(scores),
        None if products is None else _arrays.address(products),
        _arrays.native_rows(localizing.rows),
        view(localizing.temperature),
        size,
        metric,
        localizing.resolve(*size),
    )
    _C.localize_upsampled(problem, _records.native_matches(*_arrays.addresses(matches)), localizing.device)
    return matches
