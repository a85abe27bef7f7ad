"""Inputs from a generator: maps that vary smoothly, as features of images do, and pairs of them that correspond."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional


def smooth(random: Generator, *shape: int, step: int = 4, noise: float = 0.3) -> Tensor:
    """(B, C, H, W): a coarse random map, `step` cells wide each, interpolated, and noise."""
    batch, channels, height, width = shape
    coarse = torch.randn(batch, channels, height // step + 2, width // step + 2, generator=random)
    fine = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return fine + noise * torch.randn(shape, generator=random)


def feature_pair(random: Generator, batch: int, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two maps (B, C, H, W): the second is the first, turned by ten degrees and scaled, with noise."""
    source = smooth(random, batch, channels, height, width)
    angle, scale = math.radians(10), 1.1
    cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
    turn = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]]).expand(batch, -1, -1)
    grid = functional.affine_grid(turn, [batch, channels, height, width], align_corners=False)
    target = functional.grid_sample(source, grid, padding_mode="reflection", align_corners=False)
    return source, target + 0.5 * torch.randn(target.shape, generator=random)


def score_maps(random: Generator, *shape: int, contrast: float = 0.1) -> Tensor:
    """(B, N, H, W): scores with a standard deviation of about `contrast`, smooth."""
    return contrast * smooth(random, *shape, noise=0.1)


def points(random: Generator, batch: int, count: int, height: int, width: int) -> Tensor:
    """(B, N, 2) points (x, y) inside a map."""
    return torch.rand(batch, count, 2, generator=random) * torch.tensor([width - 1.0, height - 1.0])


def descriptor_sets(random: Generator, first: int, second: int, channels: int) -> tuple[Tensor, Tensor]:
    """(N, C) and (M, C) of length one; two thirds of the smaller set have a noisy partner in the other."""
    shared = 2 * min(first, second) // 3
    base = torch.randn(shared, channels, generator=random)
    sets = []
    for count in (first, second):
        own = torch.randn(count - shared, channels, generator=random)
        noisy = base + 0.4 * torch.randn(base.shape, generator=random)
        order = torch.randperm(count, generator=random)
        sets.append(functional.normalize(torch.cat((noisy, own))[order], dim=1))
    return sets[0], sets[1]


def partners(first: Tensor, second: Tensor, count: int) -> Tensor:
    """(N,) the partner of each of N descriptors in pairs first[k], second[k], -1 where there is none."""
    found = torch.full((count,), -1, dtype=torch.int64)
    found[first] = second
    return found
