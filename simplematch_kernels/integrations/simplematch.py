"""SimpleMatch: window soft-argmax of a score map, without its CUDA extension."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..functional.matching import localize
from ._patching import Integration, Replacement


def compute_trg_kps(self: Any, corr: Tensor, window_size: int | None) -> Tensor:
    """Target points (B, 2, K) in pixels of scores (B, K, H*W) of square maps."""
    side = math.isqrt(corr.shape[2])
    options: dict[str, Any] = {"localization": "global"}
    if window_size is not None and window_size <= side:
        options = {"localization": "window", "window_size": window_size, "border": "shift"}
    found = localize(corr.unflatten(2, (side, side)), temperature=0.02, **options)
    points: Tensor = found.keypoints.mT * (self.img_size / side)
    return points


INTEGRATIONS = (
    Integration(
        "simplematch",
        "hailong23-jin/SimpleMatch",
        (
            Replacement(
                "src.models.semantic_correspondence.task:SparseCorrespondenceTask.compute_trg_kps",
                "self, corr, window_size",
                compute_trg_kps,
            ),
        ),
    ),
)
