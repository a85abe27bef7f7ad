"""The options that say what a match returns besides `Matches`, and which other options each of them excludes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

from ._check_options import check_choice, check_switch, check_whole

Array = TypeVar("Array")
NORMALIZATIONS = ("softmax", "sum")


class DetailKeywords(TypedDict, total=False):
    return_covariance: bool
    return_second: bool
    second_radius: int | None
    top_k: int | None
    top_radius: int


class CenterKeywords(TypedDict, Generic[Array], total=False):
    center: Array | None


class ScoreKeywords(TypedDict, total=False):
    return_scores: bool


class NormalizationKeywords(TypedDict, total=False):
    normalization: str


class DetailOptions(NamedTuple):
    """What an operator returns besides `Matches`."""

    return_covariance: bool = False
    return_second: bool = False


class ResultOptions(NamedTuple):
    """What a function returns besides the results of its operator, and how `localize` reads its scores."""

    return_scores: bool = False
    top_k: int | None = None
    top_radius: int = 0
    normalization: str = "softmax"


DEFAULTS: dict[str, Any] = {"center": None, **DetailOptions._field_defaults, **ResultOptions._field_defaults}


def details_of(options: Mapping[str, Any]) -> DetailOptions | None:
    """What an operator returns besides `Matches`; None: nothing."""
    details = DetailOptions(*(check_switch(name, options.get(name, False)) for name in DetailOptions._fields))
    if not any(details):
        return None
    if options.get("upsample") is not None:
        raise ValueError("return_covariance and return_second must be False with upsample, which has neither")
    if options.get("source_interpolation") == "matches":
        raise ValueError(
            "return_covariance and return_second must be False with source_interpolation 'matches', which blends the "
            "results of four matches"
        )
    return details


def results_of(options: Mapping[str, Any]) -> ResultOptions:
    """What a function returns besides, or an error for options that exclude each other."""
    given: Any = options
    check_choice("normalization", normalization := given.get("normalization", "softmax"), NORMALIZATIONS)
    scores = check_switch("return_scores", given.get("return_scores", False))
    count = None if given.get("top_k") is None else check_whole("top_k", given["top_k"], 1, or_else=" or None")
    radius = check_whole("top_radius", given.get("top_radius", 0), 0, "cell")
    if scores:
        _exclude("return_scores", "False", given, _OF_THE_FUSED_OPERATOR)
    if count is not None:
        _exclude("top_k", "None", given, _OF_THE_FUSED_OPERATOR)
    if given.get("center") is not None:
        _check_center_options(given)
    if normalization == "sum":
        _check_sum_options(given)
    return ResultOptions(scores, count, radius, normalization)


def _check_center_options(options: Mapping[str, Any]) -> None:
    if (localization := options.get("localization", "window")) != "window":
        raise ValueError(f"center must be None with localization {localization!r}, which has no window")
    if (metric := options.get("metric", "cosine")) not in ("cosine", "dot"):
        raise ValueError(f"center must be None with metric {metric!r}; 'cosine' and 'dot' have windows at given points")
    _exclude("center", "None", options, {**_OF_THE_FUSED_OPERATOR, **_OF_OTHER_CELLS})
    for name, neutral in (("return_second", False), ("return_scores", False), ("top_k", None)):
        if options.get(name, neutral) is not neutral:
            raise ValueError(f"{name} must be {neutral} with center, which scores no cell outside the windows")


def _check_sum_options(options: Mapping[str, Any]) -> None:
    if "temperature" in options:
        raise ValueError("temperature must not be given with normalization 'sum', which has no softmax")
    _exclude("normalization", "'softmax'", options, {**_OF_THE_FUSED_OPERATOR, **_OF_OTHER_CELLS})


_OF_THE_FUSED_OPERATOR: Mapping[str, tuple[object, str]] = {
    "upsample": (None, "with upsample, which scores no cell of the upsampled map before a softmax"),
    "source_interpolation": (
        "features",
        "with source_interpolation 'matches', which blends the results of four matches",
    ),
}
_OF_OTHER_CELLS: Mapping[str, tuple[object, str]] = {
    "outside_value": (-math.inf, "with a score of the cells outside the window, which needs a softmax over the map"),
}


def _exclude(name: str, neutral: str, options: Mapping[str, Any], others: Mapping[str, tuple[object, str]]) -> None:
    for other, (plain, reason) in others.items():
        if options.get(other, plain) != plain:
            raise ValueError(f"{name} must be {neutral} {reason}")
