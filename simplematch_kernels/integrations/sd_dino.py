"""A Tale of Two Features: similarities of tokens, and the nearest-neighbour flow of its TSS script."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..functional.match_all import match_all
from ._patching import Integration, Replacement
from ._shared import chunk_cosine_sim, pairwise_sim


def nearest_neighbor_flow(
    theirs: Any,
    src_descriptor: Tensor,
    trg_descriptor: Tensor,
    ori_shape: tuple[int, int],
    mask1: Tensor | None = None,
    mask2: Tensor | None = None,
) -> Tensor:
    """Flow (1, 2, height, width) from every target cell to its nearest source cell, resized to the image."""
    if mask1 is not None and mask2 is not None:
        found: Tensor = theirs(src_descriptor, trg_descriptor, ori_shape, mask1, mask2)
        return found
    height, width = src_descriptor.shape[2:]
    matches = match_all(trg_descriptor, src_descriptor, metric="l2", return_log_sum_exp=False)
    cell = matches.index_a.view(1, height, width)
    rows, columns = (torch.arange(n, dtype=torch.float32, device=cell.device) for n in (height, width))
    # The row is a fraction there: cell / width isn't rounded.
    flow = torch.stack((cell % width - columns, cell / width - rows[:, None]), 1)
    side = max(ori_shape)
    flow = functional.interpolate(flow, (side, side), mode="bilinear", align_corners=False) * (side / 60)
    top, left = ((side - n) // 2 for n in ori_shape)
    return flow[:, :, top : top + ori_shape[0], left : left + ori_shape[1]]


_MODULE = "utils.utils_correspondence"
INTEGRATIONS = (
    Integration(
        "sd_dino",
        "Junyi42/sd-dino",
        (
            Replacement(f"{_MODULE}:chunk_cosine_sim", "x, y", chunk_cosine_sim),
            Replacement(f"{_MODULE}:pairwise_sim", "x, y, p=2, normalize=False", pairwise_sim, needs_theirs=True),
            Replacement(
                "pck_tss:nearest_neighbor_flow",
                "src_descriptor, trg_descriptor, ori_shape, mask1=None, mask2=None",
                nearest_neighbor_flow,
                needs_theirs=True,
            ),
        ),
    ),
)
