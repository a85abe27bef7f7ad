"""The public functions: argument checks, then one call of the compiled _C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _check_options, _options
from .._check_options import Size
from .._options import Localization, Metric, Sampling
from ..native import _records
from ..native._records import _C
from . import _arrays, _checks
from ._arrays import Array, Matches, view


def sparse_window_match(
    source: Array,
    target: Array,
    keypoints: Array,
    *,
    num_keypoints: Array | None = None,
    valid: Array | None = None,
    source_size: Size = None,
    target_size: Size = None,
    source_coords: str = "corner",
    target_coords: str = "corner",
    output_offset: float = 0.0,
    sampling: str = "floor",
    sampling_padding: str = "zeros",
    metric: str = "cosine",
    eps: float = 1e-8,
    eps_mode: str = "add",
    localization: str = "window",
    window_size: int | Sequence[int] = 45,
    window_shape: str = "square",
    border: str = "shift",
    outside_value: float = float("-inf"),
    sigma: float | None = None,
    temperature: float | Array = 0.02,
    target_mask: Array | None = None,
    threads: int | None = None,
) -> Matches:
    """Find keypoints of a source feature map in a target feature map: `simplematch_kernels.sparse_window_match`.

    Args:
        source: (B, C, Hs, Ws) features, float32, float64, float16 or the bfloat16 of ml_dtypes, any strides.
        target: (B, C, Ht, Wt) features of the same dtype.
        keypoints: (B, N, 2) points as (x, y), in pixels of `source_size`, or in cells if that is None.
        num_keypoints: (B,) integers; rows n >= num_keypoints[b] are padding. Default: no padding.
        valid: (B, N) bool; False rows are padding. Default: all valid.
        temperature: a number, a 0-d array or a (B, N) array; above zero.
        target_mask: (B, Ht, Wt) bool; False cells can be neither peak nor support.
        threads: how many threads work; None: OMP_NUM_THREADS, or the cores of this process. Answers don't depend on it.

    The other arguments mean what they mean there; the full list is `help(simplematch_kernels.sparse_window_match)` or
    docs/semantics.md.

    Returns:
        `Matches`: keypoints (B, N, 2), score (B, N), peak (B, N) int64 and log_sum_exp (B, N); float32, or float64
        for float64 features. Rows that are padding, or whose target_mask has no True cell, hold -1, 0, -1 and 0.
        A row with a NaN answers NaN.

    Raises:
        TypeError, ValueError: an argument has a wrong type, dtype, shape or value; in one sentence, before anything
            runs. That includes keypoints that aren't finite, counts outside 0..N and temperatures not above zero in
            valid rows.
    """
    source = _checks.check_features("source", source, "(B, C, H, W)")
    target = _checks.check_features("target", target, "(B, C, H, W)")
    _checks.check_pair("source", source, "target", target)
    _checks.check_cells("source", source)
    keypoints = _checks.check_keypoints(keypoints, source, "source")
    sampling_options = _check_options.check_sampling(
        source_size, source_coords, sampling, sampling_padding, ("source_size", "source_coords", "sampling_padding")
    )
    return _match(
        source,
        keypoints,
        target,
        keypoints.shape[1],
        (num_keypoints, valid, target_mask),
        temperature,
        _resolve_sampling(source, sampling_options),
        (metric, eps, eps_mode),
        (localization, window_size, window_shape, border, outside_value, sigma),
        (target_size, target_coords, output_offset),
        threads,
    )


def match_descriptors(
    descriptors: Array,
    target: Array,
    *,
    num_keypoints: Array | None = None,
    valid: Array | None = None,
    target_size: Size = None,
    target_coords: str = "corner",
    output_offset: float = 0.0,
    metric: str = "cosine",
    eps: float = 1e-8,
    eps_mode: str = "add",
    localization: str = "window",
    window_size: int | Sequence[int] = 45,
    window_shape: str = "square",
    border: str = "shift",
    outside_value: float = float("-inf"),
    sigma: float | None = None,
    temperature: float | Array = 0.02,
    target_mask: Array | None = None,
    threads: int | None = None,
) -> Matches:
    """Find descriptors (B, N, C) in target features (B, C, Ht, Wt): `sparse_window_match` after its gather.

    Args:
        descriptors: (B, N, C) queries of the dtype of `target`, any strides.
        target: (B, C, Ht, Wt) features.

    The other arguments, the result and the errors are those of `sparse_window_match`.
    """
    descriptors = _checks.check_features("descriptors", descriptors, "(B, N, C)")
    target = _checks.check_features("target", target, "(B, C, H, W)")
    _checks.check_pair("descriptors", descriptors, "target", target)
    return _match(
        _descriptor_map(descriptors),
        None,
        target,
        descriptors.shape[1],
        (num_keypoints, valid, target_mask),
        temperature,
        None,
        (metric, eps, eps_mode),
        (localization, window_size, window_shape, border, outside_value, sigma),
        (target_size, target_coords, output_offset),
        threads,
    )


def localize(
    scores: Array,
    *,
    num_keypoints: Array | None = None,
    valid: Array | None = None,
    target_size: Size = None,
    target_coords: str = "corner",
    output_offset: float = 0.0,
    localization: str = "window",
    window_size: int | Sequence[int] = 45,
    window_shape: str = "square",
    border: str = "shift",
    outside_value: float = float("-inf"),
    sigma: float | None = None,
    temperature: float | Array = 0.02,
    target_mask: Array | None = None,
    threads: int | None = None,
) -> Matches:
    """Turn score maps that the caller made, such as cost volumes, into coordinates.

    Args:
        scores: (B, N, H, W), one map for each query, of a dtype of features, any strides.

    The other arguments, the result and the errors are those of `sparse_window_match`.
    """
    scores = _checks.check_features("scores", scores, "(B, N, H, W)")
    _checks.check_cells("scores", scores, channels=False)
    batch, queries = scores.shape[:2]
    rows = _checks.check_rows(num_keypoints, valid, target_mask, queries, scores)
    number, array = _checks.check_temperature(temperature, batch, queries, scores)
    options = (localization, window_size, window_shape, border, outside_value, sigma)
    resolved = _resolve_localization(scores, options, number, (target_size, target_coords, output_offset))
    _checks.check_values(None, rows, array)
    matches = _arrays.empty_matches(batch, queries, _arrays.accumulation_dtype(scores))
    problem = _records.localize_problem(view(scores), _arrays.native_rows(rows), view(array), resolved)
    _C.localize(problem, _records.native_matches(*_arrays.addresses(matches)), _device(threads))
    return matches


def gather_keypoints(
    features: Array,
    keypoints: Array,
    *,
    size: Size = None,
    coords: str = "corner",
    sampling: str = "floor",
    padding: str = "zeros",
    threads: int | None = None,
) -> Array:
    """Descriptors (B, N, C) of features (B, C, H, W) at keypoints (B, N, 2), given as (x, y).

    Args:
        features: (B, C, H, W), any strides.
        keypoints: (B, N, 2) in pixels of `size`, or in cells if that is None.
        size: (height, width) in pixels of the image that `keypoints` refer to.
        coords: "corner", "half_pixel" or "align_corners".
        sampling: "floor", "round" or "bilinear".
        padding: what a bilinear sample finds outside the map: "zeros" or "border".
        threads: as in `sparse_window_match`.

    Returns:
        (B, N, C) in the dtype of the features.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    features = _checks.check_features("features", features, "(B, C, H, W)")
    _checks.check_cells("features", features)
    keypoints = _checks.check_keypoints(keypoints, features, "features")
    options = _check_options.check_sampling(size, coords, sampling, padding, ("size", "coords", "padding"))
    _checks.check_values(keypoints, _arrays.Rows(None, None, None), None)
    descriptors = np.empty((features.shape[0], keypoints.shape[1], features.shape[1]), features.dtype)
    problem = _records.gather_problem(view(features), view(keypoints), _resolve_sampling(features, options))
    _C.gather_keypoints(problem, {"descriptors": _arrays.address(descriptors)}, _device(threads))
    return descriptors


def cosine_similarity(
    descriptors: Array,
    target: Array,
    *,
    metric: str = "cosine",
    eps: float = 1e-8,
    eps_mode: str = "add",
    threads: int | None = None,
) -> Array:
    """Scores (B, N, H, W) of descriptors (B, N, C) with every cell of target (B, C, H, W).

    Args:
        descriptors: (B, N, C) of the dtype of `target`, any strides.
        target: (B, C, H, W) features.
        metric: "cosine", "dot" or "l2", as in `sparse_window_match`.
        eps: guards the cosine's division.
        eps_mode: "add" or "clamp", as in `sparse_window_match`.
        threads: as in `sparse_window_match`.

    Returns:
        (B, N, H, W) float32 scores, float64 for float64 features.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    descriptors = _checks.check_features("descriptors", descriptors, "(B, N, C)")
    target = _checks.check_features("target", target, "(B, C, H, W)")
    _checks.check_pair("descriptors", descriptors, "target", target)
    _checks.check_cells("target", target)
    resolved = _resolve_metric(metric, eps, eps_mode)
    batch, _, height, width = target.shape
    dtype = _arrays.accumulation_dtype(target)
    scores = np.empty((batch, descriptors.shape[1], height, width), dtype)
    norm = np.empty((batch, height * width), dtype)
    _C.cosine_similarity(
        _records.similarity_problem(view(_descriptor_map(descriptors)), view(target), resolved),
        {"scores": _arrays.address(scores), "target_norm": _arrays.address(norm)},
        _device(threads),
    )
    return scores


def _match(
    source: Array,
    keypoints: Array | None,
    target: Array,
    queries: int,
    restrictions: tuple[Array | None, Array | None, Array | None],
    temperature: float | Array,
    sampling: Sampling | None,
    metric_options: tuple[str, float, str],
    localization_options: tuple[str, int | Sequence[int], str, str, float, float | None],
    output_options: tuple[Size, str, float],
    threads: int | None,
) -> Matches:
    _checks.check_cells("target", target)
    rows = _checks.check_rows(*restrictions, queries, target)
    number, array = _checks.check_temperature(temperature, target.shape[0], queries, target)
    metric = _resolve_metric(*metric_options)
    localization = _resolve_localization(target, localization_options, number, output_options)
    _checks.check_values(keypoints, rows, array)
    matches = _arrays.empty_matches(target.shape[0], queries, _arrays.accumulation_dtype(target))
    kept = _arrays.empty_kept(target, localization.window)
    problem = _records.match_problem(
        view(source),
        view(keypoints),
        view(target),
        _arrays.native_rows(rows),
        view(array),
        sampling,
        metric,
        localization,
        kept_queries=0,
    )
    _C.sparse_window_match(problem, _records.match_result(*_arrays.addresses((*matches, *kept))), _device(threads))
    return matches


def _descriptor_map(descriptors: Array) -> Array:
    """(B, N, C) as the (B, C, 1, N) that the kernels read."""
    return descriptors.transpose(0, 2, 1)[:, :, None, :]


def _resolve_sampling(features: Array, options: tuple[tuple[int, int] | None, str, str, str]) -> Sampling:
    size, coords, sampling, padding = options
    height, width = features.shape[2:]
    return _options.resolve_sampling(sampling, padding, coords, size, height, width)


def _resolve_metric(metric: str, eps: float, eps_mode: str) -> Metric:
    metric, eps, eps_mode = _check_options.check_metric(metric, eps, eps_mode)
    return Metric(metric, eps, eps_mode == "clamp")


def _resolve_localization(
    scores: Array,
    options: tuple[str, int | Sequence[int], str, str, float, float | None],
    temperature: float | None,
    output_options: tuple[Size, str, float],
) -> Localization:
    checked = _check_options.check_localization(*options)
    size, coords, offset = _check_options.check_output(*output_options)
    height, width = scores.shape[2:]
    return _options.resolve_localization(*checked, temperature, coords, size, offset, height, width)


def _device(threads: int | None) -> _C.Device:
    _checks.check_threads(threads)
    return _records.cpu(_arrays.default_threads() if threads is None else threads)
