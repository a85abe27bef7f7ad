"""The definition under the public function's signature: plain PyTorch, differentiated by autograd."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import _checks
from .._options import (
    DEFAULT_TEMPERATURE,
    InterpolationOptions,
    LayoutOptions,
    LocalizationOptions,
    MetricOptions,
    SamplingOptions,
    pick,
)
from .._result_options import DetailOptions, details_of
from .._truth_options import truth_options
from .._types import CrossEntropyProblem, Matches, MatchProblem, Rows, accumulation_dtype
from . import match
from . import sparse_match_cross_entropy as entropy
from .interpolation import interpolate_matches


def sparse_window_match(
    source: Tensor, target: Tensor, keypoints: Tensor, *, dtype: torch.dtype | None = None, **options: Any
) -> Matches:
    """`simplematch_kernels.sparse_window_match` without an operator, for tests, comparisons and reading.

    Args:
        source: (B, C, Hs, Ws) features, or tokens.
        target: (B, C, Ht, Wt) features, or tokens.
        keypoints: (B, N, 2) points as (x, y).
        dtype: that of the arithmetic; None is float64 for float64 features and float32 for the rest.
        options: those of `simplematch_kernels.sparse_window_match`, but for `backend`.

    Returns:
        `Matches`, in the dtype of the arithmetic, or `DetailedMatches`.
    """
    layout = pick(LayoutOptions, options)
    source = _checks.check_map("source", source, layout.of_source())
    target = _checks.check_map("target", target, layout.of_target())
    dtype = accumulation_dtype(target) if dtype is None else dtype
    value, (batch, queries) = options.get("temperature", DEFAULT_TEMPERATURE), keypoints.shape[:2]
    number, temperature = _checks.check_temperature(value, batch, queries, target)
    source_sizes = _checks.check_image_sizes("source_size", options.get("source_size"), source)
    target_sizes = _checks.check_image_sizes("target_size", options.get("target_size"), target)
    options |= {"source_size": None} if source_sizes is not None else {}
    options |= {"target_size": None} if target_sizes is not None else {}
    localization = pick(LocalizationOptions, {**options, "fixed_temperature": number}).checked()
    problem = MatchProblem(
        source,
        keypoints,
        target,
        _checks.check_rows(pick(Rows, options), keypoints.shape[1], target),
        None if temperature is None else temperature.to(dtype),
        pick(SamplingOptions, options).checked().resolve(*source.shape[-2:], image_sizes=source_sizes),
        pick(MetricOptions, options).checked().resolve(),
        localization.resolve(*target.shape[-2:], image_sizes=target_sizes),
        details=details_of(options) or DetailOptions(),
    )
    if pick(InterpolationOptions, options).checked().source_interpolation == "features":
        return cast(Matches, match.sparse_window_match(problem, dtype=dtype))  # as the public functions
    in_cells = SamplingOptions().resolve(*source.shape[-2:])

    def of_cells(cells: Tensor, rows: Rows, temperature: Tensor | None) -> Matches:
        of_cells = problem._replace(keypoints=cells, rows=rows, temperature=temperature, sampling=in_cells)
        return cast(Matches, match.sparse_window_match(of_cells, dtype=dtype))  # without details

    assert problem.sampling is not None
    rows, temperature = problem.rows, problem.temperature
    return interpolate_matches(source, keypoints, problem.sampling, rows, temperature, of_cells)


def sparse_match_cross_entropy(
    source: Tensor,
    target: Tensor,
    keypoints: Tensor,
    target_keypoints: Tensor,
    *,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """The losses (B, N) of `simplematch_kernels.sparse_match_cross_entropy` without an operator, as above."""
    value, (batch, queries) = options.get("temperature", DEFAULT_TEMPERATURE), keypoints.shape[:2]
    number, temperature = _checks.check_temperature(value, batch, queries, target)
    problem = CrossEntropyProblem(
        source,
        keypoints,
        target,
        target_keypoints,
        _checks.check_rows(pick(Rows, options), keypoints.shape[1], target),
        temperature if temperature is None or dtype is None else temperature.to(dtype),
        pick(SamplingOptions, options).checked().resolve(*source.shape[-2:]),
        pick(MetricOptions, options).checked().resolve(),
        truth_options(options, number).resolve(*target.shape[-2:]),
    )
    return entropy.cross_entropy(problem, dtype=dtype)
