"""Exports the function by name."""

from .spatial_soft_argmax import spatial_soft_argmax2d

__all__ = ["spatial_soft_argmax2d"]
