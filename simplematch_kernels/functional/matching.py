"""Keypoints or descriptors of one map found in another, and the steps of that as functions of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Unpack

import torch
from torch import Tensor

from .. import _check_options, _check_shapes, _checks
from .._options import (
    BORDERS,
    GATHER_NAMES,
    DescriptorKeywords,
    LayoutOptions,
    LocalizationOptions,
    LocalizeKeywords,
    MatchKeywords,
    MetricOptions,
    SamplingOptions,
    SimilarityKeywords,
    Size,
    pick,
    with_options,
)
from .._types import Matches, Rows
from ..operators import cosine_similarity as similarity_operator
from ..operators import gather_keypoints as gather_operator
from ..operators import localize as localize_operator
from ..operators import sparse_window_match as match_operator
from . import _upsampled
from ._shared import check_descriptors, requested


@with_options(MatchKeywords, Tensor)
def sparse_window_match(
    source: Tensor,
    target: Tensor,
    keypoints: Tensor,
    *,
    backend: str | None = None,
    **options: Unpack[MatchKeywords[Tensor]],
) -> Matches:
    r"""Find keypoints of a source feature map in a target feature map (SimpleMatch, eq. 6-12).

    .. code-block:: text

        q_n    = sample(source, keypoints_n)                                          eq. 6-7
        s[n,m] = <q_n, target_m> / ((|q_n| + eps) (|target_m| + eps))                 eq. 9
        peak_n = argmax_m s[n,m]                        the lowest m wins a tie       eq. 10
        P[n,m] = softmax over the k x k window W_n around peak_n of s[n,m] / T        eq. 11
        out_n  = sum_m P[n,m] (x_m, y_m)                                              eq. 12

    Neither a score map of all source cells nor a normalised copy of the features is ever made; kept for the
    backward, beyond the inputs, are one norm per target cell and the scores inside the windows.

    Args:
        source: (B, C, Hs, Ws) features, float32, bfloat16, float16 or float64, any strides; or tokens, see `layout`.
        target: (B, C, Ht, Wt) features of the same dtype and device, or tokens.
        keypoints: (B, N, 2) points as (x, y), in pixels of `source_size`, or in cells if that is None.
        num_keypoints: (B,) integers; rows n >= num_keypoints[b] are padding. Default: no padding.
        valid: (B, N) bool; False rows are padding. Default: all valid.
        layout: "map", or "tokens": source and target are (B, Hs*Ws, C) and (B, Ht*Wt, C), row by row, as Vision
            Transformers make them, without class and register tokens. They are read through a view, never copied.
        source_shape: (Hs, Ws) in cells; required by layout "tokens", None for "map".
        target_shape: (Ht, Wt), likewise.
        source_size: (height, width) in pixels of the image that `keypoints` refer to. None: they are in cells.
        target_size: (height, width) in pixels of the image of the results. None: results are in cells.
        source_coords: how pixels map to source cells: "corner" (cell = pixel * cells / pixels), "half_pixel"
            (cell = (pixel + 1/2) * cells / pixels - 1/2) or "align_corners" (cell = pixel * (cells-1) / (pixels-1)).
        target_coords: how target cells map to pixels, with the same names.
        output_offset: added to both resulting coordinates, in pixels (cells if `target_size` is None).
        sampling: "floor" (truncate to a cell), "round" (nearest cell, halves to even) or "bilinear" (four cells).
            The first two clamp to the map.
        sampling_padding: what a bilinear sample finds outside the map: "zeros" or "border".
        metric: "cosine"; "dot" (s = <q, f>); or "l2" (s = -|q - f|^2).
        eps: guards the cosine's division.
        eps_mode: "add" (x / (|x| + eps)) or "clamp" (x / max(|x|, eps)).
        localization: "argmax" (the peak; its coordinates have no gradient), "window" (softmax inside the window),
            "global" (softmax over the map) or "gaussian" (scores times exp(-d^2 / (2 sigma^2)), d in cells from the
            peak, then softmax over the map).
        window_size: k, or (kh, kw), in cells; k // 2 cells lie left of the peak. May exceed the map.
        window_shape: "square", or "disc": the cells with (2 d)^2 < k^2, d in cells from the peak.
        border: a window that leaves the map is moved inside ("shift") or cut ("shrink").
        outside_value: score given to cells outside the window in the softmax; -inf leaves them out.
        sigma: width of the gaussian in cells; required by "gaussian", unused otherwise.
        temperature: T, a number, a 0-d tensor or a (B, N) tensor; above zero.
        target_mask: (B, Ht, Wt) bool; False cells can be neither peak nor support.
        upsample: (H, W). The target is read as if it had been upsampled bilinearly (align_corners=False) to H x W
            cells, without making that map; peak, window, `target_size` and `target_mask` are those of H x W cells.
        backend: "triton", "cpu", "reference" or "auto"; None follows `use_backend` and SIMPLEMATCH_BACKEND.

    Returns:
        `Matches`: keypoints (B, N, 2), score (B, N), peak (B, N) int64 and log_sum_exp (B, N); float32, or float64
        for float64 features. Rows that are padding, or whose target_mask has no True cell, hold -1, 0, -1 and 0 and
        pass on no gradient. NaN inputs propagate to their row; docs/semantics.md has the rules for NaN and infinities.

    Gradients:
        To source, target and temperature (if a tensor), and to keypoints if `sampling` is "bilinear"; from
        keypoints, score and log_sum_exp. In the layout and dtype of their input, bitwise repeatable. The peak is a
        constant, as are the keypoints under the other samplings: if nothing else requires a gradient, no result does.
        Transforms of torch.func and forward-mode differentiation work. A second derivative raises RuntimeError.

    Raises:
        TypeError, ValueError: an argument has a wrong type, dtype, shape, device or value; in one sentence, before
            anything runs. On CPU tensors that includes keypoints that aren't finite, counts outside 0..N and
            temperatures not above zero in valid rows; on a GPU such rows become NaN instead.
        RuntimeError: a backend asked for by name can't run.
    """
    layout = pick(LayoutOptions, options)
    source = _checks.check_map("source", source, layout.of_source())
    target = _checks.check_map("target", target, layout.of_target())
    _checks.check_pair("source", source, "target", target)
    _check_shapes.check_equal("source", "batch size", source.shape[0], "target", target.shape[0])
    _check_shapes.check_equal("source", "number of channels", source.shape[1], "target", target.shape[1])
    _checks.check_cells("source", source)
    sampling = pick(SamplingOptions, options).checked()
    keypoints = _checks.check_keypoints(keypoints, source, "source", sampling.sampling)
    return _match(source, keypoints, target, sampling, backend, options)


@with_options(DescriptorKeywords, Tensor)
def match_descriptors(
    descriptors: Tensor,
    target: Tensor,
    *,
    backend: str | None = None,
    **options: Unpack[DescriptorKeywords[Tensor]],
) -> Matches:
    """Find descriptors (B, N, C) in target features (B, C, Ht, Wt): `sparse_window_match` after its gather (eq. 9-12).

    Args:
        descriptors: (B, N, C) queries of the dtype and device of `target`, any strides.
        target: (B, C, Ht, Wt) features, or with layout "tokens" (B, Ht*Wt, C) and `target_shape`.

    The other arguments, the result, the gradients (to descriptors, target and temperature) and the errors are those of
    `sparse_window_match`.
    """
    descriptors = _checks.check_features("descriptors", descriptors, "(B, N, C)")
    target = _checks.check_map("target", target, pick(LayoutOptions, options).of_target())
    check_descriptors(descriptors, target)
    source = descriptors.transpose(1, 2)[:, :, None, :]  # a map of one row with a cell for each query
    return _match(source, None, target, SamplingOptions(), backend, options)


@with_options(LocalizeKeywords, Tensor)
def localize(scores: Tensor, *, backend: str | None = None, **options: Unpack[LocalizeKeywords[Tensor]]) -> Matches:
    """Turn score maps that the caller made, such as learned cost volumes, into coordinates (eq. 10-12).

    Args:
        scores: (B, N, H, W), one map for each query, float32, bfloat16, float16 or float64, any strides.

    The other arguments, the result, the gradients (to scores and temperature) and the errors are those of
    `sparse_window_match`.
    """
    scores = _checks.check_features("scores", scores, "(B, N, H, W)")
    _checks.check_cells("scores", scores, channels=False)
    rows, temperature, localization = _localization(scores, scores.shape[1], options)
    upsample = _check_options.check_size("upsample", options.get("upsample"))
    if upsample is not None:
        return _upsampled.localize(scores, rows, temperature, upsample, localization, requested(backend))
    return localize_operator.run(
        localize_operator.Arguments(scores, rows, temperature, localization, requested(backend))
    )


def gather_keypoints(
    features: Tensor,
    keypoints: Tensor,
    *,
    layout: str = "map",
    shape: Size = None,
    size: Size = None,
    coords: str = "corner",
    sampling: str = "floor",
    padding: str = "zeros",
    backend: str | None = None,
) -> Tensor:
    """Descriptors (B, N, C) of features (B, C, H, W) at keypoints (B, N, 2), given as (x, y) (eq. 6-7).

    Args:
        features: (B, C, H, W), or with layout "tokens" (B, H*W, C), float32, bfloat16, float16 or float64, any strides.
        keypoints: (B, N, 2) in pixels of `size`, or in cells if that is None.
        layout: "map" or "tokens", as in `sparse_window_match`.
        shape: (H, W) in cells; required by layout "tokens", None for "map".
        size: (height, width) in pixels of the image that `keypoints` refer to.
        coords: "corner", "half_pixel" or "align_corners", as `source_coords` of `sparse_window_match`.
        sampling: "floor", "round" or "bilinear", as in `sparse_window_match`.
        padding: what a bilinear sample finds outside the map: "zeros" or "border".
        backend: as in `sparse_window_match`.

    Returns:
        (B, N, C) in the dtype of the features. Keypoints that fall in one cell get equal rows.

    Gradients:
        To features, and to keypoints if `sampling` is "bilinear"; without atomics, bitwise repeatable.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`.
    """
    features = _checks.check_map("features", features, LayoutOptions(layout, shape).of_source("shape"))
    _checks.check_cells("features", features)
    options = SamplingOptions(size, coords, sampling, padding).checked(GATHER_NAMES)
    keypoints = _checks.check_keypoints(keypoints, features, "features", sampling)
    return gather_operator.run(gather_operator.Arguments(features, keypoints, options, requested(backend))).descriptors


@with_options(SimilarityKeywords)
def cosine_similarity(
    descriptors: Tensor, target: Tensor, *, backend: str | None = None, **options: Unpack[SimilarityKeywords]
) -> Tensor:
    """Scores (B, N, H, W) of descriptors (B, N, C) with every cell of target (B, C, H, W) (eq. 9).

    Args:
        descriptors: (B, N, C) of the dtype and device of `target`, any strides.
        target: (B, C, H, W) features, or with layout "tokens" (B, H*W, C).
        layout: "map" or "tokens", as in `sparse_window_match`.
        target_shape: (H, W) in cells; required by layout "tokens", None for "map".
        metric: "cosine", "dot" or "l2", as in `sparse_window_match`.
        eps: guards the cosine's division.
        eps_mode: "add" or "clamp", as in `sparse_window_match`.
        backend: as in `sparse_window_match`.

    Returns:
        (B, N, H, W) float32 scores, float64 for float64 features.

    Gradients:
        To descriptors and target.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`.
    """
    descriptors = _checks.check_features("descriptors", descriptors, "(B, N, C)")
    target = _checks.check_map("target", target, pick(LayoutOptions, options).of_target())
    check_descriptors(descriptors, target)
    _checks.check_cells("target", target)
    metric = pick(MetricOptions, options).checked()
    return similarity_operator.run(
        similarity_operator.Arguments(descriptors, target, metric, requested(backend))
    ).scores


def extract_windows(
    scores: Tensor, *, window_size: int | Sequence[int], border: str = "shift", backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Cut the window around the best cell out of every score map (eq. 11).

    Args:
        scores: (B, N, H, W), any strides.
        window_size: k, or (kh, kw), in cells; k // 2 cells lie left of the peak.
        border: "shift" moves a window that leaves the map inside, and cuts k to the map's side; "shrink" leaves it
            centred, and the cells beyond the map hold -inf.
        backend: which backend finds the peak; as in `sparse_window_match`.

    Returns:
        Windows (B, N, kh, kw) in the dtype of the scores, and their top-left cells (B, N, 2) int64 as (x, y), which
        "shrink" may put outside the map.

    Gradients:
        To scores.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`.
    """
    peak = localize(scores.detach(), localization="argmax", backend=backend).peak  # a constant of the gradient
    _check_options.check_choice("border", border, BORDERS)
    rows, columns = _check_options.check_window_size(window_size)
    height, width = scores.shape[-2:]
    top, left = peak // width - rows // 2, peak % width - columns // 2
    if border == "shift":
        rows, columns = torch.sym_min(rows, height), torch.sym_min(columns, width)
        top, left = top.clamp(0, height - rows), left.clamp(0, width - columns)
    y = top[..., None, None] + torch.arange(rows, device=scores.device)[:, None]
    x = left[..., None, None] + torch.arange(columns, device=scores.device)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    cells = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    windows = scores.flatten(2).gather(2, cells.flatten(2)).unflatten(2, (rows, columns))
    return torch.where(inside, windows, -torch.inf), torch.stack((left, top), -1)


def _match(
    source: Tensor,
    keypoints: Tensor | None,
    target: Tensor,
    sampling: SamplingOptions,
    backend: str | None,
    options: Mapping[str, Any],
) -> Matches:
    _checks.check_cells("target", target)
    queries = source.shape[3] if keypoints is None else keypoints.shape[1]
    rows, temperature, localization = _localization(target, queries, options)
    metric = pick(MetricOptions, options).checked()
    upsample = _check_options.check_size("upsample", options.get("upsample"))
    if upsample is not None:
        backend = requested(backend)
        if keypoints is None:
            descriptors = source[:, :, 0, :].transpose(1, 2)
        else:
            points = _upsampled.without_padding(keypoints, rows)
            descriptors = gather_operator.run(gather_operator.Arguments(source, points, sampling, backend)).descriptors
        return _upsampled.match(descriptors, target, rows, temperature, metric, upsample, localization, backend)
    inputs = (source, keypoints, target, temperature)
    keep = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    backend = requested(backend)
    result = match_operator.run(
        match_operator.Arguments(
            source, keypoints, target, rows, temperature, sampling, metric, localization, keep, backend
        )
    )
    return Matches(result.keypoints, result.score, result.peak, result.log_sum_exp)


def _localization(
    scores: Tensor, queries: int, options: Mapping[str, Any]
) -> tuple[Rows, Tensor | None, LocalizationOptions]:
    """(rows, temperature if it is a tensor, options) of a function that localises `queries` queries in a map."""
    size = _check_options.check_size("upsample", options.get("upsample"))
    rows = _checks.check_rows(pick(Rows, options), queries, scores, size)
    value = options.get("temperature", _DEFAULT_TEMPERATURE)
    number, temperature = _checks.check_temperature(value, scores.shape[0], queries, scores)
    if torch.compiler.is_compiling() or not _PLAIN.issuperset(map(type, options.values())):
        return rows, temperature, pick(LocalizationOptions, {**options, "fixed_temperature": number}).checked()
    return rows, temperature, _checked_once((*options, "fixed_temperature"), *options.values(), number)


_DEFAULT_TEMPERATURE = LocalizationOptions().fixed_temperature
_PLAIN = frozenset((int, float, str, bool, type(None)))


@lru_cache(maxsize=1024, typed=True)
def _checked_once(names: tuple[str, ...], *values: Any) -> LocalizationOptions:
    """Options without tensors and sequences: checking them takes as long as the arithmetic of a small map."""
    return pick(LocalizationOptions, dict(zip(names, values, strict=True))).checked()
