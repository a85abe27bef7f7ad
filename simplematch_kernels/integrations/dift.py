"""DIFT: mutual nearest neighbours of its homography script. Its SPair script has no function to replace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..functional.match_all import match_all
from ._patching import Integration, Replacement


def mnn_matcher(descriptors_a: Tensor, descriptors_b: Tensor, metric: str = "cosine") -> Any:
    """Pairs (K, 2) of mutual nearest neighbours of descriptors (N, C) and (M, C), as an array."""
    with torch.no_grad():
        options: dict[str, Any] = {"metric": metric, "eps": 1e-12, "eps_mode": "clamp"}
        found = match_all(descriptors_a[None], descriptors_b[None], return_log_sum_exp=False, **options)
    pairs = torch.stack((found.mutual[0].nonzero()[:, 0], found.index_a[found.mutual]), 1)
    return pairs.cpu().numpy()


INTEGRATIONS = (
    Integration(
        "dift",
        "Tsingularity/dift",
        (Replacement("eval_homography:mnn_matcher", "descriptors_a, descriptors_b, metric='cosine'", mnn_matcher),),
    ),
)
