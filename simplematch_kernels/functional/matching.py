"""Keypoints or descriptors of one map found in another, and the steps of that as functions of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from .. import _check_options, _checks
from .._checks import as_map
from .._options import (
    BORDERS,
    DescriptorKeywords,
    LocalizeKeywords,
    MatchKeywords,
    SimilarityKeywords,
    with_options,
)
from .._types import Matches, descriptor_map
from ..operators import cosine_similarity as similarity_operator
from . import _given_windows, _ranking, _sums, _upsampled
from ._calls import (
    check_descriptors_call,
    check_localize_call,
    check_match_call,
    check_similarity_call,
)
from ._localize import localize_scores
from ._match import interpolate, match
from ._shared import Localizing, Queries, once, requested, rows_and_temperature


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
        source_size: (height, width) in pixels of the image that `keypoints` refer to, or a (B, 2) tensor of integers:
            one for each image. None: they are in cells.
        target_size: (height, width) in pixels of the image of the results, or (B, 2). None: results are in cells.
        source_coords: how pixels map to source cells: "corner" (cell = pixel * cells / pixels), "half_pixel"
            (cell = (pixel + 1/2) * cells / pixels - 1/2) or "align_corners" (cell = pixel * (cells-1) / (pixels-1)).
        target_coords: how target cells map to pixels, with the same names.
        output_offset: added to both resulting coordinates, in pixels (cells if `target_size` is None).
        sampling: "floor" (truncate to a cell), "round" (nearest cell, halves to even) or "bilinear" (four cells).
            The first two clamp to the map.
        sampling_padding: what a bilinear sample finds outside the map: "zeros" or "border".
        source_interpolation: "features" (the source is sampled as `sampling` says), or "matches": the four cells around
            a keypoint, clamped to the map, are matched each for itself, and their points, scores and log_sum_exp are
            blended bilinearly; the peak is that of the nearest cell. `sampling` is then ignored. Not with
            `return_covariance` or `return_second`.
        metric: "cosine"; "dot" (s = <q, f>); "l2" (s = -|q - f|^2); or "l1" (s = -sum_c |q_c - f_c|).
        eps: guards the cosine's division.
        eps_mode: "add" (x / (|x| + eps)) or "clamp" (x / max(|x|, eps)).
        localization: "argmax" (the peak; its coordinates have no gradient), "window" (softmax inside the window),
            "global" (softmax over the map) or "gaussian" (scores times exp(-d^2 / (2 sigma^2)), d in cells from the
            peak, then softmax over the map).
        window_size: k, or (kh, kw), in whole cells, k // 2 of them left of the peak; of a disc, any
            real number of at least 1. May exceed the map.
        window_shape: "square"; "plus": its cells in the row or the column of the peak (k = 3: five cells); or "disc":
            the cells with d < k / 2, d in cells from the peak, (2 dx / kw)^2 + (2 dy / kh)^2 < 1 where they differ.
        disc_edge: "open", or "closed": d <= k / 2, exact for whole and half k.
        border: a square that leaves the map is moved inside ("shift") or cut ("shrink"); other shapes are always cut.
        outside_value: score given to cells outside the window in the softmax; -inf leaves them out.
        sigma: width of the gaussian in cells; required by "gaussian", unused otherwise.
        temperature: T, a number, a 0-d tensor or a (B, N) tensor; above zero.
        second_radius: r of `return_second`, in cells.
        target_mask: (B, Ht, Wt) bool, or (B, N, Ht, Wt): a mask for each query. False cells can be neither peak nor
            support, nor second best.
        return_covariance: also return the covariance (B, N, 2, 2) of the matched point under P.
        return_second: also return score and cell (B, N) of the best cell outside the window; under the other
            localizations, outside the 3 x 3 cells around the peak; with `second_radius`, outside its (2 r + 1)^2 cells.
        top_k: K; also return score and cell (B, N, K) of the best cells, best first. The scores exist for a block of
            queries at a time. Not with `upsample` or source_interpolation "matches".
        top_radius: no two of these cells are within so many rows and columns of each other; 0: any others.
        return_scores: also return the scores (B, N, Ht, Wt), with gradients, for losses on them. The operators of the
            steps then take the place of the fused one. Excludes what `top_k` excludes.
        center: where the window of localization "window" lies, instead of round the best cell of the map: flat cells
            y * Wt + x, (B, N) integers, of which negative ones are padding; or points (B, N, 2) in the units of the
            result, in fractions of cells too. The scores round a point are interpolated bilinearly a cell apart, and
            count if all cells that they read are in the mask. Only these scores are made; `score` and `peak` are those
            of the best sample and the cell nearest to it. Not with metric "l2" and what needs other scores, see
            docs/semantics.md.
        upsample: (H, W). The target is read as if it had been upsampled bilinearly (align_corners=False) to H x W
            cells, without making that map; peak, window, `target_size` and `target_mask` are those of H x W cells. The
            (B, N, Ht, Wt) scores are kept for the backward. Not with `return_covariance`, `return_second` or metric
            "l1".
        backend: "triton", "cpu", "reference" or "auto"; None follows `use_backend` and SIMPLEMATCH_BACKEND.

    Returns:
        `Matches`: keypoints (B, N, 2), score (B, N), peak (B, N) int64 and log_sum_exp (B, N); float32, or float64
        for float64 features. Rows that are padding, or whose target_mask has no True cell, hold -1, 0, -1 and 0 and
        pass on no gradient. NaN inputs propagate to their row; docs/semantics.md has the rules for NaN and infinities.
        With `return_covariance`, `return_second`, `top_k` or `return_scores`, `DetailedMatches`: these four and
        covariance, second_score, second_peak, top_score, top_peak and scores, None where not asked for.

    Gradients:
        To source, target and temperature (if a tensor), to keypoints if `sampling` is "bilinear" or
        `source_interpolation` "matches", and to points in `center`; from keypoints, score, log_sum_exp, covariance and
        scores. In the layout and dtype of their input, bitwise repeatable. Peaks, second_score and top_score are
        constants (`pair_scores` gives the scores of chosen cells with gradients), as are the keypoints in other cases:
        if nothing else requires a gradient, no result does.
        Transforms of torch.func and forward-mode differentiation work. A second derivative raises RuntimeError.

    Raises:
        TypeError, ValueError: an argument has a wrong type, dtype, shape, device or value; in one sentence, before
            anything runs. On CPU tensors that includes keypoints that aren't finite, counts outside 0..N, sizes of
            images below 1 and temperatures not above zero in valid rows; on a GPU such rows become NaN instead.
        RuntimeError: a backend asked for by name can't run.
    """
    checked = once(check_match_call, (source, target, keypoints), options)
    source, target = as_map(source, checked.source_shape), as_map(target, checked.target_shape)
    sizes = _checks.check_image_sizes("source_size", options.get("source_size"), source)
    if checked.interpolation == "matches":
        points = _checks.as_points(keypoints, True)
        return interpolate(Queries(source, points, sizes), target, checked, backend, options)
    points = _checks.as_points(keypoints, checked.sampling.sampling == "bilinear")
    return match(Queries(source, points, sizes), target, checked, backend, options)


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
    checked = once(check_descriptors_call, (descriptors, target), options)
    target = as_map(target, checked.target_shape)
    return match(Queries(descriptor_map(descriptors)), target, checked, backend, options)


@with_options(LocalizeKeywords, Tensor)
def localize(scores: Tensor, *, backend: str | None = None, **options: Unpack[LocalizeKeywords[Tensor]]) -> Matches:
    """Turn score maps that the caller made, such as learned cost volumes, into coordinates (eq. 10-12).

    Args:
        scores: (B, N, H, W), one map for each query, float32, bfloat16, float16 or float64, any strides.
        normalization: "softmax" (eq. 11), or "sum": scores are weights that aren't negative, such as probabilities, and
            P[n,m] = s[n,m] over the sum of the window, or 1 over the number of its cells if that sum is 0. log_sum_exp
            is then the logarithm of the sum. Without `temperature` and what else belongs to a softmax.

    The other arguments, the result, the gradients (to scores and temperature) and the errors are those of
    `sparse_window_match`.
    """
    checked = once(check_localize_call, (scores,), options)
    rows, temperature = rows_and_temperature(scores, scores.shape[1], options)
    sizes = _checks.check_image_sizes("target_size", options.get("target_size"), scores)
    center, results = options.get("center"), checked.results
    localizing = Localizing(rows, temperature, sizes, checked.localization, checked.details, requested(backend))
    if checked.upsample is not None:
        return _upsampled.localize(scores, checked.upsample, localizing)
    if results.normalization == "sum":
        found = _sums.localize(scores, center, localizing)
    elif center is not None:
        found = _given_windows.localize(scores, center, localizing)
    else:
        found = localize_scores(scores, localizing)
    return _ranking.with_best(found, _ranking.best_of_scores(scores, localizing, results))


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
        metric: "cosine", "dot", "l2" or "l1", as in `sparse_window_match`.
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
    checked = once(check_similarity_call, (descriptors, target), options)
    target = as_map(target, checked.target_shape)
    arguments = similarity_operator.Arguments(descriptors, target, checked.metric, requested(backend))
    return similarity_operator.run(arguments).scores


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
