"""Stands in for Glue Factory."""

import torch


def find_nn(sim, ratio_thresh, distance_thresh):
    best, index = sim.sort(dim=2, descending=True)
    distance = (2 - 2 * best[..., :2]).clamp(min=0)
    good = distance[..., 0] <= (distance_thresh**2 if distance_thresh else torch.inf)
    if ratio_thresh:
        good &= distance[..., 0] <= ratio_thresh**2 * distance[..., 1]
    return torch.where(good, index[..., 0], -1)
