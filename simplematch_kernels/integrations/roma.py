"""RoMa: correlations round a warp without the sampled features, and the coordinates of Tiny RoMa's exact softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..functional.local_correlation import local_correlation as correlate
from ..functional.matching import localize
from ._patching import Integration, Replacement


def local_correlation(
    theirs: Any,
    feature0: Tensor,
    feature1: Tensor,
    local_radius: int,
    warp: Tensor,
    *,
    use_custom_corr: bool,
    padding_mode: str = "zeros",
    sample_mode: str = "bilinear",
) -> Tensor:
    """Correlations (B, window, H, W) of features with those round a warp (B, 2, H, W); gradient to feature0 only."""
    height, width = feature0.shape[2:]
    if feature1.shape[2:] != feature0.shape[2:] or padding_mode not in ("zeros", "border"):
        options = {"padding_mode": padding_mode, "sample_mode": sample_mode}
        found: Tensor = theirs(feature0, feature1, local_radius, warp, use_custom_corr=use_custom_corr, **options)
        return found
    # From -1 to 1 between the outer edges of an image that is 2 cells wide: half_pixel after adding 1.
    points = warp.detach().flatten(2).mT + 1
    cells = points * torch.tensor((width / 2, height / 2), device=points.device, dtype=points.dtype) - 0.5
    window = correlate(
        feature0,
        feature1.detach(),
        cells,
        radius=local_radius,
        sampling=sample_mode,
        padding=padding_mode,
        scale=feature0.shape[1] ** -0.5,
    )
    correlations: Tensor = window.flatten(2).mT.unflatten(2, (height, width))
    return correlations.to(feature0.dtype)


def pos_embed(theirs: Any, self: Any, corr_volume: Tensor) -> Tensor:
    """Mean coordinates (B, 2, H0, W0) from -1 to 1 between the edges, of scores (B, H1, W1, H0, W0)."""
    if not self.training and not self.exact_softmax:
        found: Tensor = theirs(self, corr_volume)
        return found
    maps = corr_volume.flatten(3).movedim(3, 1)
    # The image is 2 x 2 pixels with centres of cells at (cell + 1/2) * 2 / cells - 1/2; their first edge is -1.
    options: dict[str, Any] = {"target_size": (2, 2), "target_coords": "half_pixel", "output_offset": -0.5}
    points: Tensor = localize(maps, localization="global", temperature=1.0, **options).keypoints.mT.unflatten(
        2, corr_volume.shape[3:]
    )
    return points


INTEGRATIONS = (
    Integration(
        "roma",
        "Parskatt/RoMa",
        (
            Replacement(
                "romatch.utils.local_correlation:local_correlation",
                "feature0, feature1, local_radius, warp, *, use_custom_corr, padding_mode='zeros', "
                "sample_mode='bilinear'",
                local_correlation,
                needs_theirs=True,
            ),
            Replacement("romatch.models.tiny:TinyRoMa.pos_embed", "self, corr_volume", pos_embed, needs_theirs=True),
        ),
    ),
)
