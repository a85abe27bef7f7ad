"""The records of the compiled module, for torch and NumPy alike: made from resolved options and described tensors.

A tensor is described by a `View`, a contiguous array by its address.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .. import _native, _resolved
from .._resolved import Localization, Metric, Sampling

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
    return CODES[value] if isinstance(value, str) else value


# Resolved options come from a cache, so calls of one kind pass the same object. Its native twin is looked up by id(),
# which takes a tenth of the time of hashing. The option is kept alive so that its id() isn't reused.
_twins: dict[int, tuple[object, Any]] = {}


def _twin(make: Any, option: Any) -> Any:
    found = _twins.get(id(option))
    if found is not None:
        return found[1]
    if len(_twins) >= _MOST:
        _twins.clear()
    native = make(**_fields(option))
    _twins[id(option)] = (option, native)
    return native


@lru_cache(maxsize=_MOST)
def cpu(threads: int) -> _C.Device:
    return _C.Device(kind=CODES["cpu"], threads=threads)


def native_rows(num_keypoints: int | None, valid: int | None, target_mask: int | None) -> _C.Rows:
    return {"num_keypoints": num_keypoints, "valid": valid, "target_mask": target_mask}


def native_matches(keypoints: int, score: int, peak: int, log_sum_exp: int) -> _C.Matches:
    return {"keypoints": keypoints, "score": score, "peak": peak, "log_sum_exp": log_sum_exp}


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
