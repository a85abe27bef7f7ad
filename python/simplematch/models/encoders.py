"""Feature encoders from timm (eq. 1): a ViT's tokens, or the four stages of a convolutional backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._torchvision import import_torchvision
from .checkpointing import checkpoint_blocks, checkpointed

import_torchvision()
import timm  # noqa: E402  (it imports torchvision)
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

STRIDES = (4, 8, 16, 32)


class ViTEncoder(nn.Module):
    """Encodes images (B, 3, H, W) as patch tokens (B, C, H / patch, W / patch) of a ViT.

    Args:
        name: name of a `VisionTransformer` in timm.
        options: further arguments of `timm.create_model`.
        block: the last block to run; later blocks are removed. Default: the last one.
        final_norm: apply the ViT's last LayerNorm. SimpleMatch uses the tokens before it.
        checkpoint: recompute each trained block's activations in the backward.

    Raises:
        ValueError: timm has no such model, it isn't a `VisionTransformer`, or it has no such block.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any] | None = None,
        block: int | None = None,
        final_norm: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        no_pooling: dict[str, Any] = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True}
        vit = create_timm_model(name, **(no_pooling | (options or {})))
        if not isinstance(vit, VisionTransformer):
            raise ValueError(f'encoder must be a VisionTransformer of timm for kind "vit", got {name!r}')
        depth = len(vit.blocks)
        if block is not None and not 0 <= block < depth:
            raise ValueError(f"block must be 0 to {depth - 1} for {name!r}, got {block}")
        vit.blocks = nn.Sequential(*list(vit.blocks)[: None if block is None else block + 1])
        if not final_norm:
            vit.norm = nn.Identity()
        self.vit = vit
        self.channels = int(vit.embed_dim)
        self.patch_size: tuple[int, int] = vit.patch_embed.patch_size
        self.checkpoint = checkpoint

    def forward(self, images: Tensor) -> Tensor:
        vit = self.vit
        patches: Tensor = vit.patch_embed(images)  # (B, h, w, C)
        height, width = patches.shape[1:3]
        tokens = vit.norm_pre(vit.patch_drop(self._add_position(patches)))
        for block in vit.blocks:
            tokens = checkpointed(block, block, tokens) if self._worth_checkpointing(tokens, block) else block(tokens)
        tokens = vit.norm(tokens)[:, vit.num_prefix_tokens :]
        maps: Tensor = tokens.transpose(1, 2).unflatten(2, (height, width))
        return maps

    def _worth_checkpointing(self, tokens: Tensor, block: nn.Module) -> bool:
        """Return False for a frozen block on inputs without gradient, which stores no activations anyway."""
        return self.checkpoint and (tokens.requires_grad or any(p.requires_grad for p in block.parameters()))

    def _add_position(self, patches: Tensor) -> Tensor:
        """Add prefix tokens and position embeddings in the model's order; returns (B, prefix + h * w, C)."""
        vit = self.vit
        batch, height, width = patches.shape[:3]
        prefix = [x.expand(batch, -1, -1) for x in (vit.cls_token, vit.reg_token) if x is not None]
        tokens = patches.flatten(1, 2)
        if vit.pos_embed is None:
            return torch.cat([*prefix, tokens], 1)
        embedded = 0 if vit.no_embed_class else vit.num_prefix_tokens
        grid: tuple[int, int] = vit.patch_embed.grid_size
        position = resample_position(vit.pos_embed, grid, (height, width), embedded).to(tokens.dtype)
        if vit.no_embed_class:
            tokens = torch.cat([*prefix, tokens + position], 1)
        else:
            tokens = torch.cat([*prefix, tokens], 1) + position
        dropped: Tensor = vit.pos_drop(tokens)
        return dropped


def resample_position(position: Tensor, grid: tuple[int, int], size: tuple[int, int], prefix: int) -> Tensor:
    """Resample a position embedding (1, prefix + h0 * w0, C) to h x w patches, as DINO, iBOT and DINOv2 do.

    It is bicubic with scale (n + 0.1) / n0 on each axis, without antialiasing. timm resamples differently, so its
    tokens differ.
    """
    if grid == size:
        return position
    cells = position[:, prefix:].float().transpose(1, 2).unflatten(2, grid)
    scale = [(n + 0.1) / n0 for n, n0 in zip(size, grid, strict=True)]
    cells = F.interpolate(cells, scale_factor=scale, mode="bicubic", align_corners=False, antialias=False)
    return torch.cat([position[:, :prefix], cells.flatten(2).transpose(1, 2).to(position.dtype)], 1)


def add_lora(encoder: ViTEncoder, rank: int, alpha: int, blocks: Sequence[int]) -> None:
    """Freeze a ViT and add peft's low-rank adapters to `mlp.fc2` of some blocks.

    The adapter adds (alpha / rank) B A x, with A (rank, in) random and B (out, rank) zero.

    Raises:
        ValueError: the encoder has no such block.
        ImportError: peft isn't installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise ImportError(
            'encoder_training "lora" needs the package peft: pip install peft, or the extra train'
        ) from error

    depth = len(encoder.vit.blocks)
    if not blocks or not all(0 <= x < depth for x in blocks):
        raise ValueError(f"lora_blocks must be some of 0 to {depth - 1}, got {tuple(blocks)}")
    encoder.requires_grad_(False)
    targets = [f"blocks.{x}.mlp.fc2" for x in blocks]
    lora = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=targets)
    inject_adapter_in_model(lora, encoder.vit)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name)


class PyramidEncoder(nn.Module):
    """Encodes images (B, 3, H, W) as four maps (B, channels[i], H / stride, W / stride) of strides 4, 8, 16, 32.

    Args:
        name: name of any timm model with `features_only`.
        options: further arguments of `timm.create_model`.
        checkpoint: recompute each block's activations in the backward.

    Raises:
        ValueError: timm has no such model, or it lacks one of the strides.
    """

    def __init__(self, name: str, options: dict[str, Any] | None = None, checkpoint: bool = False) -> None:
        super().__init__()
        self.backbone = create_timm_model(name, **({"features_only": True} | (options or {})))
        strides: list[int] = self.backbone.feature_info.reduction()
        if not set(STRIDES) <= set(strides):
            raise ValueError(
                f'encoder must have strides 4, 8, 16 and 32 for kind "pyramid", got {name!r} with {strides}'
            )
        self.stages = [strides.index(x) for x in STRIDES]
        channels = self.backbone.feature_info.channels()
        self.channels: tuple[int, ...] = tuple(channels[x] for x in self.stages)
        if checkpoint:
            checkpoint_blocks(self.backbone)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.backbone(images)
        return [maps[x] for x in self.stages]


def create_timm_model(name: str, pretrained: bool = False, **options: Any) -> Any:
    """Call `timm.create_model`, with clear errors.

    Raises:
        ValueError: timm doesn't know the name, or can't build the model with these options.
    """
    if ":" in name or "/" in name or not timm.is_model(name.split(".")[0]):  # a colon or slash names a hub or a file
        near = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:3]
        raise ValueError(
            f"encoder must be the name of a timm model, such as {', '.join(near or ['resnet50'])}, got {name!r}"
        )
    if pretrained:
        return timm.create_model(name, pretrained=True, **options)
    try:
        return timm.create_model(name, pretrained=False, **options)
    except Exception as error:  # timm passes options on, and its layers raise errors of any type
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"encoder_options must be valid for timm's {name!r}, got {options}: {reason}") from error
