"""Stands in for kornia's soft-argmax."""

import torch


def spatial_soft_argmax2d(input, temperature=None, normalized_coordinates=True):
    height, width = input.shape[2:]
    weights = torch.softmax(input.flatten(2) / (1 if temperature is None else temperature), 2).view(input.shape)
    lines = [torch.linspace(-1, 1, n) if normalized_coordinates else torch.arange(float(n)) for n in (height, width)]
    return torch.stack((weights.sum(2) @ lines[1], weights.sum(3) @ lines[0]), 2)
