"""What several integrations share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..functional.matching import cosine_similarity

UNIT: dict[str, Any] = {"target_size": (3, 3), "target_coords": "align_corners", "output_offset": -1.0}
"""Results from -1 in the first cell to 1 in the last, as `torch.linspace(-1, 1, cells)` numbers them."""


def distances(score: Tensor) -> Tensor:
    """Distances of scores -d^2, with the gradient zero at distance zero, as `torch.cdist` has it."""
    apart = score < 0
    return torch.where(apart, torch.where(apart, -score, 1).sqrt(), 0)


def chunk_cosine_sim(x: Tensor, y: Tensor) -> Tensor:
    """Cosines (B, 1, N, M) of tokens (B, 1, N, C) and (B, 1, M, C)."""
    return _scores(x, y, metric="cosine", eps_mode="clamp")


def pairwise_sim(theirs: Any, x: Tensor, y: Tensor, p: float = 2, normalize: bool = False) -> Tensor:
    """Negative distances (B, 1, N, M) in the p-norm of tokens (B, 1, N, C) and (B, 1, M, C)."""
    if p not in (1, 2):
        found: Tensor = theirs(x, y, p, normalize)
        return found
    if normalize:
        x, y = (torch.nn.functional.normalize(tokens, dim=-1) for tokens in (x, y))
    return _scores(x, y, metric="l1") if p == 1 else -distances(_scores(x, y, metric="l2"))


def _scores(x: Tensor, y: Tensor, **options: Any) -> Tensor:
    cells = (1, y.shape[2])
    return cosine_similarity(x[:, 0], y[:, 0], layout="tokens", target_shape=cells, **options).transpose(1, 2)
