"""Argument checks shared by the models."""

from __future__ import annotations

from torch import Tensor

from ..sizes import ImageSize, height_width


def check_images(name: str, images: object, size: ImageSize) -> None:
    """Check that images are floating-point (B, 3, H, W) of a size.

    Raises:
        TypeError, ValueError: they are not.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = f"{images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    height, width = height_width(size)
    if images.dim() != 4 or tuple(images.shape[1:]) != (3, height, width):
        raise ValueError(f"{name} must be (B, 3, {height}, {width}), got {tuple(images.shape)}")
