"""The checks of a call: everything that follows from its options and from the kinds of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .. import _check_shapes, _checks
from .._check_options import check_number, check_upsample
from .._check_shapes import TokenShape
from .._options import (
    DEFAULT_TEMPERATURE,
    GATHER_NAMES,
    InterpolationOptions,
    LayoutOptions,
    LocalizationOptions,
    MetricOptions,
    SamplingOptions,
    pick,
)
from .._result_options import DetailOptions, ResultOptions, details_of, results_of
from ._shared import rows_and_temperature


class Checked(NamedTuple):
    """What the checks found. takes_steps: whether a match is made by the operators of its steps, not the fused one."""

    source_shape: TokenShape | None = None
    target_shape: TokenShape | None = None
    sampling: SamplingOptions = SamplingOptions()
    metric: MetricOptions = MetricOptions()
    localization: LocalizationOptions = LocalizationOptions()
    details: DetailOptions | None = None
    interpolation: str = "features"
    upsample: tuple[int, int] | None = None
    results: ResultOptions = ResultOptions()
    takes_steps: bool = False


def check_match_call(source: Tensor, target: Tensor, keypoints: Tensor, **options: Any) -> Checked:
    layout = pick(LayoutOptions, options)
    source, target = check_maps(source, target, options)
    sampling = pick(SamplingOptions, _without_sizes("source_size", options, source)).checked()
    interpolation = pick(InterpolationOptions, options).checked().source_interpolation
    _checks.check_keypoints(keypoints, source, "source")
    checked = Checked(layout.of_source(), layout.of_target(), sampling, interpolation=interpolation)
    return check_localization(checked, target, keypoints.shape[1], options)


def check_maps(source: Tensor, target: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """A source and a target map that agree, as maps whatever their layout."""
    layout = pick(LayoutOptions, options)
    source = _checks.check_map("source", source, layout.of_source())
    target = _checks.check_map("target", target, layout.of_target())
    _checks.check_pair("source", source, "target", target)
    _checks.check_cells("source", source)
    return source, target


def _without_sizes(name: str, options: Mapping[str, Any], features: Tensor) -> Mapping[str, Any]:
    """The options without the sizes of each image, if option `name` is (B, 2)."""
    sizes = _checks.check_image_sizes(name, options.get(name), features)
    return options if sizes is None else {**options, name: None}


def check_descriptors_call(descriptors: Tensor, target: Tensor, **options: Any) -> Checked:
    target, shape = check_descriptors(descriptors, target, options)
    return check_localization(Checked(target_shape=shape), target, descriptors.shape[1], options)


def check_descriptors(
    descriptors: Tensor, target: Tensor, options: Mapping[str, Any]
) -> tuple[Tensor, TokenShape | None]:
    """A target that agrees with descriptors (B, N, C), as a map, and the shape of its tokens."""
    shape = pick(LayoutOptions, options).of_target()
    _checks.check_features("descriptors", descriptors, _check_shapes.LIST)
    target = _checks.check_map("target", target, shape)
    _checks.check_pair("descriptors", descriptors, "target", target)
    return target, shape


def check_localize_call(scores: Tensor, **options: Any) -> Checked:
    _checks.check_features("scores", scores, "(B, N, H, W)")
    _checks.check_cells("scores", scores, channels=False)
    rows_and_temperature(scores, scores.shape[1], options)
    _checks.check_center(options.get("center"), scores, scores.shape[1])
    return _with_details(Checked(localization=_localization(options, scores)), options)


def check_gather_call(features: Tensor, keypoints: Tensor, **options: Any) -> Checked:
    shape = LayoutOptions(options["layout"], options["shape"]).of_source("shape")
    features = _checks.check_map("features", features, shape)
    _checks.check_cells("features", features)
    size = _without_sizes("size", options, features)["size"]
    sampling = SamplingOptions(size, options["coords"], options["sampling"], options["padding"])
    checked = Checked(shape, sampling=sampling.checked(GATHER_NAMES))
    _checks.check_keypoints(keypoints, features, "features")
    return checked


def check_similarity_call(descriptors: Tensor, target: Tensor, **options: Any) -> Checked:
    target, shape = check_descriptors(descriptors, target, options)
    _checks.check_cells("target", target)
    return Checked(target_shape=shape, metric=pick(MetricOptions, options).checked())


def check_localization(checked: Checked, target: Tensor, queries: int, options: Mapping[str, Any]) -> Checked:
    """`checked` with how queries are compared with the target and localised in it."""
    _checks.check_cells("target", target)
    rows_and_temperature(target, queries, options)
    _checks.check_center(options.get("center"), target, queries)
    metric = pick(MetricOptions, options).checked()
    return _with_details(checked._replace(metric=metric, localization=_localization(options, target)), options)


def _with_details(checked: Checked, options: Mapping[str, Any]) -> Checked:
    upsample = check_upsample(options.get("upsample"), checked.metric.metric)
    results = results_of(options)
    asks = results.return_scores or results.top_k is not None or options.get("center") is not None
    return checked._replace(
        details=details_of(options), upsample=upsample, results=results, takes_steps=asks or upsample is not None
    )


def _localization(options: Mapping[str, Any], scores: Tensor) -> LocalizationOptions:
    options = _without_sizes("target_size", options, scores)
    temperature = options.get("temperature", DEFAULT_TEMPERATURE)
    number = None if isinstance(temperature, Tensor) else check_number("temperature", temperature, above=0.0)
    return pick(LocalizationOptions, {**options, "fixed_temperature": number}).checked()
