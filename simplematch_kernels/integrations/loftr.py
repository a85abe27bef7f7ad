"""LoFTR: expectation and spread of the fine matches. Its coarse matching returns the whole confidence matrix."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..functional.matching import localize
from ._patching import Integration, Replacement
from ._shared import UNIT


def forward(theirs: Any, self: Any, feat_f0: Tensor, feat_f1: Tensor, data: dict[str, Any]) -> None:
    """Add expec_f (M, 3), the mean from -1 to 1 and its spread, and the fine points to `data`."""
    count, cells, channels = feat_f0.shape
    if count == 0:
        theirs(self, feat_f0, feat_f1, data)
        return
    side = math.isqrt(cells)
    self.M, self.W, self.WW, self.C = count, side, cells, channels
    self.scale = data["hw0_i"][0] / data["hw0_f"][0]
    scores = torch.einsum("mc,mrc->mr", feat_f0[:, cells // 2], feat_f1).view(1, count, side, side)
    options: dict[str, Any] = {"localization": "global", "temperature": channels**0.5, **UNIT}
    found = localize(scores, return_covariance=True, **options)
    points, covariance = found.keypoints[0], found.covariance
    assert covariance is not None
    spread = covariance[0].diagonal(dim1=1, dim2=2).clamp(min=1e-10).sqrt().sum(1, keepdim=True)
    data["expec_f"] = torch.cat((points, spread), 1)
    self.get_fine_match(points, data)


INTEGRATIONS = (
    Integration(
        "loftr",
        "zju3dv/LoFTR",
        (
            Replacement(
                "src.loftr.utils.fine_matching:FineMatching.forward",
                "self, feat_f0, feat_f1, data",
                forward,
                needs_theirs=True,
            ),
        ),
    ),
)
