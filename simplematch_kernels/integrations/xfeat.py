"""XFeat: mutual nearest neighbours without the score matrix, and the sub-pixel offset of 8 x 8 maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import presets
from .._types import AllMatches
from ..functional.match_all import match_all
from ..functional.matching import localize
from ._patching import Integration, Replacement


@torch.inference_mode()
def match(self: Any, feats1: Tensor, feats2: Tensor, min_cossim: float = 0.82) -> tuple[Tensor, Tensor]:
    """Indices (K,) of mutual nearest neighbours of descriptors (N, C) and (M, C) above a cosine."""
    return _pairs(feats1[None], feats2[None], min_cossim)[0]


@torch.inference_mode()
def batch_match(self: Any, feats1: Tensor, feats2: Tensor, min_cossim: float = -1) -> list[tuple[Tensor, Tensor]]:
    """The same of each image of descriptors (B, N, C) and (B, M, C)."""
    return _pairs(feats1, feats2, min_cossim)


def subpix_softmax2d(theirs: Any, self: Any, heatmaps: Tensor, temp: float = 3) -> Tensor:
    """Mean offset (N, 2) from cell (H // 2, W // 2) of scores (N, H, W)."""
    _, height, width = heatmaps.shape
    if height // 2 != width // 2 or temp <= 0:
        found: Tensor = theirs(self, heatmaps, temp)
        return found
    options = presets.xfeat("subpix_softmax2d", temperature=1 / temp, output_offset=-float(width // 2))
    return localize(heatmaps[None], **options).keypoints[0]


def _pairs(first: Tensor, second: Tensor, least: float) -> list[tuple[Tensor, Tensor]]:
    found: AllMatches = match_all(first, second, **presets.xfeat())
    chosen = found.mutual & (found.score_a > least) if least > 0 else found.mutual
    return [(rows.nonzero()[:, 0], index[rows]) for rows, index in zip(chosen, found.index_a, strict=True)]


_CLASS = "modules.xfeat:XFeat"
INTEGRATIONS = (
    Integration(
        "xfeat",
        "verlab/accelerated_features",
        (
            Replacement(f"{_CLASS}.match", "self, feats1, feats2, min_cossim=0.82", match),
            Replacement(f"{_CLASS}.batch_match", "self, feats1, feats2, min_cossim=-1", batch_match),
            Replacement(f"{_CLASS}.subpix_softmax2d", "self, heatmaps, temp=3", subpix_softmax2d, needs_theirs=True),
        ),
    ),
)
