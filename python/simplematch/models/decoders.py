"""The upsampling decoders (eq. 2-4): encoder features to maps at 1/16, 1/8 and 1/4 of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .checkpointing import checkpointed


class RefineBlock(nn.Module):
    """x = x + ReLU(BN(Conv3x3(x))), twice (eq. 4). (B, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block1 = _convolution(channels)
        self.block2 = _convolution(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.block1(x)
        refined: Tensor = x + self.block2(x)
        return refined


def _convolution(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())


class UpsamplingDecoder(nn.Module):
    """Upsamples a map of tokens twice: to twice its size, then to a quarter of the image's size (eq. 3).

    Args:
        channels: channels of the tokens.
        levels: number of maps: 1 (the tokens), 2 or 3.
        variant: "official": only the first step adds a transposed convolution to the bilinear upsampling; "paper": both
            steps do, and the second resizes its output if twice its input differs from the step's size.
        dropout: dropout of the tokens.
        checkpoint: recompute each step's activations in the backward.
        width: channels C of every map; a 1 x 1 convolution projects the tokens to it. None: the channels of the tokens.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        variant: str,
        dropout: float,
        checkpoint: bool = False,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.align = _align(channels, width or channels)
        self.channels = channels = width or channels
        self.dropout = nn.Dropout(dropout)
        transposed = {"official": 1, "paper": 2}[variant]
        self.transposed = nn.ModuleList(_doubling(channels) for _ in range(min(transposed, levels - 1)))
        self.refine = nn.ModuleList(RefineBlock(channels) for _ in range(levels - 1))
        self.checkpoint = checkpoint

    def forward(self, tokens: Tensor, image_size: tuple[int, int]) -> list[Tensor]:
        """Compute maps of tokens (B, channels, h, w), coarse to fine: sizes (h, w), (2h, 2w), (H // 4, W // 4)."""
        maps = [self.align(self.dropout(tokens))]
        height, width = tokens.shape[-2:]
        sizes = [(2 * height, 2 * width), (image_size[0] // 4, image_size[1] // 4)]
        for step, size in zip(range(len(self.refine)), sizes, strict=False):
            inputs = (maps[-1], step, size)
            maps.append(checkpointed(self, self._step, *inputs) if self.checkpoint else self._step(*inputs))
        return maps

    def _step(self, x: Tensor, step: int, size: tuple[int, int]) -> Tensor:
        larger = _bilinear(x, size)
        if step < len(self.transposed):
            larger = larger + _bilinear(self.transposed[step](x), size)
        refined: Tensor = self.refine[step](larger)
        return refined


class PyramidDecoder(nn.Module):
    """Upsamples four encoder stages from coarse to fine; each step adds the stage of its size.

    Args:
        stage_channels: channels of the encoder's maps of strides 4, 8, 16, 32; 1 x 1 convolutions project each to
            `channels` where they differ.
        channels: C of every map.
        levels: number of maps: 1 (1/16), 2 (and 1/8) or 3 (and 1/4).
        variant: "official": transposed convolutions to 1/16 and 1/8, bilinear upsampling with aligned corners to 1/4;
            "paper": bilinear upsampling everywhere, with skip connections instead of transposed convolutions.
        checkpoint: recompute each step's activations in the backward.
    """

    def __init__(
        self, stage_channels: Sequence[int], channels: int, levels: int, variant: str, checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.channels = channels
        self.first = 3 - levels  # the finest stage in use
        self.aligns = nn.ModuleList(_align(x, channels) for x in stage_channels[self.first :])
        transposed = {"official": 2, "paper": 0}[variant]
        self.transposed = nn.ModuleList(_doubling(channels) for _ in range(min(transposed, levels)))
        self.refine = nn.ModuleList(RefineBlock(channels) for _ in range(levels))
        self.align_corners = variant == "official"
        self.checkpoint = checkpoint

    def forward(self, stages: Sequence[Tensor], image_size: tuple[int, int]) -> list[Tensor]:
        """Compute maps of stages (B, C_i, h_i, w_i) of strides 4 to 32, coarse to fine; `image_size` has no effect."""
        aligned = [align(x) for align, x in zip(self.aligns, stages[self.first :], strict=True)]
        maps: list[Tensor] = []
        x = aligned[-1]
        for step, skip in enumerate(reversed(aligned[:-1])):
            inputs = (x, skip, step)
            x = checkpointed(self, self._step, *inputs) if self.checkpoint else self._step(*inputs)
            maps.append(x)
        return maps

    def _step(self, x: Tensor, skip: Tensor, step: int) -> Tensor:
        size = (skip.shape[-2], skip.shape[-1])
        if step < len(self.transposed):
            larger = _bilinear(self.transposed[step](x), size)
        else:
            larger = F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)
        refined: Tensor = self.refine[step](skip + larger)
        return refined


def _align(stage_channels: int, channels: int) -> nn.Module:
    return nn.Identity() if stage_channels == channels else nn.Conv2d(stage_channels, channels, 1)


def _doubling(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2)


def _bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
