"""The records of the compiled module, for torch and NumPy alike: made from resolved options and described tensors.

A tensor is described by a `View`, a contiguous array by its address.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .. import _native, _resolved
from .._resolved import Localization, Metric, Sampling, Truth

if TYPE_CHECKING:
    from .. import _C as _C
    from .._C import View
else:
    _C = _native.load()

CODES = _C.CODES
_MOST = 1024


def _fields(option: Any) -> dict[str, Any]:
    """The fields of an option by name, as the module takes them: both name them alike."""
    return {field.name: _value(getattr(option, field.name)) for field in dataclasses.fields(option)}


def _value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if hasattr(value, "data_ptr"):  # the sizes of images, a tensor or an array
        return value.data_ptr()
    if hasattr(value, "__array_interface__"):
        return value.__array_interface__["data"][0]
    return CODES[value] if isinstance(value, str) else value


# Resolved options come from a cache, so calls of one kind pass the same object. Its native twin is looked up by id(),
# which takes a tenth of the time of hashing. The option is kept alive so that its id() isn't reused.
_twins: dict[int, tuple[object, Any]] = {}


def _twin(make: Any, option: Any) -> Any:
    found = _twins.get(id(option))
    if found is not None:
        return found[1]
    if getattr(option, "image_sizes", None) is not None:  # a tensor of one call
        return make(**_fields(option))
    if len(_twins) >= _MOST:
        _twins.clear()
    native = make(**_fields(option))
    _twins[id(option)] = (option, native)
    return native


@lru_cache(maxsize=_MOST)
def cpu(threads: int) -> _C.Device:
    return _C.Device(kind=CODES["cpu"], threads=threads)


def native_rows(
    num_keypoints: int | None, valid: int | None, target_mask: int | None, *, target_mask_stride: int = 0
) -> _C.Rows:
    """target_mask_stride: from the mask of one query to the next; 0: one for all queries of an image."""
    return {
        "num_keypoints": num_keypoints,
        "valid": valid,
        "target_mask": target_mask,
        "target_mask_stride": target_mask_stride,
    }


def native_matches(keypoints: int, score: int, peak: int, log_sum_exp: int) -> _C.Matches:
    return {"keypoints": keypoints, "score": score, "peak": peak, "log_sum_exp": log_sum_exp}


def native_details(
    matches: _C.Matches, covariance: int | None, second_score: int | None, second_peak: int | None
) -> _C.Matches:
    """`matches` with what else is wanted."""
    return {**matches, "covariance": covariance, "second_score": second_score, "second_peak": second_peak}


def match_result(
    keypoints: int, score: int, peak: int, log_sum_exp: int, target_norm: int, window_scores: int
) -> _C.MatchResult:
    return {
        "matches": {"keypoints": keypoints, "score": score, "peak": peak, "log_sum_exp": log_sum_exp},
        "target_norm": target_norm,
        "window_scores": window_scores,
    }


def match_problem(
    source: View,
    keypoints: View | None,
    target: View,
    rows: _C.Rows | None,
    temperature: View | None,
    sampling: Sampling | None,
    metric: Metric,
    localization: Localization,
    kept_queries: int,
) -> _C.MatchProblem:
    return {
        "source": source,
        "keypoints": keypoints,
        "target": target,
        "rows": rows,
        "temperature": temperature,
        "sampling": None if sampling is None else _twin(_C.Sampling, sampling),
        "metric": _twin(_C.Metric, metric),
        "localization": _twin(_C.Localization, localization),
        "kept_queries": kept_queries,
        "score_budget": _resolved.SCORE_BUDGET_BYTES,
    }


def localize_problem(
    scores: View, rows: _C.Rows | None, temperature: View | None, localization: Localization
) -> _C.LocalizeProblem:
    return {
        "scores": scores,
        "rows": rows,
        "temperature": temperature,
        "localization": _twin(_C.Localization, localization),
    }


def gather_problem(features: View, keypoints: View, sampling: Sampling) -> _C.GatherProblem:
    return {"features": features, "keypoints": keypoints, "sampling": _twin(_C.Sampling, sampling)}


def similarity_problem(descriptors: View, target: View, metric: Metric) -> _C.SimilarityProblem:
    """descriptors: as a map (B, C, 1, N)."""
    return {
        "descriptors": descriptors,
        "target": target,
        "metric": _twin(_C.Metric, metric),
        "score_budget": _resolved.SCORE_BUDGET_BYTES,
    }


def match_all_problem(
    a: View,
    b: View,
    temperature: View | None,
    bin_score: View | None,
    rows_a: _C.Rows | None,
    rows_b: _C.Rows | None,
    metric: Metric,
    fixed_temperature: float,
    fixed_bin_score: float,
) -> _C.MatchAllProblem:
    """a, b: as maps (B, C, H, W)."""
    return {
        "a": a,
        "b": b,
        "temperature": temperature,
        "bin_score": bin_score,
        "rows_a": rows_a,
        "rows_b": rows_b,
        "metric": _twin(_C.Metric, metric),
        "fixed_temperature": fixed_temperature,
        "fixed_bin_score": fixed_bin_score,
        "score_budget": _resolved.SCORE_BUDGET_BYTES,
    }


def pair_problem(a: View, b: View, index_a: int, index_b: int, pairs: int, metric: Metric) -> _C.PairProblem:
    """a, b: as maps (B, C, H, W); index_a, index_b: of contiguous arrays (B, pairs)."""
    return {
        "a": a,
        "b": b,
        "index_a": index_a,
        "index_b": index_b,
        "pairs": pairs,
        "metric": _twin(_C.Metric, metric),
    }


def cross_entropy_problem(
    source: View,
    keypoints: View | None,
    target: View,
    target_keypoints: View,
    rows: _C.Rows | None,
    temperature: View | None,
    sampling: Sampling | None,
    metric: Metric,
    truth: Truth,
) -> _C.CrossEntropyProblem:
    return {
        "source": source,
        "keypoints": keypoints,
        "target": target,
        "target_keypoints": target_keypoints,
        "rows": rows,
        "temperature": temperature,
        "sampling": None if sampling is None else _twin(_C.Sampling, sampling),
        "metric": _twin(_C.Metric, metric),
        "truth": _twin(_C.Truth, truth),
        "score_budget": _resolved.SCORE_BUDGET_BYTES,
    }


def cross_entropy_result(loss: int, cell: int, target_norm: int) -> _C.CrossEntropyResult:
    return {"loss": loss, "cell": cell, "target_norm": target_norm}


def upsampled_problem(
    scores: View,
    products: int | None,
    rows: _C.Rows | None,
    temperature: View | None,
    upsample: tuple[int, int],
    metric: Metric,
    localization: Localization,
) -> _C.UpsampledProblem:
    """products: of a contiguous float64 array (B, 5, h, w); None for the metric "dot"."""
    return {
        "scores": scores,
        "products": products,
        "rows": rows,
        "temperature": temperature,
        "metric": _twin(_C.Metric, metric),
        "localization": _twin(_C.Localization, localization),
        "height": upsample[0],
        "width": upsample[1],
        "score_budget": _resolved.SCORE_BUDGET_BYTES,
    }


def correlation_problem(
    queries: View,
    target: View,
    coords: View,
    offsets: View | None,
    rows: _C.Rows | None,
    sampling: Sampling,
    metric: Metric,
    radius: tuple[int, int],
    scale: float,
) -> _C.CorrelationProblem:
    """queries: as a map (B, C, Hq, Wq)."""
    return {
        "queries": queries,
        "target": target,
        "coords": coords,
        "offsets": offsets,
        "rows": rows,
        "sampling": _twin(_C.Sampling, sampling),
        "metric": _twin(_C.Metric, metric),
        "radius_y": radius[0],
        "radius_x": radius[1],
        "scale": scale,
    }
