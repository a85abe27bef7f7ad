"""Photometric augmentation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from .._torchvision import transforms as F


def photometric(image: Tensor, strength: float, generator: Generator) -> Tensor:
    """Apply grayscale with probability 0.1, then each of posterize, equalize, sharpen, brightness and contrast,
    solarize and colour jitter with probability 0.2.

    Args:
        image: (3, H, W) uint8.
        strength: scales the probabilities.
        generator: random number generator.
    """
    for probability, change in _CHANGES:
        if _uniform(0, 1, generator) < strength * probability:
            image = change(image, generator)
    return image


def _gray(image: Tensor, generator: Generator) -> Tensor:
    return F.rgb_to_grayscale(image, num_output_channels=3)


def _posterize(image: Tensor, generator: Generator) -> Tensor:
    return F.posterize(image, bits=4)


def _equalize(image: Tensor, generator: Generator) -> Tensor:
    return F.equalize(image)


def _sharpen(image: Tensor, generator: Generator) -> Tensor:
    return F.adjust_sharpness(image, _uniform(1, 3, generator))


def _brightness_contrast(image: Tensor, generator: Generator) -> Tensor:
    image = F.adjust_brightness(image, _uniform(0.8, 1.2, generator))
    return F.adjust_contrast(image, _uniform(0.8, 1.2, generator))


def _solarize(image: Tensor, generator: Generator) -> Tensor:
    return F.solarize(image, threshold=128)


def _colour_jitter(image: Tensor, generator: Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue by up to 0.2, in random order."""
    adjustments: list[Callable[[Tensor], Tensor]] = [
        lambda x: F.adjust_brightness(x, _uniform(0.8, 1.2, generator)),
        lambda x: F.adjust_contrast(x, _uniform(0.8, 1.2, generator)),
        lambda x: F.adjust_saturation(x, _uniform(0.8, 1.2, generator)),
        lambda x: F.adjust_hue(x, _uniform(-0.2, 0.2, generator)),
    ]
    for i in torch.randperm(len(adjustments), generator=generator).tolist():
        image = adjustments[i](image)
    return image


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


_CHANGES: tuple[tuple[float, Callable[[Tensor, Generator], Tensor]], ...] = (
    (0.1, _gray),
    (0.2, _posterize),
    (0.2, _equalize),
    (0.2, _sharpen),
    (0.2, _brightness_contrast),
    (0.2, _solarize),
    (0.2, _colour_jitter),
)
