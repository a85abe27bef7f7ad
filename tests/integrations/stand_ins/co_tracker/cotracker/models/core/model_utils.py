"""Stands in for CoTracker's sampling."""

import torch
from torch.nn import functional


def sample(maps, points, padding):
    """(B, C, ...) of maps (B, C, H, W) at points (B, ..., 2) in cells."""
    last = torch.tensor([maps.shape[3] - 1.0, maps.shape[2] - 1.0])
    grid = (2 * points / last - 1).flatten(1, -2)[:, :, None]
    found = functional.grid_sample(maps, grid, padding_mode=padding, align_corners=True)[..., 0]
    return found.unflatten(2, points.shape[1:-1])


def sample_features4d(input, coords):
    return sample(input, coords, "border").mT
