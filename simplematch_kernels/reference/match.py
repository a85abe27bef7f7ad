"""`sparse_window_match` as its definition: gather, similarity, localise (paper eq. 6-12)."""

from __future__ import annotations

import torch
from torch import Tensor

from .._options import Localization, Metric, Sampling
from .._types import Matches, Rows
from .gather import gather_keypoints
from .localize import find_peak, localize, valid_rows
from .similarity import branches, similarity


def accumulation_dtype(features: Tensor) -> torch.dtype:
    """float64 for float64 features, float32 for everything else."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def sparse_window_match(
    source: Tensor,
    keypoints: Tensor | None,
    target: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    sampling: Sampling | None,
    metric: Metric,
    localization: Localization,
    *,
    dtype: torch.dtype | None = None,
) -> Matches:
    """Matches of keypoints (B, N, 2) of source (B, C, Hs, Ws) in target (B, C, Ht, Wt), differentiable by autograd.

    Without keypoints the source is a list of descriptors, (B, C, 1, N). `dtype` is that of the arithmetic.
    """
    dtype = accumulation_dtype(target) if dtype is None else dtype
    target = target.to(dtype)
    descriptors = queries(source, keypoints, rows, sampling, dtype)
    scores = similarity(descriptors, target.flatten(2), metric).unflatten(2, target.shape[2:])
    peak = best_cell(scores, target.flatten(2), rows)
    return localize(scores, rows, temperature, localization, peak)


def best_cell(scores: Tensor, target: Tensor, rows: Rows) -> Tensor:
    """(B, N) peaks of scores (B, N, H, W), where bitwise equal cells of the target (B, C, M) tie.

    A matrix product rounds by position, so equal cells may get scores that differ in their last bits.
    """
    peak = find_peak(scores, rows)
    if not branches(scores) or scores.numel() == 0:
        return peak
    flat = scores.detach().flatten(2)
    best = flat.gather(-1, peak[..., None])
    earlier = torch.arange(flat.shape[-1], device=flat.device) < peak[..., None]
    if rows.target_mask is not None:
        earlier = earlier & rows.target_mask[:, None]
    candidates = (earlier & ((flat - best).abs() <= 1e-5 * best.abs())).nonzero()
    for b, n, m in (chunk.unbind(1) for chunk in candidates.split(65536)):
        same = (target[b, :, m] == target[b, :, peak[b, n]]).all(-1)
        peak.view(-1).scatter_reduce_(0, (b * peak.shape[1] + n)[same], m[same], "amin")
    return peak


def queries(
    source: Tensor, keypoints: Tensor | None, rows: Rows, sampling: Sampling | None, dtype: torch.dtype
) -> Tensor:
    """(B, N, C) descriptors to look for; zero in invalid rows, whatever their padding holds."""
    if keypoints is None or sampling is None:
        descriptors = source[:, :, 0, :].transpose(1, 2).to(dtype)
        valid = valid_rows(rows, descriptors)
        return torch.where(valid[..., None], descriptors, 0)
    valid = valid_rows(rows, keypoints)[..., None]
    descriptors = gather_keypoints(source, torch.where(valid, keypoints, 0), sampling, dtype=dtype)
    return torch.where(valid, descriptors, 0)
