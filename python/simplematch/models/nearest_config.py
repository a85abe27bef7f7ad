"""The configuration of the nearest-neighbour matcher, stored as json, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._fields import from_fields
from ..sizes import ImageSize, check_resize, checked_size
from .backbones import weights_of
from .config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LITE0_MEAN,
    LITE0_STD,
    as_json,
    as_tuple,
    check_encoder,
    check_statistics,
    is_whole,
)
from .default_weights import is_lite0, with_tag
from .options import check_encoder_options


@dataclass(frozen=True)
class NearestConfig:
    """An untrained matcher.

    Attributes:
        encoder: name in timm, with the tag of its hub weights if any.
        block: the block whose tokens are compared, after the last norm; for an encoder with stages, the stage. None:
            the maps of strides 8 and 16, concatenated at stride 8, if the encoder has them; else the block at three
            quarters of its depth.
        image_size: size in pixels of the network's input: S for a square, or (height, width).
        mean, std: statistics of RGB values 0..1 that normalise images.
        encoder_options: further arguments of `timm.create_model`, limited to those in `simplematch.models.options`.
        resize: "squash" or "letterbox", see `simplematch.sizes`.
    """

    encoder: str
    block: int | None
    image_size: ImageSize = 448
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    encoder_options: dict[str, Any] = field(default_factory=dict)
    resize: str = "squash"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # json has only lists
            object.__setattr__(self, name, as_tuple(name, getattr(self, name)))
        object.__setattr__(self, "image_size", checked_size(self.image_size))
        object.__setattr__(self, "encoder_options", as_json("encoder_options", self.encoder_options))
        check_encoder(self.encoder)
        if self.block is not None and (not is_whole(self.block) or self.block < 0):
            raise ValueError(f"block must be a whole number from zero, or null for a pyramid, got {self.block!r}")
        check_statistics(self.mean, self.std)
        check_resize(self.resize)
        check_encoder_options(self.encoder_options)

    @classmethod
    def of_encoder(cls, encoder: str, block: int | None = None) -> NearestConfig:
        """Make the configuration of any encoder of timm, with the statistics of its weights.

        Args:
            encoder: name in timm; without a tag, with the tag of timm's default weights if there are any.
            block: see the attribute.

        Raises:
            ValueError: timm has no such model.
        """
        encoder = with_tag(encoder)
        if is_lite0(encoder):
            return cls(encoder, block, mean=LITE0_MEAN, std=LITE0_STD)
        found = weights_of(encoder)
        return cls(encoder, block) if found is None else cls(encoder, block, mean=_rgb(found.mean), std=_rgb(found.std))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as json values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str = "config") -> NearestConfig:
        """Make a configuration from the fields of `to_dict`; see `SimpleMatchConfig.from_dict`."""
        return from_fields(cls, fields, ("encoder", "block"), source)


NEAREST_PRESETS: dict[str, NearestConfig] = {
    "efficientnet-lite0-448-nn": NearestConfig("tf_efficientnet_lite0", None, mean=LITE0_MEAN, std=LITE0_STD),
    "efficientnet-lite0-256-nn": NearestConfig("tf_efficientnet_lite0", None, 256, LITE0_MEAN, LITE0_STD),
    "dinov2-s14-448-nn": NearestConfig("vit_small_patch14_dinov2.lvd142m", 9),
    "dinov2-s14-252-nn": NearestConfig("vit_small_patch14_dinov2.lvd142m", 9, 252),
    "dinov3-s16-448-nn": NearestConfig("vit_small_patch16_dinov3.lvd1689m", 9),
    "dinov3-b16-448-nn": NearestConfig("vit_base_patch16_dinov3.lvd1689m", 9),
}


def nearest_preset(name: str) -> NearestConfig:
    """Return the configuration of a preset.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in NEAREST_PRESETS:
        raise ValueError(f"preset must be one of {', '.join(NEAREST_PRESETS)}, got {name!r}")
    return NEAREST_PRESETS[name]


def _rgb(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
