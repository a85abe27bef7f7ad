"""The configuration of a SimpleMatch model, stored as json, and the presets."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._fields import from_fields
from ..sizes import ImageSize, check_resize, checked_size
from .options import check_encoder_options

ENCODER_KINDS = ("vit", "pyramid")
ENCODER_TRAINING = ("all", "lora", "frozen")
VARIANTS = ("official", "paper")
MATCHING = ("dense", "dense-window", "sparse", "fused")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE0_MEAN = LITE0_STD = (0.498, 0.498, 0.498)


@dataclass(frozen=True)
class SimpleMatchConfig:
    """The configuration of a model, without its weights.

    Attributes:
        encoder: name in timm, with the tag of its hub weights if any ("resnet101.tv_in1k").
        kind: "vit" (one map, of a ViT's tokens or of any timm model, upsampled) or "pyramid" (the maps of strides 4, 8,
            16 and 32 of any timm model that has them).
        image_size: size in pixels of the network's input: S for a square, or (height, width).
        resize: "squash" (resize both axes of an image independently) or "letterbox" (keep its aspect ratio, between
            bars).
        encoder_options: further arguments of `timm.create_model`, limited to those in `simplematch.models.options`.
        encoder_training: "all", "lora" (a frozen encoder with low-rank adapters) or "frozen".
        lora_rank, lora_alpha: rank r and alpha (the adapter is scaled by alpha / r).
        lora_blocks: the blocks of a ViT whose layers have an adapter; None: all of them, in encoders of any kind.
        lora_targets: the layers that have one: types ("mlp", "attention", "conv1x1", "linear") or ends of names
            ("mlp.fc2"), see `simplematch.models.adapters.add_lora`.
        width: channels C of the decoder; None for "vit", whose decoder then has its encoder's width.
        variant: "official", compatible with the authors' checkpoints, or "paper", as in equation 3.
        levels: the maps to match on, coarse to fine: 0 is 1/16 (1/14 for patches of 14), 1 twice that, 2 is 1/4. The
            decoder ends at the last level, which gives the result; training supervises all of them (eq. 14).
        windows: for each level, the window's side in cells, or None for the whole map.
        temperature: temperature of the softmax inside the window.
        dropout: dropout of a ViT's tokens, before the decoder.
        matching: "fused" (the operators of simplematch_kernels), or the plain PyTorch of the paper's Table 11:
            "dense", "dense-window", "sparse". All give the same numbers.
        joint_batch: pass source and target as one batch, so that batch norm uses joint statistics.
        checkpoint_encoder, checkpoint_decoder: recompute activations in the backward instead of storing them.
        mean, std: statistics of RGB values 0..1 that normalise images.
    """

    encoder: str
    kind: str
    image_size: ImageSize
    encoder_options: dict[str, Any] = field(default_factory=dict)
    encoder_training: str = "all"
    lora_rank: int = 16
    lora_alpha: int = 1
    lora_blocks: tuple[int, ...] | None = (6, 7, 8, 9, 10, 11)
    lora_targets: tuple[str, ...] = ("mlp.fc2",)
    width: int | None = None
    variant: str = "official"
    levels: tuple[int, ...] = (2,)
    windows: tuple[int | None, ...] = (45,)
    temperature: float = 0.02
    dropout: float = 0.3
    matching: str = "fused"
    joint_batch: bool = False
    checkpoint_encoder: bool = False
    checkpoint_decoder: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resize: str = "squash"

    def __post_init__(self) -> None:
        for name in ("levels", "windows", "lora_blocks", "lora_targets", "mean", "std"):  # json has only lists
            if name != "lora_blocks" or self.lora_blocks is not None:
                object.__setattr__(self, name, as_tuple(name, getattr(self, name)))
        object.__setattr__(self, "image_size", checked_size(self.image_size))
        check_resize(self.resize)
        object.__setattr__(self, "encoder_options", as_json("encoder_options", self.encoder_options))
        check_encoder_options(self.encoder_options)
        check_encoder(self.encoder)
        _check_choice("kind", self.kind, ENCODER_KINDS)
        _check_choice("encoder_training", self.encoder_training, ENCODER_TRAINING)
        _check_choice("variant", self.variant, VARIANTS)
        _check_choice("matching", self.matching, MATCHING)
        _check_numbers(self)
        _check_levels(self.levels, self.windows)
        if self.kind == "pyramid" and self.width is None:
            raise ValueError('width must be a number for kind "pyramid", got None')

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as json values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str = "config") -> SimpleMatchConfig:
        """Make a configuration from the fields of `to_dict`.

        Args:
            fields: a value for each field; fields with a default may be omitted.
            source: where the fields come from, for error messages.

        Raises:
            ValueError: a field is unknown, missing or invalid.
        """
        return from_fields(cls, fields, ("encoder", "kind", "image_size"), source)


def as_tuple(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list, got {value!r}")
    return tuple(value)


def as_json(name: str, value: object) -> dict[str, Any]:
    """Return a copy with lists for tuples, as json stores it."""
    try:
        copy = json.loads(json.dumps(value))
    except TypeError as error:
        raise ValueError(f"{name} must hold json values, got {value!r}") from error
    if not isinstance(copy, dict):
        raise ValueError(f"{name} must be a dict, got {value!r}")
    return copy


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _check_numbers(config: SimpleMatchConfig) -> None:
    for name in ("lora_rank", "lora_alpha", "width"):
        value = getattr(config, name)
        if name == "width" and value is None:
            continue
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name} must be a whole number above zero, got {value!r}")
    for name in ("joint_batch", "checkpoint_encoder", "checkpoint_decoder"):
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name} must be true or false, got {getattr(config, name)!r}")
    if not _is_number(config.temperature) or not config.temperature > 0:
        raise ValueError(f"temperature must be above zero, got {config.temperature!r}")
    if not _is_number(config.dropout) or not 0 <= config.dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {config.dropout!r}")
    check_statistics(config.mean, config.std)
    if not all(map(is_whole, config.lora_blocks or ())):
        raise ValueError(f"lora_blocks must hold whole numbers, got {config.lora_blocks!r}")
    if not config.lora_targets or not all(isinstance(x, str) and x for x in config.lora_targets):
        raise ValueError(f"lora_targets must hold types of layers or ends of their names, got {config.lora_targets!r}")


def check_encoder(encoder: object) -> None:
    if not isinstance(encoder, str):
        raise ValueError(f"encoder must be the name of a timm model, got {encoder!r}")


def check_statistics(mean: tuple[Any, ...], std: tuple[Any, ...]) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(map(_is_number, values)):
            raise ValueError(f"{name} must hold 3 numbers, got {values!r}")
    if min(std) <= 0:
        raise ValueError(f"std must hold 3 numbers above zero, got {std!r}")


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_levels(levels: tuple[int, ...], windows: tuple[int | None, ...]) -> None:
    if not levels or not all(is_whole(x) and 0 <= x <= 2 for x in levels) or list(levels) != sorted(set(levels)):
        raise ValueError(f"levels must be some of 0, 1, 2 in ascending order, got {levels}")
    if len(windows) != len(levels):
        raise ValueError(f"windows must have as many entries as levels, {len(levels)}, got {windows}")
    for window in windows:
        if window is not None and (not is_whole(window) or window < 1):
            raise ValueError(f"windows must hold whole numbers above zero or None, got {windows}")


def _dinov2(encoder: str, image_size: int) -> SimpleMatchConfig:
    return SimpleMatchConfig(encoder, "vit", image_size, encoder_training="lora")


def _pyramid(encoder: str, **options: Any) -> SimpleMatchConfig:
    scales: dict[str, Any] = {"levels": (0, 1, 2), "windows": (None, 15, 30)}
    return SimpleMatchConfig(encoder, "pyramid", 256, dropout=0.0, joint_batch=True, **scales, **options)


PRESETS: dict[str, SimpleMatchConfig] = {
    "dinov2-b14-252": _dinov2("vit_base_patch14_dinov2.lvd142m", 252),
    "dinov2-b14-448": _dinov2("vit_base_patch14_dinov2.lvd142m", 448),
    "dinov2-s14-252": _dinov2("vit_small_patch14_dinov2.lvd142m", 252),
    "ibot-b16-256": SimpleMatchConfig("vit_base_patch16_224", "vit", 256),
    "resnet101-256": _pyramid("resnet101.tv_in1k", width=512),
    "efficientnet-lite0-256": _pyramid("tf_efficientnet_lite0", width=128, mean=LITE0_MEAN, std=LITE0_STD),
}


def preset(name: str) -> SimpleMatchConfig:
    """Return the configuration of a preset.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
