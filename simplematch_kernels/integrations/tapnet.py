"""TAPIR in PyTorch: the mean of the cells near the best one, weighted by probabilities."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..functional.matching import localize
from ._patching import Integration, Replacement


def soft_argmax_heatmap_batched(softmax_val: Tensor, threshold: float = 5) -> Tensor:
    """Points (B, N, T, 2) of probabilities (B, N, T, H, W); the centre of the first cell is (0.5, 0.5)."""
    options: dict[str, Any] = {"window_shape": "disc", "window_size": 2 * threshold, "output_offset": 0.5}
    maps = softmax_val.flatten(1, 2)
    found = localize(maps, normalization="sum", localization="window", **options)
    points: Tensor = found.keypoints.unflatten(1, softmax_val.shape[1:3])
    return points


INTEGRATIONS = (
    Integration(
        "tapnet",
        "google-deepmind/tapnet",
        (
            Replacement(
                "tapnet.torch.utils:soft_argmax_heatmap_batched",
                "softmax_val, threshold=5",
                soft_argmax_heatmap_batched,
            ),
        ),
    ),
)
