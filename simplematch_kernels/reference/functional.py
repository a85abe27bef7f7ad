"""The definition under the public function's signature: plain PyTorch, differentiated by autograd."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import _checks
from .._options import DetailOptions, LayoutOptions, LocalizationOptions, MetricOptions, SamplingOptions, pick
from .._types import Matches, MatchProblem, Rows, accumulation_dtype
from . import match


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
    value, (batch, queries) = options.get("temperature", 0.02), keypoints.shape[:2]
    number, temperature = _checks.check_temperature(value, batch, queries, target)
    localization = pick(LocalizationOptions, {**options, "fixed_temperature": number}).checked()
    problem = MatchProblem(
        source,
        keypoints,
        target,
        _checks.check_rows(pick(Rows, options), keypoints.shape[1], target),
        None if temperature is None else temperature.to(dtype),
        pick(SamplingOptions, options).checked().resolve(*source.shape[-2:]),
        pick(MetricOptions, options).checked().resolve(),
        localization.resolve(*target.shape[-2:]),
        details=pick(DetailOptions, options).checked(),
    )
    return cast(Matches, match.sparse_window_match(problem, dtype=dtype))  # as the public functions
