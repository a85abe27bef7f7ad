"""Every preset with small widths, and its inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from simplematch.models import SimpleMatch, SimpleMatchConfig, preset

DINOV2: dict[str, Any] = {
    "image_size": 56,
    "encoder_options": {"img_size": 70, "embed_dim": 24, "depth": 3, "num_heads": 2},
    "lora_rank": 2,
    "lora_blocks": (1, 2),
}
CHANGES: dict[str, dict[str, Any]] = {
    "dinov2-b14-252": DINOV2,
    "dinov2-b14-448": DINOV2 | {"image_size": 84},
    "dinov2-s14-252": DINOV2 | {"encoder_options": {"img_size": 70, "embed_dim": 16, "depth": 3, "num_heads": 2}},
    "ibot-b16-256": {
        "image_size": 64,
        "encoder_options": {"img_size": 48, "embed_dim": 24, "depth": 2, "num_heads": 2},
    },
    "resnet101-256": {
        "image_size": 64,
        "width": 32,
        "encoder_options": {"layers": [1, 1, 1, 1], "channels": (4, 8, 16, 32)},
    },
    "efficientnet-lite0-256": {"image_size": 64, "width": 16},
}
NAMES = list(CHANGES)


def tiny_config(name: str, **changes: Any) -> SimpleMatchConfig:
    return replace(preset(name), **(CHANGES[name] | changes))


def tiny_model(name: str, **changes: Any) -> SimpleMatch:
    """Make a deterministic preset with small widths, with noise where zeros would stop gradients."""
    torch.manual_seed(0)
    model = SimpleMatch(tiny_config(name, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return model


def pair(size: int, batch: int = 2, keypoints: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make source and target images, keypoints and their number; the second image has padding."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, batch, 3, size, size, generator=generator)
    points = size * torch.rand(batch, keypoints, 2, generator=generator)
    counts = torch.full((batch,), keypoints)
    counts[1:] -= 2
    return images[0], images[1], points, counts
