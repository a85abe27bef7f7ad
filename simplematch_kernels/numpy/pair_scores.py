"""`pair_scores` on arrays, by NumPy itself: it reads two rows for each pair."""

from __future__ import annotations

import numpy as np

from .. import _check_shapes, _resolved
from .._options import MetricOptions
from .._resolved import Metric
from . import _arrays, _checks
from ._arrays import Array
from .match_all import check_sets


def pair_scores(
    a: Array,
    b: Array,
    index_a: Array | None,
    index_b: Array | None,
    *,
    metric: str = "cosine",
    eps: float = 1e-8,
    eps_mode: str = "add",
) -> Array:
    """Scores (B, K) of chosen pairs: `simplematch_kernels.pair_scores`.

    Args:
        a: (B, N, C) descriptors or a map (B, C, H, W), any strides.
        b: (B, M, C) descriptors or a map, of the dtype of a.
        index_a: (B, K) integers, descriptors of a; a map's cells are numbered y * W + x. Negative numbers are padding.
            None: all of a in order.
        index_b: (B, K) integers, likewise of b. One of both must be given.
        metric: as in `match_all`, like `eps` and `eps_mode`.

    Returns:
        (B, K) float32 scores, float64 for float64 features; sums are made in float64. 0 where an index is padding.

    Raises:
        TypeError, ValueError: as `match_all`; also for an index beyond its set.
    """
    first, second = check_sets(a, b)
    of_a, of_b = _check_indices(index_a, index_b, first, second)
    options = MetricOptions(metric, eps, eps_mode).checked().resolve()
    batch, pairs = of_a.shape
    scores = np.zeros((batch, pairs), _arrays.accumulation_dtype(first))
    most = _resolved.queries_within_budget(2 * 8 * max(1, batch * first.shape[1]))
    for start in range(0, pairs, most):
        block = slice(start, start + most)
        there = (of_a[:, block] >= 0) & (of_b[:, block] >= 0)
        q, f = _rows(first, of_a[:, block], there), _rows(second, of_b[:, block], there)
        scores[:, block] = np.where(there, _scores(q, f, options), 0)
    return scores


def _check_indices(index_a: object, index_b: object, a: Array, b: Array) -> tuple[Array, Array]:
    """(B, K) indices of the pairs; None stands for every descriptor in order."""
    if index_a is None and index_b is None:
        raise _check_shapes.no_index()
    found = []
    for side, value, x in (("a", index_a, a), ("b", index_b, b)):
        count, name = x.shape[2] * x.shape[3], f"index_{side}"
        if value is None:
            found.append(np.broadcast_to(np.arange(count), (x.shape[0], count)))
            continue
        index = _checks.check_array(name, value, "(B, K)")
        if index.dtype.kind not in "iu":
            raise _check_shapes.not_integers(name, index.dtype)
        _check_shapes.check_equal(name, "batch size", index.shape[0], "a", x.shape[0])
        if index.size and index.max() >= count:
            raise _check_shapes.index_out_of_range(name, side, count, int(index.max()))
        found.append(index.astype(np.int64, copy=False))
    _check_shapes.check_equal("index_a", "number of pairs", found[0].shape[1], "index_b", found[1].shape[1])
    return found[0], found[1]


def _rows(x: Array, index: Array, there: Array) -> Array:
    """Float64 rows (B, K, C) of a map; zeros where there is no pair."""
    width = max(1, x.shape[3])
    batch = np.arange(x.shape[0])[:, None]
    cell = np.where(there, index, 0)
    if 0 in x.shape[2:]:  # no pair can be
        return np.zeros((*index.shape, x.shape[1]))
    rows = x.transpose(0, 2, 3, 1)[batch, cell // width, cell % width].astype(np.float64)
    return np.where(there[..., None], rows, 0)


def _scores(q: Array, f: Array, metric: Metric) -> Array:
    if metric.kind == "l2":
        return np.asarray(-((q - f) ** 2).sum(-1))
    if metric.kind == "l1":
        return np.asarray(-np.abs(q - f).sum(-1))
    product = np.einsum("bkc,bkc->bk", q, f)
    if metric.kind == "dot":
        return np.asarray(product)
    of_q, of_f = (_denominator(np.sqrt(np.einsum("bkc,bkc->bk", x, x)), metric) for x in (q, f))
    return np.asarray(product / of_q / of_f)


def _denominator(norm: Array, metric: Metric) -> Array:
    """|x| + eps, or max(|x|, eps); 1 for a zero vector without eps, so that its cosine is 0."""
    divisor = np.maximum(norm, metric.eps) if metric.clamp_eps else norm + metric.eps
    return np.where(divisor == 0, 1, divisor)
