"""Argument checks shared by the models."""

from __future__ import annotations

from torch import Tensor


def check_images(name: str, images: object, size: int) -> None:
    """Check that images are floating-point (B, 3, size, size).

    Raises:
        TypeError, ValueError: they are not.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = f"{images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    if images.dim() != 4 or tuple(images.shape[1:]) != (3, size, size):
        raise ValueError(f"{name} must be (B, 3, {size}, {size}), got {tuple(images.shape)}")
