"""CoTracker: samples of features, and correlations round given points without the correlation volume."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..functional.gather import gather_keypoints
from ..functional.local_correlation import local_correlation
from ._patching import Integration, Replacement


def sample_features4d(input: Tensor, coords: Tensor) -> Tensor:
    """Features (B, N, C) of a map (B, C, H, W) at cells (B, N, 2)."""
    return gather_keypoints(input, coords, sampling="bilinear", padding="border")


def corr(self: Any, targets: Tensor) -> None:
    """Keep the queries (B, S, N, C): `sample` correlates them with what it samples."""
    several = self.multiple_track_feats
    self.queries_pyramid = (
        targets.split(targets.shape[-1] // self.num_levels, dim=-1) if several else (targets,) * self.num_levels
    )


def sample(self: Any, coords: Tensor) -> Tensor:
    """Correlations (B*N, S, levels * window) round points (B, S, N, 2)."""
    batch, frames = coords.shape[:2]
    levels = [
        local_correlation(
            queries.flatten(0, 1),
            maps.flatten(0, 1),
            coords.flatten(0, 1) / 2**level,
            radius=self.radius,
            padding=self.padding_mode,
            scale=self.C**-0.5,
        ).mT.flatten(2)
        for level, (queries, maps) in enumerate(zip(self.queries_pyramid, self.fmaps_pyramid, strict=True))
    ]
    found: Tensor = torch.cat(levels, -1).unflatten(0, (batch, frames))
    return found.transpose(1, 2).flatten(0, 1).float()


_MODULE = "cotracker.models.core.cotracker.blocks"
INTEGRATIONS = (
    Integration(
        "co_tracker",
        "facebookresearch/co-tracker",
        (
            Replacement("cotracker.models.core.model_utils:sample_features4d", "input, coords", sample_features4d),
            Replacement(f"{_MODULE}:CorrBlock.corr", "self, targets", corr),
            Replacement(f"{_MODULE}:CorrBlock.sample", "self, coords", sample),
        ),
    ),
)
