"""MASt3R: nearest neighbours of two sets both ways, without their distances in memory."""

from __future__ import annotations

from typing import Any

import torch

from .. import presets
from ..functional.match_all import match_all
from ._patching import Integration, Replacement


@torch.no_grad()
def bruteforce_reciprocal_nns(
    A: Any, B: Any, device: Any = "cuda", block_size: int | None = None, dist: str = "l2"
) -> tuple[Any, Any]:
    """The nearest of B (M, C) for each of A (N, C), and of A for each of B, as arrays; any `block_size`."""
    if dist not in ("l2", "dot"):
        raise ValueError(f"dist must be l2 or dot, got {dist!r}")
    first, second = (torch.as_tensor(x, device=device)[None] for x in (A, B))
    found = match_all(first, second, **presets.mast3r(metric=dist))
    return found.index_a[0].cpu().numpy(), found.index_b[0].cpu().numpy()


INTEGRATIONS = (
    Integration(
        "mast3r",
        "naver/mast3r",
        (
            Replacement(
                "mast3r.fast_nn:bruteforce_reciprocal_nns",
                "A, B, device='cuda', block_size=None, dist='l2'",
                bruteforce_reciprocal_nns,
            ),
        ),
    ),
)
