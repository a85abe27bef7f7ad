"""CATs: soft-argmax over the refined correlation map."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import presets
from ..functional.matching import localize
from ._patching import Integration, Replacement
from ._shared import UNIT


def soft_argmax(self: Any, corr: Tensor, beta: float = 0.02) -> tuple[Tensor, Tensor]:
    """Target points (B, 1, H, W) from -1 to 1 of scores (B, H*W target cells, H, W source cells)."""
    height, width = corr.shape[2:]
    maps = corr.flatten(2).transpose(1, 2).unflatten(2, (height, width))
    points = localize(maps, **presets.cats(temperature=beta, **UNIT)).keypoints.unflatten(1, (height, width))
    return points[:, None, ..., 0], points[:, None, ..., 1]


INTEGRATIONS = (
    Integration(
        "cats",
        "SunghwanHong/Cost-Aggregation-transformers",
        (Replacement("models.cats:CATs.soft_argmax", "self, corr, beta=0.02", soft_argmax),),
    ),
)
