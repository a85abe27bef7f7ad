"""The configuration of the nearest-neighbour matcher, stored as json, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._fields import from_fields
from .config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LITE0_MEAN,
    LITE0_STD,
    as_tuple,
    check_encoder,
    check_statistics,
    is_whole,
)


@dataclass(frozen=True)
class NearestConfig:
    """An untrained matcher: the encoder's name in timm and, for a ViT, the block whose tokens it compares.

    A pyramid (`block` None) compares its maps of strides 8 and 16, concatenated at stride 8.
    """

    encoder: str
    block: int | None
    image_size: int = 448
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # json has only lists
            object.__setattr__(self, name, as_tuple(name, getattr(self, name)))
        check_encoder(self.encoder)
        if self.block is not None and (not is_whole(self.block) or self.block < 0):
            raise ValueError(f"block must be a whole number from zero, or null for a pyramid, got {self.block!r}")
        if not is_whole(self.image_size) or self.image_size < 1:
            raise ValueError(f"image_size must be a whole number above zero, got {self.image_size!r}")
        check_statistics(self.mean, self.std)

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
}
