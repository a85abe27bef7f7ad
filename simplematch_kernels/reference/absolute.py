"""The metric "l1", s = -sum_c |q_c - f_c|: scores, their gradients and their tangents.

Differences (B, N, M, C) exist a slice of channels at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .. import _resolved
from .recorded import distances


def minus_distance(q: Tensor, f: Tensor) -> Tensor:
    """Scores (B, N, M) of descriptors q (B, N, C) with cells f (B, C, M)."""
    wide = torch.promote_types(q.dtype, torch.float32)  # there are no 16-bit distances
    return -distances(q.to(wide), f.to(wide), 1).to(q.dtype)


def query_sums(ds: Tensor, q: Tensor, f: Tensor) -> Tensor:
    """dq[n, c] = -sum_m ds[n, m] sign(q[n, c] - f[c, m]), with sign(0) = 0; (B, N, C)."""
    parts = [torch.einsum("bnm,bnmc->bnc", ds, signs) for _, signs in _signs(q, f)]
    return -torch.cat(parts, 2) if parts else torch.zeros_like(q)


def target_sums(ds: Tensor, q: Tensor, f: Tensor) -> Tensor:
    """df[c, m] = sum_n ds[n, m] sign(q[n, c] - f[c, m]); (B, C, M)."""
    parts = [torch.einsum("bnm,bnmc->bcm", ds, signs) for _, signs in _signs(q, f)]
    return torch.cat(parts, 1) if parts else torch.zeros_like(f)


def tangents(q: Tensor, f: Tensor, dq: Tensor, df: Tensor) -> Tensor:
    """ds[n, m] = -sum_c sign(q[n, c] - f[c, m]) (dq[n, c] - df[c, m])."""
    ds = q.new_zeros(q.shape[0], q.shape[1], f.shape[2])
    for c, signs in _signs(q, f):
        ds = ds - torch.einsum("bnmc,bnc->bnm", signs, dq[:, :, c]) + torch.einsum("bnmc,bcm->bnm", signs, df[:, c])
    return ds


def _signs(q: Tensor, f: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """sign(q - f) (B, N, M, some channels) of slices of channels; 0 where one of both is NaN, whose ds is 0 or NaN."""
    channels = q.shape[2]
    step = _resolved.queries_within_budget(q.element_size() * q.shape[0] * q.shape[1] * f.shape[2])
    for first in range(0, channels, step):
        c = slice(first, min(channels, first + step))
        of_q, of_f = q[:, :, None, c], f[:, c].mT[:, None]
        yield c, (of_q > of_f).to(q.dtype) - (of_q < of_f).to(q.dtype)
