"""The option `upsample`, on arrays; see `functional/_upsampled.py`."""

from __future__ import annotations

import numpy as np

from .. import _resolved
from .._resolved import Localization, Metric
from ..native import _records
from ..native._records import _C
from . import _arrays, _run
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
    queries, found = descriptors.shape[3], []
    most = _resolved.queries_within_budget(batch * height * width * dtype.itemsize)
    for first in range(0, max(1, queries), most):
        last = min(queries, first + most)
        scores = _run.similarity(descriptors[..., first:last], target, metric, device)
        of_block = _run.rows_of_block(rows, first, last)
        temperatures = None if temperature is None else temperature[:, first:last]
        found.append(localize(scores, products, of_block, temperatures, metric, upsample, localization, device))
    return _arrays.concatenated(found)
