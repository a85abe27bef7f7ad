"""Convolutional Hough Matching: keypoints transferred by a Gaussian-weighted soft-argmax of every source cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import presets
from ..functional.matching import localize
from ._patching import Integration, Replacement
from ._shared import UNIT


def transfer_kps(cls: Any, confidence_ts: Tensor, src_kps: Tensor, n_pts: Tensor, normalized: bool) -> Tensor:
    """Target points (B, 2, K) from -1 to 1, padded with -2, of scores (B, S*S source cells, S*S target cells)."""
    if not normalized:
        src_kps = cls.normalize_kps(src_kps)
    maps = confidence_ts.unflatten(2, (cls.spatial_side, cls.spatial_side))
    points = localize(maps, **presets.chm(**UNIT)).keypoints
    found = torch.full(src_kps.shape, -2.0, dtype=points.dtype, device=points.device)
    for image, count in enumerate(n_pts):
        weights = cls.attentive_indexing(src_kps[image, :, :count].t()).flatten(1)
        found[image, :, :count] = (weights @ points[image]).t()
    return found


INTEGRATIONS = (
    Integration(
        "chm",
        "juhongm999/chm",
        (
            Replacement(
                "model.base.geometry:Geometry.transfer_kps",
                "cls, confidence_ts, src_kps, n_pts, normalized",
                transfer_kps,
            ),
        ),
    ),
)
