"""Random affine augmentation of an image and its keypoints."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .._torchvision import tv_tensors

SCALE = 0.45  # largest |log scale| along each axis
SHEAR = 0.25
SHIFT = 0.3  # fraction of half the side
DEGREES = 30.0


def random_affine(
    image: Tensor, points: tv_tensors.KeyPoints, generator: Generator
) -> tuple[Tensor, tv_tensors.KeyPoints]:
    """Scale, shear, rotate and shift an image (3, H, W) uint8 and its points (N, 2); the outside is black."""
    matrix, shift = _draw_map(generator)
    height, width = image.shape[-2:]
    theta = torch.cat((matrix, shift[:, None]), 1).float()[None]  # maps output to input, in -1..1
    grid = torch.nn.functional.affine_grid(theta, [1, 3, height, width], align_corners=False)
    pixels = image.as_subclass(Tensor)[None].float()
    moved = torch.nn.functional.grid_sample(pixels, grid, align_corners=False)
    half = torch.tensor([width / 2, height / 2], dtype=points.dtype)
    centred = points.as_subclass(Tensor) / half - 1
    back = torch.linalg.inv(matrix).to(points.dtype)
    results = ((centred - shift.to(points.dtype)) @ back.T + 1) * half
    return tv_tensors.Image(moved[0].round().clamp(0, 255).to(torch.uint8)), tv_tensors.wrap(results, like=points)


def _draw_map(generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw a matrix (2, 2) and a shift (2,) that map output to input; the centre stays visible."""
    draws = 2 * torch.rand(6, generator=generator, dtype=torch.float64) - 1
    angle = math.radians(DEGREES) * draws[0]
    rotation = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
    shear = torch.eye(2, dtype=torch.float64)
    shear[0, 1] = SHEAR * draws[1]
    return rotation @ shear @ torch.diag(torch.exp(SCALE * draws[2:4])), SHIFT * draws[4:6]
