"""A whole training step of a preset, as in Table 11 of the paper."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simplematch.models import SimpleMatch, multi_scale_loss
from simplematch.sizes import height_width


@dataclass(frozen=True)
class Variant:
    """How to run a step."""

    preset: str = "ibot-b16-256"
    matching: str = "fused"
    checkpointing: bool = False
    precision: str = "fp32"
    batch: int = 8
    keypoints: int = 30

    def __str__(self) -> str:
        extras = [
            name
            for name, on in (("checkpointing", self.checkpointing), (self.precision, self.precision != "fp32"))
            if on
        ]
        return " + ".join((self.matching, *extras))


def build(variant: Variant, device: torch.device | str = "cpu", **changes: Any) -> SimpleMatch:
    """Build the preset's network with random weights, in training mode."""
    flags: dict[str, Any] = {"checkpoint_encoder": variant.checkpointing, "checkpoint_decoder": variant.checkpointing}
    with torch.device(device):
        network = SimpleMatch.from_preset(
            variant.preset, pretrained=False, matching=variant.matching, **flags, **changes
        )
    return network.train()


def random_batch(network: SimpleMatch, variant: Variant) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return random source and target images, source keypoints and target keypoints."""
    side, _ = height_width(network.image_size)
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(2, variant.batch, 3, side, side, device=device, generator=generator)
    points = side * torch.rand(2, variant.batch, variant.keypoints, 2, device=device, generator=generator)
    return images[0], images[1], points[0], points[1]


def step_loss(network: SimpleMatch, variant: Variant, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Run the forward and return the loss."""
    source, target, keypoints, truth = batch
    mixed = variant.precision != "fp32"
    with torch.autocast(source.device.type, torch.bfloat16) if mixed else nullcontext():
        matches = network(source, target, keypoints)
    return torch.stack(multi_scale_loss(matches, truth)).sum()


def training_step(network: SimpleMatch, variant: Variant) -> Callable[[], Tensor]:
    """Return a call that runs one step on random images: forward, loss, backward and Adam."""
    batch = random_batch(network, variant)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-4)

    def step() -> Tensor:
        loss = step_loss(network, variant, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
