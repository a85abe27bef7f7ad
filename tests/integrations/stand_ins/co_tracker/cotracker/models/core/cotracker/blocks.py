"""Stands in for CoTracker's correlations: products with all cells of four maps, sampled round points."""

import torch
from cotracker.models.core.model_utils import sample
from torch.nn import functional


class CorrBlock:
    def __init__(self, fmaps, num_levels=4, radius=4, multiple_track_feats=False, padding_mode="zeros"):
        self.C, self.radius, self.num_levels = fmaps.shape[2], radius, num_levels
        self.multiple_track_feats, self.padding_mode = multiple_track_feats, padding_mode
        self.fmaps_pyramid = [fmaps]
        for _ in range(num_levels - 1):
            fmaps = functional.avg_pool2d(fmaps.flatten(0, 1), 2).unflatten(0, fmaps.shape[:2])
            self.fmaps_pyramid.append(fmaps)

    def corr(self, targets):
        parts = targets.split(self.C, 3) if self.multiple_track_feats else [targets] * self.num_levels
        self.maps = [
            torch.einsum("bsnc,bschw->bsnhw", part, fmaps) / self.C**0.5
            for part, fmaps in zip(parts, self.fmaps_pyramid, strict=True)
        ]

    def sample(self, coords):
        line = torch.arange(-self.radius, self.radius + 1.0)
        offsets = torch.cartesian_prod(line, line)
        found = []
        for level, maps in enumerate(self.maps):
            points = coords.reshape(-1, 1, 2) / 2**level + offsets
            found.append(sample(maps.flatten(0, 2)[:, None], points, self.padding_mode).unflatten(0, coords.shape[:3]))
        return torch.cat(found, 4)[:, :, :, 0].transpose(1, 2).flatten(0, 1)
