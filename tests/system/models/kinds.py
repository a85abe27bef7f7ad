"""A small model of every kind: each architecture of the presets, and both nearest-neighbour matchers."""

from __future__ import annotations

from collections.abc import Callable

import torch

from simplematch.models import NearestConfig, NearestNeighbour, SimpleMatch

from .tiny import tiny_model

Model = SimpleMatch | NearestNeighbour


TRAINED = ("dinov2-s14-252", "ibot-b16-256", "resnet101-256", "efficientnet-lite0-256")


def nearest_vit() -> NearestNeighbour:
    torch.manual_seed(0)
    return NearestNeighbour(NearestConfig("test_vit", 1, image_size=64))


def nearest_pyramid() -> NearestNeighbour:
    torch.manual_seed(0)
    return NearestNeighbour(NearestConfig("test_efficientnet", None, image_size=64))


def trained(name: str) -> Callable[[], Model]:
    return lambda: tiny_model(name).eval()


KINDS: dict[str, Callable[[], Model]] = {
    **{name: trained(name) for name in TRAINED},
    "nearest-vit": nearest_vit,
    "nearest-pyramid": nearest_pyramid,
}
