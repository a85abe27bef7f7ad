"""GeoAware-SC: evaluation by window or kernel soft-argmax, dense flow, and distances between images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..functional.match_all import match_all
from ..functional.matching import localize, match_descriptors
from ._patching import Integration, Replacement
from ._shared import chunk_cosine_sim, distances, pairwise_sim


def calculate_keypoint_transformation(
    args: Any, img1_desc: Tensor, img2_desc: Tensor, img1_patch_idx: Any, num_patches: int
) -> Tensor:
    """Target points (K, 2) in pixels of chosen source patches; descriptors are (1, patches, C)."""
    stride = args.ANNO_SIZE / num_patches
    options = _localization(args.SOFT_EVAL_WINDOW) if args.SOFT_EVAL else {"localization": "argmax"}
    shape = (num_patches, num_patches)
    queries = img1_desc[:, img1_patch_idx]
    found = match_descriptors(queries, img2_desc, layout="tokens", target_shape=shape, metric="dot", **options)
    points: Tensor = found.keypoints[0].clamp(0, num_patches - 1) * stride + stride // 2
    return points


def get_flow(corr: Tensor, flow_window: int = 0, num_patches: int = 60) -> Tensor:
    """Target cells (1, H, W, 2) of scores (H*W source cells, H*W target cells) of square maps."""
    sides = [math.isqrt(cells) for cells in corr.shape]
    found = localize(corr.view(1, -1, sides[1], sides[1]), **_localization(flow_window))
    return found.keypoints.view(1, sides[0], sides[0], 2)


def get_distance(
    theirs: Any, feature1: Tensor, feature2: Tensor, mask1: Tensor, mask2: Tensor, RESOLUTION: int = 64
) -> Tensor:
    """Mean distance of the source cells in the mask to the nearest target cell in the mask."""
    shape = (RESOLUTION, RESOLUTION)
    first, second = (_on_gpu(x).reshape(1, 3600, -1).mT.unflatten(2, (60, 60)) for x in (feature1, feature2))
    first, second = (functional.interpolate(x, shape, mode="bilinear") for x in (first, second))
    masks = [functional.interpolate(_on_gpu(x)[None, None], shape, mode="nearest")[0] == 1 for x in (mask1, mask2)]
    if not (masks[0].any() and masks[1].any()):
        found: Tensor = theirs(feature1, feature2, mask1, mask2, RESOLUTION)
        return found
    options: dict[str, Any] = {"valid_a": masks[0], "valid_b": masks[1]}
    matches = match_all(first, second, metric="l2", return_log_sum_exp=False, **options)
    return distances(matches.score_a)[masks[0].flatten(1)].mean().cpu()


def get_distance_mutual_nn(feature1: Tensor, feature2: Tensor) -> Tensor:
    """Mean distance of mutual nearest neighbours of descriptors (1, N, C)."""
    matches = match_all(_on_gpu(feature1), _on_gpu(feature2), metric="l2", return_log_sum_exp=False)
    return distances(matches.score_a)[matches.mutual].mean()


def _localization(window: int) -> dict[str, Any]:
    """Scores outside a window are zero, not left out, as they multiply by a mask."""
    options: dict[str, Any] = {"localization": "global"}
    if window > 0:
        options = {"localization": "window", "window_size": 2 * window + 1, "border": "shrink", "outside_value": 0.0}
    elif window < 0:
        options = {"localization": "gaussian", "sigma": -window}
    return {**options, "temperature": 0.02}


def _on_gpu(x: Tensor) -> Tensor:
    return x.cuda() if torch.cuda.is_available() else x


_MODULE = "utils.utils_correspondence"
INTEGRATIONS = (
    Integration(
        "geoaware_sc",
        "Junyi42/GeoAware-SC",
        (
            Replacement(
                f"{_MODULE}:calculate_keypoint_transformation",
                "args, img1_desc, img2_desc, img1_patch_idx, num_patches",
                calculate_keypoint_transformation,
            ),
            Replacement(f"{_MODULE}:get_flow", "corr, flow_window=0, num_patches=60", get_flow),
            Replacement(
                f"{_MODULE}:get_distance",
                "feature1, feature2, mask1, mask2, RESOLUTION=64",
                get_distance,
                needs_theirs=True,
            ),
            Replacement(f"{_MODULE}:get_distance_mutual_nn", "feature1, feature2", get_distance_mutual_nn),
            Replacement(f"{_MODULE}:chunk_cosine_sim", "x, y", chunk_cosine_sim),
            Replacement(f"{_MODULE}:pairwise_sim", "x, y, p=2, normalize=False", pairwise_sim, needs_theirs=True),
        ),
    ),
)
