"""MARCO: kernel soft-argmax of its score maps."""

from __future__ import annotations

from torch import Tensor

from ..functional.matching import localize
from ._patching import Integration, Replacement


def kernel_softargmax_get_matches_logits(trg_logits: Tensor, softmax_temp: float, sigma: float = 7) -> Tensor:
    """Target cells (B, N, 2) of scores (B, N, H, W)."""
    return localize(trg_logits, localization="gaussian", sigma=sigma, temperature=softmax_temp).keypoints


INTEGRATIONS = (
    Integration(
        "marco",
        "visinf/MARCO",
        (
            Replacement(
                "util.geometry:kernel_softargmax_get_matches_logits",
                "trg_logits, softmax_temp, sigma=7",
                kernel_softargmax_get_matches_logits,
            ),
        ),
    ),
)
