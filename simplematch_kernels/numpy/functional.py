"""The public functions: argument checks, then one call of the compiled module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from .._check_options import check_upsample
from .._options import (
    DEFAULT_TEMPERATURE,
    DescriptorKeywords,
    InterpolationOptions,
    LayoutOptions,
    LocalizationOptions,
    LocalizeKeywords,
    MatchKeywords,
    MetricOptions,
    SamplingOptions,
    SimilarityKeywords,
    pick,
    with_options,
)
from .._resolved import Metric, Sampling
from .._result_options import details_of, results_of
from ..native import _records
from ..native._records import _C
from . import _arrays, _checks, _given_windows, _ranking, _run, _sums, _upsampled
from ._arrays import Array, Matches, Rows, view
from ._checks import descriptor_map
from ._interpolation import interpolate_matches
from ._run import Localizing, device_of
from .gather import gather


@with_options(MatchKeywords, Array)
def sparse_window_match(
    source: Array,
    target: Array,
    keypoints: Array,
    *,
    threads: int | None = None,
    **options: Unpack[MatchKeywords[Array]],
) -> Matches:
    """Find keypoints of a source feature map in a target feature map: `simplematch_kernels.sparse_window_match`.

    Args:
        source: (B, C, Hs, Ws) features, float32, float64, float16 or the bfloat16 of ml_dtypes, any strides; or
            (B, Hs*Ws, C) with layout "tokens" and `source_shape`, which makes no copy either.
        target: (B, C, Ht, Wt) features of the same dtype, or (B, Ht*Wt, C) with `target_shape`.
        keypoints: (B, N, 2) points as (x, y), in pixels of `source_size`, or in cells if that is None.
        num_keypoints: (B,) integers; rows n >= num_keypoints[b] are padding. Default: no padding.
        valid: (B, N) bool; False rows are padding. Default: all valid.
        temperature: a number, a 0-d array or a (B, N) array; above zero.
        target_mask: (B, Ht, Wt) bool, or (B, N, Ht, Wt): a mask for each query. False cells can be neither peak nor
            support.
        threads: how many threads work; None: OMP_NUM_THREADS, or the cores of this process. Answers don't depend on it.

    The other arguments mean what they mean there; the full list is `help(simplematch_kernels.sparse_window_match)` or
    docs/semantics.md.

    Returns:
        `Matches`: keypoints (B, N, 2), score (B, N), peak (B, N) int64 and log_sum_exp (B, N); float32, or float64
        for float64 features. Rows that are padding, or whose target_mask has no True cell, hold -1, 0, -1 and 0.
        With `return_covariance`, `return_second`, `top_k` or `return_scores`, `DetailedMatches`.
        NaN inputs propagate to their row.

    Raises:
        TypeError, ValueError: an argument has a wrong type, dtype, shape or value; in one sentence, before anything
            runs. That includes keypoints that aren't finite, counts outside 0..N and temperatures not above zero in
            valid rows.
    """
    source, target = check_maps(source, target, options)
    keypoints = _checks.check_keypoints(keypoints, source, "source")
    rest, sizes = split_sizes("source_size", options, source)
    sampling = pick(SamplingOptions, rest).checked()
    if pick(InterpolationOptions, options).checked().source_interpolation == "matches":
        return _interpolate(source, keypoints, target, sampling, sizes, threads, options)
    return match(source, keypoints, target, sampling.resolve(*source.shape[2:], image_sizes=sizes), threads, options)


@with_options(DescriptorKeywords, Array)
def match_descriptors(
    descriptors: Array, target: Array, *, threads: int | None = None, **options: Unpack[DescriptorKeywords[Array]]
) -> Matches:
    """Find descriptors (B, N, C) in target features (B, C, Ht, Wt): `sparse_window_match` after its gather.

    Args:
        descriptors: (B, N, C) queries of the dtype of `target`, any strides.
        target: (B, C, Ht, Wt) features, or with layout "tokens" (B, Ht*Wt, C) and `target_shape`.

    The other arguments, the result and the errors are those of `sparse_window_match`.
    """
    descriptors = _checks.check_features("descriptors", descriptors, "(B, N, C)")
    target = _checks.check_map("target", target, pick(LayoutOptions, options).of_target())
    _checks.check_pair("descriptors", descriptors, "target", target)
    return match(descriptor_map(descriptors), None, target, None, threads, options)


@with_options(LocalizeKeywords, Array)
def localize(scores: Array, *, threads: int | None = None, **options: Unpack[LocalizeKeywords[Array]]) -> Matches:
    """Turn score maps that the caller made, such as cost volumes, into coordinates.

    Args:
        scores: (B, N, H, W), one map for each query, of a dtype of features, any strides.
        normalization: "softmax", or "sum": scores are weights, such as probabilities.

    The other arguments, the result and the errors are those of `sparse_window_match`.
    """
    scores = _checks.check_features("scores", scores, "(B, N, H, W)")
    _checks.check_cells("scores", scores, channels=False)
    localizing = _localizing(scores, scores.shape[1], threads, options)
    _checks.check_values(None, localizing.rows, localizing.temperature)
    results, upsample = results_of(options), check_upsample(options.get("upsample"))
    center = _checks.check_center(options.get("center"), *scores.shape[:2])
    if upsample is not None:
        return _upsampled.localize(scores, upsample, localizing)
    if results.normalization == "sum":
        found = _sums.localize(scores, center, localizing)
    elif center is not None:
        found = _given_windows.localize(scores, center, localizing)
    else:
        found = _run.localize(scores, localizing)
    return _ranking.with_best(found, _ranking.best_of_scores(scores, localizing, results))


@with_options(SimilarityKeywords)
def cosine_similarity(
    descriptors: Array, target: Array, *, threads: int | None = None, **options: Unpack[SimilarityKeywords]
) -> Array:
    """Scores (B, N, H, W) of descriptors (B, N, C) with every cell of target (B, C, H, W).

    Args:
        descriptors: (B, N, C) of the dtype of `target`, any strides.
        target: (B, C, H, W) features, or with layout "tokens" (B, H*W, C).
        layout: "map" or "tokens".
        target_shape: (H, W) in cells; required by layout "tokens", None for "map".
        metric: "cosine", "dot", "l2" or "l1", as in `sparse_window_match`.
        eps: guards the cosine's division.
        eps_mode: "add" or "clamp", as in `sparse_window_match`.
        threads: as in `sparse_window_match`.

    Returns:
        (B, N, H, W) float32 scores, float64 for float64 features.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    descriptors = _checks.check_features("descriptors", descriptors, "(B, N, C)")
    target = _checks.check_map("target", target, pick(LayoutOptions, options).of_target())
    _checks.check_pair("descriptors", descriptors, "target", target)
    _checks.check_cells("target", target)
    metric = pick(MetricOptions, options).checked().resolve()
    return _run.similarity(descriptor_map(descriptors), target, metric, device_of(threads))


def match(
    source: Array,
    keypoints: Array | None,
    target: Array,
    sampling: Sampling | None,
    threads: int | None,
    options: Mapping[str, Any],
) -> Matches:
    """`sparse_window_match` of checked maps and queries; without keypoints the source is a list (B, C, 1, N)."""
    _checks.check_cells("target", target)
    queries = source.shape[3] if keypoints is None else keypoints.shape[1]
    localizing = _localizing(target, queries, threads, options)
    metric = pick(MetricOptions, options).checked().resolve()
    _checks.check_values(keypoints, localizing.rows, localizing.temperature)
    results, upsample = results_of(options), check_upsample(options.get("upsample"), metric.kind)
    center = _checks.check_center(options.get("center"), target.shape[0], queries)
    if upsample is None and center is None and not results.return_scores and results.top_k is None:
        return _fused(source, keypoints, target, sampling, metric, localizing)
    descriptors = _descriptors(source, keypoints, sampling, localizing)
    if upsample is not None:
        return _upsampled.match(descriptors, target, upsample, metric, localizing)
    if center is not None:
        return _given_windows.match(descriptors, target, center, metric, localizing)
    if results.return_scores:
        scores = _run.similarity(descriptors, target, metric, localizing.device)
        found = _run.localize(scores, localizing)
        found = _arrays.as_detailed(found, scores=_run.without_padding(scores, localizing.rows))
        return _ranking.with_best(found, _ranking.best_of_scores(scores, localizing, results))

    def ranked(descriptors: Array, localizing: Localizing) -> Matches:
        scores = _run.similarity(descriptors, target, metric, localizing.device)
        matches = _run.localize(scores, localizing)
        return _ranking.with_best(matches, _ranking.overwrite_with_best(scores, localizing, results))

    return _run.in_blocks(ranked, descriptors, target, localizing)


def _descriptors(source: Array, keypoints: Array | None, sampling: Sampling | None, localizing: Localizing) -> Array:
    """(B, C, 1, N) of checked queries; zeros, or those of point (0, 0), in rows of padding, which may hold NaN."""
    rows = localizing.rows
    if keypoints is None or sampling is None:
        return descriptor_map(_run.without_padding(source[:, :, 0].transpose(0, 2, 1), rows))
    return descriptor_map(gather(source, _run.without_padding(keypoints, rows), sampling, localizing.device))


def _fused(
    source: Array,
    keypoints: Array | None,
    target: Array,
    sampling: Sampling | None,
    metric: Metric,
    localizing: Localizing,
) -> Matches:
    """`match` by the fused operator."""
    queries = source.shape[3] if keypoints is None else keypoints.shape[1]
    matches = _arrays.empty_matches(target.shape[0], queries, _arrays.accumulation_dtype(target))
    matches = _arrays.add_details(matches, localizing.details)
    localization = localizing.resolve(*target.shape[2:])
    problem = _records.match_problem(
        view(source),
        view(keypoints),
        view(target),
        _arrays.native_rows(localizing.rows),
        view(localizing.temperature),
        sampling,
        metric,
        localization,
        kept_queries=0,
    )
    kept = _arrays.empty_kept(target, localization.window)
    norm, scores = _arrays.addresses(kept)
    result: _C.MatchResult = {
        "matches": _arrays.native_matches(matches), "target_norm": norm, "window_scores": scores
    }  # fmt: skip
    _C.sparse_window_match(problem, result, localizing.device)
    return matches


def _interpolate(
    source: Array,
    keypoints: Array,
    target: Array,
    sampling: SamplingOptions,
    sizes: Array | None,
    threads: int | None,
    options: Mapping[str, Any],
) -> Matches:
    """`match` with source_interpolation "matches"."""
    count = keypoints.shape[1]
    rows = _checks.check_rows(pick(Rows, options), count, target, check_upsample(options.get("upsample")))
    value = options.get("temperature", DEFAULT_TEMPERATURE)
    number, temperature = _checks.check_temperature(value, target.shape[0], count, target)
    _checks.check_values(keypoints, rows, temperature)
    in_cells = SamplingOptions().resolve(*source.shape[2:])

    def of_cells(cells: Array, rows: Rows, temperature: Array | None) -> Matches:
        changed: dict[str, Any] = {**rows._asdict(), "temperature": number if temperature is None else temperature}
        return match(source, cells, target, in_cells, threads, {**options, **changed})

    return interpolate_matches(source, keypoints, sampling, sizes, rows, temperature, of_cells)


def _localizing(scores: Array, queries: int, threads: int | None, options: Mapping[str, Any]) -> Localizing:
    """Of a function that localises `queries` queries in a map."""
    rows = _checks.check_rows(pick(Rows, options), queries, scores, check_upsample(options.get("upsample")))
    value = options.get("temperature", DEFAULT_TEMPERATURE)
    number, temperature = _checks.check_temperature(value, scores.shape[0], queries, scores)
    rest, sizes = split_sizes("target_size", options, scores)
    localization = pick(LocalizationOptions, {**rest, "fixed_temperature": number}).checked()
    return Localizing(rows, temperature, sizes, localization, details_of(options), device_of(threads))


def check_maps(source: Array, target: Array, options: Mapping[str, Any]) -> tuple[Array, Array]:
    """A source and a target map that agree, as maps whatever their layout."""
    layout = pick(LayoutOptions, options)
    source = _checks.check_map("source", source, layout.of_source())
    target = _checks.check_map("target", target, layout.of_target())
    _checks.check_pair("source", source, "target", target)
    _checks.check_cells("source", source)
    return source, target


def split_sizes(name: str, options: Mapping[str, Any], features: Array) -> tuple[Mapping[str, Any], Array | None]:
    """The options without the sizes of each image, if option `name` is (B, 2), and these."""
    sizes = _checks.check_image_sizes(name, options.get(name), features)
    return (options, None) if sizes is None else ({**options, name: None}, sizes)
