"""Checked queries and maps to matches: which operators run, whatever the public function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _resolved
from .._options import SamplingOptions, axes
from .._resolved import Sampling, cells_from_pixels
from .._types import (
    Matches,
    Rows,
    as_detailed,
    descriptors_of,
)
from ..operators import cosine_similarity as similarity_operator
from ..operators import sparse_window_match as match_operator
from ..operators._torch import is_plain
from ..reference.interpolation import interpolate_matches
from . import _given_windows, _ranking, _upsampled
from ._calls import Checked
from ._localize import localize_scores, with_details
from ._shared import (
    Localizing,
    Queries,
    any_requires_grad,
    in_blocks,
    requested,
    rows_and_temperature,
    without_padding,
)
from .gather import gather


def match(
    queries: Queries,
    target: Tensor,
    checked: Checked,
    backend: str | None,
    options: Mapping[str, Any],
    keep_all_or_none: bool = False,
) -> Matches:
    """`sparse_window_match` of checked maps and queries.

    keep_all_or_none: keep no scores for the backward, unless those of all windows take half of the budget at most.
    """
    source, keypoints, source_sizes = queries
    rows, temperature = rows_and_temperature(target, queries.number, options)
    target_sizes = _checks.check_image_sizes("target_size", options.get("target_size"), target)
    if checked.takes_steps:
        named = requested(backend)
        localizing = Localizing(rows, temperature, target_sizes, checked.localization, checked.details, named)
        return _in_steps(queries, target, checked, localizing, options)
    keep = torch.is_grad_enabled() and any_requires_grad(source, keypoints, target, temperature)
    tensors = (source, keypoints, target, rows, temperature, source_sizes, target_sizes)
    records = (checked.sampling, checked.metric, checked.localization)
    if (details := checked.details) is not None:
        detailed = match_operator.DetailedArguments(*tensors, *records, details, keep, requested(backend))
        return with_details(match_operator.run_detailed(detailed), details)
    arguments = match_operator.Arguments(*tensors, *records, keep, requested(backend))
    if keep and keep_all_or_none and 2 * arguments.window_bytes > _resolved.SCORE_BUDGET_BYTES:
        arguments = arguments._replace(keep_scores=False)
    result = match_operator.run(arguments)
    return Matches(result.keypoints, result.score, result.peak, result.log_sum_exp)


def _in_steps(
    queries: Queries, target: Tensor, checked: Checked, localizing: Localizing, options: Mapping[str, Any]
) -> Matches:
    """`match` from the descriptors on, by the operators of its steps: for options that the fused operator hasn't."""
    rows, backend, results = localizing.rows, localizing.backend, checked.results
    descriptors = _descriptors(queries, rows, checked.sampling, backend)
    if checked.upsample is not None:
        return _upsampled.match(descriptors, target, checked.upsample, checked.metric, localizing)
    if (center := options.get("center")) is not None:
        return _given_windows.match(descriptors, target, center, checked.metric, localizing)
    if results.return_scores:
        scores = _scores(descriptors, target, checked, backend)
        found = localize_scores(scores, localizing)
        found = as_detailed(found, scores=without_padding(scores, rows))
        return _ranking.with_best(found, _ranking.best_of_scores(scores, localizing, results))

    def ranked(descriptors: Tensor, localizing: Localizing) -> Matches:
        scores = _scores(descriptors, target, checked, backend)
        matches = localize_scores(scores, localizing)
        return _ranking.with_best(
            matches, _ranking.overwrite_with_best(scores, localizing, results)
        )  # fmt: skip

    if not torch.is_grad_enabled() or not any_requires_grad(descriptors, target, localizing.temperature):
        return in_blocks(ranked, descriptors, target, localizing)
    found = match(queries, target, checked._replace(takes_steps=False), backend, options)
    with torch.no_grad():
        best = in_blocks(ranked, descriptors, target, localizing.of_peak(rows))
    assert best.top_score is not None and best.top_peak is not None
    return as_detailed(found, top_score=best.top_score, top_peak=best.top_peak)


def _scores(descriptors: Tensor, target: Tensor, checked: Checked, backend: str) -> Tensor:
    """(B, N, H, W)."""
    arguments = similarity_operator.Arguments(descriptors, target, checked.metric, backend)
    return similarity_operator.run(arguments).scores


def _descriptors(queries: Queries, rows: Rows, sampling: SamplingOptions, backend: str) -> Tensor:
    """(B, N, C) of checked queries; zeros, or those of point (0, 0), in rows of padding, which may hold NaN."""
    source, keypoints, sizes = queries
    if keypoints is None:
        return without_padding(descriptors_of(source), rows)
    points = without_padding(keypoints, rows)
    return gather(source, points, sizes, sampling, backend)


def interpolate(
    queries: Queries, target: Tensor, checked: Checked, backend: str | None, options: Mapping[str, Any]
) -> Matches:
    """`match` with source_interpolation "matches"."""
    source, keypoints, sizes = queries
    assert keypoints is not None
    rows, temperature = rows_and_temperature(target, queries.number, options)
    if target.device.type == "cpu" and is_plain((keypoints, target), target.device):  # else the operator checks
        _checks.check_values(keypoints, rows, temperature, queries.number)
        _checks.check_image_size_values("source_size", sizes)
    in_cells, size = checked._replace(sampling=SamplingOptions()), checked.upsample or target.shape[-2:]

    def of_cells(cells: Tensor, rows: Rows, temperature: Tensor | None) -> Matches:
        mask = rows.target_mask
        changed: dict[str, Any] = {**rows._asdict(), "temperature": temperature}  # None: a number, in `checked`
        changed["target_mask"] = None if mask is None else mask.unflatten(-1, tuple(size))
        return match(Queries(source, cells), target, in_cells, backend, {**options, **changed})

    sampling = checked.sampling
    maps = axes(cells_from_pixels, sampling.source_coords, sampling.source_size, *source.shape[-2:])
    resolved = Sampling(*maps, "bilinear", "border", sampling.source_coords, sizes)
    return interpolate_matches(source, keypoints, resolved, rows, temperature, of_cells)
