"""Feature encoders from timm (eq. 1): one map, of a ViT's tokens or of any other model; or the maps of four stages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sizes import ImageSize, check_multiple, height_width
from .backbones import (
    VisionTransformer,
    channels,
    channels_first,
    check_name,
    check_runs,
    create_timm_model,
    has_fixed_size,
    module_of,
    reductions,
    sized_model,
)
from .checkpointing import checkpoint_blocks, checkpointed

STRIDES = (4, 8, 16, 32)
_VIT_MODULES = ("vision_transformer", "vision_transformer_hybrid", "deit")
_VIT_OPTIONS: dict[str, Any] = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True}


def single_map_encoder(
    name: str,
    options: dict[str, Any] | None = None,
    block: int | None = None,
    final_norm: bool = False,
    checkpoint: bool = False,
    image_size: ImageSize | None = None,
    share: float = 1.0,
) -> ViTEncoder | MapEncoder:
    """Make an encoder of images as one map: `ViTEncoder` for timm's plain Vision Transformers, or `MapEncoder`.

    The arguments are those of both.
    """
    check_name(name)
    if module_of(name) in _VIT_MODULES:
        network = None
        with suppress(ValueError):  # wrong options, or a ViT that can't do without its classifier's tokens
            network = create_timm_model(name, **(_VIT_OPTIONS | (options or {})))
        if type(network) is VisionTransformer:
            return ViTEncoder(name, options, block, final_norm, checkpoint, share, network)
    return MapEncoder(name, options, block, final_norm, checkpoint, share, image_size)


class ViTEncoder(nn.Module):
    """Encodes images (B, 3, H, W) as patch tokens (B, C, H / patch, W / patch) of a ViT.

    Args:
        name: name of a `VisionTransformer` in timm.
        options: further arguments of `timm.create_model`.
        block: the last block to run; later blocks are removed. Default: the last one.
        final_norm: apply the ViT's last LayerNorm. SimpleMatch uses the tokens before it.
        checkpoint: recompute each trained block's activations in the backward.
        share: without `block`, the share of the blocks before the last to run.
        network: the model, if timm has made it already.

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
        share: float = 1.0,
        network: VisionTransformer | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        vit = create_timm_model(name, **(_VIT_OPTIONS | (options or {}))) if network is None else network
        if type(vit) is not VisionTransformer:
            raise ValueError(f"encoder must be a VisionTransformer of timm for ViTEncoder, got {name!r}")
        self.depth = len(vit.blocks)
        last = _block(name, block, self.depth, share)
        vit.blocks = nn.Sequential(*list(vit.blocks)[: last + 1])
        if not final_norm:
            vit.norm = nn.Identity()
        self.vit = vit
        self.channels = int(vit.embed_dim)
        self.stride: tuple[int, int] = vit.patch_embed.feat_ratio(as_scalar=False)
        self.checkpoint = checkpoint

    @property
    def network(self) -> nn.Module:
        """The model of timm."""
        network: nn.Module = self.vit
        return network

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


class MapEncoder(nn.Module):
    """Encodes images (B, 3, H, W) as one map (B, C, H / stride, W / stride) of any timm model with feature maps.

    Args:
        name: name of a timm model.
        options: further arguments of `timm.create_model`.
        block: the map: for a model whose maps are all of one stride, a block, by default the last; else a stage, by
            default the last of stride 16 or less. Later blocks or stages are removed where timm can.
        final_norm: apply the model's last norm to a block's map.
        checkpoint: recompute each block's activations in the backward.
        share: without `block`, the share of the blocks, where all maps are of one stride, before the one to take.
        image_size: the size of the images; default: any that timm allows.

    Raises:
        ValueError: timm has no such model, or it has no feature maps, no such block, or can't encode the size.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any] | None = None,
        block: int | None = None,
        final_norm: bool = False,
        checkpoint: bool = False,
        share: float = 1.0,
        image_size: ImageSize | None = None,
    ) -> None:
        super().__init__()
        self.name, self.options = name, options or {}
        self.image_size: ImageSize | None = image_size
        network = sized_model(name, image_size, self.options, num_classes=0)
        self.getter = hasattr(network, "forward_intermediates")
        if not self.getter:
            network = sized_model(name, image_size, self.options, features_only=True)
        strides = reductions(network)
        self.depth = len(strides)
        blocks = len(set(strides)) == 1
        if block is None and not blocks:
            block = max((i for i, x in enumerate(strides) if x <= 16), default=0)
        block = _block(name, block, self.depth, share)
        self.stride = (strides[block], strides[block])
        self.channels = channels(network)[block]
        self.norm = final_norm and blocks
        self.index = block
        if self.getter:
            (self.index,) = network.prune_intermediate_layers([block], prune_norm=not self.norm, prune_head=True)
        self.backbone = network
        if checkpoint:
            checkpoint_blocks(network)
        if image_size is not None and has_fixed_size(name) and not getattr(network, "dynamic_img_size", False):
            check_multiple(image_size, self.stride, f"the stride, {self.stride[0]}")
            check_runs(name, self, image_size)

    @property
    def network(self) -> nn.Module:
        """The model of timm."""
        network: nn.Module = self.backbone
        return network

    def forward(self, images: Tensor) -> Tensor:
        if not self.getter:
            return channels_first(self.backbone, self.backbone(images)[self.index])
        found: list[Tensor] = self.backbone.forward_intermediates(
            images, indices=[self.index], norm=self.norm, output_fmt="NCHW", intermediates_only=True
        )
        return found[0]


class PyramidEncoder(nn.Module):
    """Encodes images (B, 3, H, W) as maps (B, channels[i], H / stride, W / stride) of several strides.

    Args:
        name: name of any timm model with `features_only`.
        options: further arguments of `timm.create_model`.
        checkpoint: recompute each block's activations in the backward.
        image_size: the size of the images; default: any that timm allows.
        strides: the strides of the maps.

    Raises:
        ValueError: timm has no such model, it lacks one of the strides, or can't encode the size.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any] | None = None,
        checkpoint: bool = False,
        image_size: ImageSize | None = None,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.name, self.options = name, options or {}
        self.image_size: ImageSize | None = image_size
        self.backbone = sized_model(name, image_size, self.options, features_only=True)
        known = reductions(self.backbone)
        if not set(strides) <= set(known):
            wanted = f"{', '.join(map(str, strides[:-1]))} and {strides[-1]}"
            raise ValueError(f'encoder must have strides {wanted} for kind "pyramid", got {name!r} with {known}')
        self.stages = [known.index(x) for x in strides]
        widths = channels(self.backbone)
        self.channels: tuple[int, ...] = tuple(widths[x] for x in self.stages)
        self.stride = (max(strides), max(strides))
        if checkpoint:
            checkpoint_blocks(self.backbone)
        odd = image_size is not None and any(side % max(strides) for side in height_width(image_size))
        if image_size is not None and (odd or has_fixed_size(name)):
            check_runs(name, self, image_size)

    @property
    def network(self) -> nn.Module:
        """The model of timm."""
        network: nn.Module = getattr(self.backbone, "model", self.backbone)
        return network

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.backbone(images)
        return [channels_first(self.backbone, maps[x]) for x in self.stages]


Encoder = ViTEncoder | MapEncoder | PyramidEncoder


def _block(name: str, block: int | None, depth: int, share: float) -> int:
    if block is not None and not 0 <= block < depth:
        raise ValueError(f"block must be 0 to {depth - 1} for {name!r}, got {block}")
    return min(int(depth * share), depth - 1) if block is None else block
