"""`sparse_window_match` as its definition: gather, similarity, localise (paper eq. 6-12)."""

from __future__ import annotations

import torch
from torch import Tensor

from .._types import (
    DetailedMatches,
    GatherGradients,
    GatherProblem,
    Given,
    LocalizeProblem,
    Matches,
    MatchGradients,
    MatchProblem,
    Rows,
    accumulation_dtype,
    descriptor_map,
    descriptors_of,
)
from .gather import gather_keypoints, source_backward
from .localize import around_peak, covariance, find_peak, localize, masks, second_best, valid_rows, without_padding
from .recorded import recording
from .similarity import query_backward, similarity, target_backward


def sparse_window_match(p: MatchProblem, *, dtype: torch.dtype | None = None) -> Matches | DetailedMatches:
    """Matches of keypoints (B, N, 2) of source (B, C, Hs, Ws) in target (B, C, Ht, Wt), differentiable by autograd.

    Without keypoints the source is a list of descriptors, (B, C, 1, N). `dtype` is that of the arithmetic.
    `DetailedMatches` if `p.details` ask for them.
    """
    dtype = accumulation_dtype(p.target) if dtype is None else dtype
    target = p.target.to(dtype)
    scores = similarity(queries(p, dtype), target.flatten(2), p.metric).unflatten(2, target.shape[2:])
    peak = best_cell(scores, target.flatten(2), p.rows)
    matches = localize(scores, p.rows, p.temperature, p.localization, peak)
    return add_details(matches, scores, p, target.flatten(2)) if any(p.details) else matches


def add_details(
    matches: Matches, scores: Tensor, p: MatchProblem | LocalizeProblem, target: Tensor | None
) -> DetailedMatches:
    """`DetailedMatches` of scores (B, N, H, W); equal cells of the target (B, C, M), if it is given, tie."""
    found = None
    second: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
    if p.details.return_covariance:
        found = covariance(scores, matches.peak, p.rows, p.temperature, p.localization)
    if p.details.return_second:
        window = p.localization.second
        excluded = around_peak(scores, matches.peak, window)
        if target is None:
            cell = find_peak(scores, p.rows, excluded)
        else:
            cell = best_cell(scores, target, p.rows, excluded)
        second = second_best(scores.detach(), matches.peak, cell, p.rows, window)
    return DetailedMatches(*matches, found, *second)


def best_cell(scores: Tensor, target: Tensor, rows: Rows, excluded: Tensor | None = None) -> Tensor:
    """(B, N) peaks of scores (B, N, H, W), where bitwise equal cells of the target (B, C, M) tie.

    A matrix product rounds by position, so equal cells may get scores that differ in their last bits.
    excluded: (B, N, M) bool, cells that don't count.
    """
    peak = find_peak(scores, rows, excluded)
    if recording(scores) or scores.numel() == 0:
        return peak
    flat = scores.detach().flatten(2)
    best = flat.gather(-1, peak[..., None])
    earlier = torch.arange(flat.shape[-1], device=flat.device) < peak[..., None]
    mask = masks(rows)
    if mask is not None:
        earlier = earlier & mask
    if excluded is not None:
        earlier = earlier & ~excluded
    candidates = (earlier & ((flat - best).abs() <= 1e-5 * best.abs())).nonzero()
    for b, n, m in (chunk.unbind(1) for chunk in candidates.split(65536)):
        same = (target[b, :, m] == target[b, :, peak[b, n]]).all(-1)
        peak.view(-1).scatter_reduce_(0, (b * peak.shape[1] + n)[same], m[same], "amin")
    return peak


def queries(p: MatchProblem, dtype: torch.dtype) -> Tensor:
    """(B, N, C) descriptors to look for; zero in invalid rows, even if their padding is NaN."""
    if p.keypoints is None or p.sampling is None:
        descriptors = descriptors_of(p.source).to(dtype)
        return torch.where(valid_rows(p.rows, descriptors)[..., None], descriptors, 0)
    descriptors = gather_keypoints(p.source, without_padding(p.keypoints, p.rows), p.sampling, dtype=dtype)
    return torch.where(valid_rows(p.rows, p.keypoints)[..., None], descriptors, 0)


def gradients(
    p: MatchProblem, ds: Tensor, scores: Tensor, d_temperature: Tensor, needs: MatchGradients[bool]
) -> MatchGradients[Given]:
    """The gradients of a match from those of its scores, ds (B, N, M)."""
    descriptors, flat = queries(p, ds.dtype), p.target.to(ds.dtype).flatten(2)
    d_source = d_keypoints = d_target = None
    if needs.target:
        d_target = like(target_backward(ds, scores, descriptors, flat, p.metric).view(p.target.shape), p.target)
    if needs.source or needs.keypoints:
        d_queries = query_backward(ds, scores, descriptors, flat, p.metric)
        if p.keypoints is None or p.sampling is None:
            d_source = like(descriptor_map(d_queries), p.source)
        else:
            d_source, d_keypoints = _source_backward(p, p.keypoints, d_queries, needs)
    return MatchGradients(d_source, d_keypoints, d_target, d_temperature if needs.temperature else None)


def _source_backward(
    p: MatchProblem, keypoints: Tensor, d_queries: Tensor, needs: MatchGradients[bool]
) -> tuple[Given, Given]:
    assert p.sampling is not None
    valid = valid_rows(p.rows, keypoints)[..., None]
    gathered = GatherProblem(p.source, without_padding(keypoints, p.rows), p.sampling)
    d_queries = torch.where(valid, d_queries, 0)
    d_source, d_keypoints = source_backward(gathered, d_queries, GatherGradients(needs.source, needs.keypoints))
    return d_source, None if d_keypoints is None else torch.where(valid, d_keypoints, 0)


def like(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient in the dtype and memory format of its input."""
    return torch.empty_like(x).copy_(gradient)
