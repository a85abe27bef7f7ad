"""Glue Factory: its nearest neighbour matcher's search with ratio and distance test in a score matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..functional.matching import localize
from ._patching import Integration, Replacement


@torch.no_grad()
def find_nn(sim: Tensor, ratio_thresh: float | None, distance_thresh: float | None) -> Tensor:
    """The best of M for each of N in scores (B, N, M), -1 where a test fails."""
    options: dict[str, Any] = {"return_second": True, "second_radius": 0} if ratio_thresh else {}
    found = localize(sim[:, :, None], localization="argmax", temperature=1.0, **options)
    distance, passed = 2 * (1 - found.score), torch.ones_like(found.peak, dtype=torch.bool)
    if ratio_thresh:
        assert found.second_score is not None
        passed &= distance <= ratio_thresh**2 * 2 * (1 - found.second_score)
    if distance_thresh:
        passed &= distance <= distance_thresh**2
    return torch.where(passed, found.peak, -1)


INTEGRATIONS = (
    Integration(
        "glue_factory",
        "cvg/glue-factory",
        (
            Replacement(
                "gluefactory.models.matchers.nearest_neighbor_matcher:find_nn",
                "sim, ratio_thresh, distance_thresh",
                find_nn,
            ),
        ),
    ),
)
