"""Stands in for RoMa's correlations."""

import torch
from torch.nn import functional


def local_correlation(
    feature0, feature1, local_radius, warp, *, use_custom_corr, padding_mode="zeros", sample_mode="bilinear"
):
    size = torch.tensor([feature0.shape[3], feature0.shape[2]])
    line = torch.arange(-local_radius, local_radius + 1)
    found = []
    for dy in line:
        for dx in line:
            grid = warp.permute(0, 2, 3, 1) + 2 * torch.stack((dx, dy)) / size
            options = {"padding_mode": padding_mode, "mode": sample_mode, "align_corners": False}
            sampled = functional.grid_sample(feature1, grid, **options).detach()
            found.append((feature0 * sampled).sum(1) / feature0.shape[1] ** 0.5)
    return torch.stack(found, 1)
