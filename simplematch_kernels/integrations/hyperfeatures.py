"""Diffusion Hyperfeatures: nearest neighbours on the upsampled map, which is never made, and cosines of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..functional.gather import gather_keypoints
from ..functional.matching import match_descriptors
from ._patching import Integration, Replacement
from ._shared import chunk_cosine_sim


def find_nn_source_correspondences(
    theirs: Any, img1_feats: Tensor, img2_feats: Tensor, source_points: Any, output_size: Any, load_size: Any
) -> tuple[Tensor, Tensor]:
    """The source points (N, 2) as (y, x), and the best pixels (N, 2) of the target as (y, x)."""
    if load_size[0] != load_size[1]:
        found: tuple[Tensor, Tensor] = theirs(img1_feats, img2_feats, source_points, output_size, load_size)
        return found
    size = (load_size[0], load_size[1])
    pixels = np.round(np.clip(source_points, 0, size[0] - 1))[None, :, ::-1].astype(np.float32)
    points = torch.from_numpy(pixels).to(img1_feats.device)
    options: dict[str, Any] = {"size": size, "coords": "half_pixel", "sampling": "bilinear", "padding": "border"}
    queries = gather_keypoints(img1_feats, points, **options)
    cells = match_descriptors(queries, img2_feats, upsample=size, localization="argmax").peak[0]
    return torch.from_numpy(source_points), torch.stack((cells // size[1], cells % size[1]), -1)


_MODULE = "archs.correspondence_utils"
INTEGRATIONS = (
    Integration(
        "hyperfeatures",
        "diffusion-hyperfeatures/diffusion_hyperfeatures",
        (
            Replacement(
                f"{_MODULE}:find_nn_source_correspondences",
                "img1_feats, img2_feats, source_points, output_size, load_size",
                find_nn_source_correspondences,
                needs_theirs=True,
            ),
            Replacement(f"{_MODULE}:chunk_cosine_sim", "x, y", chunk_cosine_sim),
        ),
    ),
)
