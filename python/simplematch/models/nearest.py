"""Nearest-neighbour matching of an encoder's features without training: the baseline of a trained model.

It samples the query bilinearly, reads the target's normalised map as if it had been upsampled bilinearly to a quarter
of the image, and returns the centre of the best cell.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from simplematch_kernels import Matches, sparse_window_match

from ..sizes import check_multiple, height_width
from . import default_weights
from .backbones import strides_of
from .checks import check_images
from .encoders import MapEncoder, PyramidEncoder, ViTEncoder, single_map_encoder
from .hub import HubModel
from .mutual import mutual_at
from .nearest_config import NearestConfig, nearest_preset
from .weights import load_encoder, read_state_dict

STRIDES = (8, 16)
DEPTH_SHARE = 0.75  # of a ViT's blocks: descriptors of the last are less precise


class NearestNeighbour(HubModel):
    """Matches keypoints by the best cosine similarity, with the interface of `SimpleMatch` but without training.

    Attributes:
        image_size: size in pixels of the input images, S for a square or (H, W), multiples of 4.
        resize: "squash" or "letterbox": how images are brought to this size.
        mean, std: statistics of RGB values 0..1 that input images must be normalised with.
        name: of the preset, or of the encoder.
    """

    model_type = "nearest-neighbour"
    config_type = NearestConfig
    config: NearestConfig

    def __init__(self, config: NearestConfig) -> None:
        super().__init__(config)
        self.name = config.encoder
        self.encoder = _encoder(config)
        self._stride = min(STRIDES) if isinstance(self.encoder, PyramidEncoder) else self.encoder.stride[0]
        unit = math.lcm(self._stride, 4)
        check_multiple(config.image_size, (unit, unit), f"{self._stride} and 4")
        self.requires_grad_(False).eval()

    @classmethod
    def from_preset(cls, name: str, pretrained: bool = True, weights: str | Path | None = None) -> NearestNeighbour:
        """Make a matcher from a preset, such as "efficientnet-lite0-448-nn" or "dinov2-s14-448-nn".

        Args:
            name: one of `NEAREST_PRESETS`.
            pretrained: load the encoder's weights from `weights`, or by default as `SimpleMatch.from_preset` does.
            weights: a file of encoder weights.

        Raises:
            ValueError: the preset is unknown, or `weights` doesn't fit the encoder.
            FileNotFoundError: the file `weights` doesn't exist.
        """
        return cls.from_config(nearest_preset(name), pretrained, weights, name)

    @classmethod
    def from_config(
        cls, config: NearestConfig, pretrained: bool = True, weights: str | Path | None = None, name: str | None = None
    ) -> NearestNeighbour:
        """Make a matcher from a configuration; see `from_preset`. Weights are looked for before the network is made."""
        state = None if weights is None else read_state_dict(Path(weights))
        if state is None and pretrained:
            default_weights.check_available(config.encoder)
        model = cls(config)
        if state is not None:
            load_encoder(model.encoder, state, str(weights))
        elif pretrained:
            state, source = default_weights.default_state_dict(config.encoder)
            load_encoder(model.encoder, state, source)
            model.card_facts |= default_weights.card_facts(config.encoder, source)
        model.name = name or config.encoder
        return model

    def train(self, mode: bool = True) -> NearestNeighbour:
        """Do nothing: the matcher has nothing to train and stays in eval mode."""
        return super().train(False)

    def forward(
        self, source_images: Tensor, target_images: Tensor, keypoints: Tensor, num_keypoints: Tensor | None = None
    ) -> Matches:
        """Match like `SimpleMatch.forward` in eval mode; `log_sum_exp` is meaningless, as there is no softmax."""
        source, target = self.encode(source_images), self.encode(target_images)
        return self.match_features(source, target, keypoints, num_keypoints)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) for `match_features`, as sources or targets; a row (B, K) is a map (C, h, w)."""
        check_images("images", images, self.image_size)
        return self._features(images).flatten(1)

    @torch.no_grad()
    def match_features(
        self, source_features: Tensor, target_features: Tensor, keypoints: Tensor, num_keypoints: Tensor | None = None
    ) -> Matches:
        """Match features that `encode` returned; see `SimpleMatch.match_features`."""
        height, width = size = height_width(self.image_size)
        return sparse_window_match(
            self.feature_map(source_features),
            F.normalize(self.feature_map(target_features), dim=1),
            keypoints,
            num_keypoints=num_keypoints,
            source_size=size,
            source_coords="half_pixel",
            sampling="bilinear",
            sampling_padding="border",
            upsample=(height // 4, width // 4),
            localization="argmax",
            target_size=size,
            target_coords="half_pixel",
            output_offset=0.5,  # pixel = (cell + 1/2) * 4
        )

    @torch.no_grad()
    def match_softmax(
        self,
        source_features: Tensor,
        target_features: Tensor,
        keypoints: Tensor,
        temperature: float,
        **options: Any,
    ) -> Matches:
        """Match on the map itself by the mean of the softmax over it, with its covariance and the second best cell.

        Args:
            source_features, target_features, keypoints: as in `match_features`.
            temperature: of the softmax.
            options: more options of `sparse_window_match`, such as `second_radius`.
        """
        return sparse_window_match(
            self.feature_map(source_features),
            self.feature_map(target_features),
            keypoints,
            sampling="bilinear",
            sampling_padding="border",
            source_coords="half_pixel",
            target_coords="half_pixel",
            source_size=height_width(self.image_size),
            target_size=height_width(self.image_size),
            localization="global",
            temperature=temperature,
            return_covariance=True,
            return_second=True,
            **options,
        )

    def mutual_at(self, source_features: Tensor, target_features: Tensor, keypoints: Tensor) -> Tensor:
        """Tell (B, N) which keypoints lie in cells that are mutual nearest neighbours; see `mutual.mutual_at`."""
        return mutual_at(
            self.feature_map(source_features), self.feature_map(target_features), keypoints + 0.5, self.image_size
        )

    def feature_map(self, features: Tensor) -> Tensor:
        """Turn features (B, K) that `encode` returned into maps (B, C, h, w), without a copy."""
        height, width = height_width(self.image_size)
        maps: Tensor = features.unflatten(1, (-1, height // self._stride, width // self._stride))
        return maps

    def _features(self, images: Tensor) -> Tensor:
        maps: Tensor | list[Tensor] = self.encoder(images)
        if isinstance(maps, Tensor):
            return maps
        fine, coarse = maps  # strides 8 and 16
        coarse = F.interpolate(coarse, (fine.shape[-2], fine.shape[-1]), mode="bilinear", align_corners=False)
        return torch.cat((F.normalize(fine, dim=1), F.normalize(coarse, dim=1)), 1)


def _encoder(config: NearestConfig) -> ViTEncoder | MapEncoder | PyramidEncoder:
    options = dict(config.encoder_options)
    if config.block is not None:
        return single_map_encoder(config.encoder, options, config.block, final_norm=True, image_size=config.image_size)
    if set(STRIDES) <= set(strides_of(config.encoder, config.image_size, options)):
        check_multiple(config.image_size, (8, 8), "8 and 4")
        return PyramidEncoder(config.encoder, options, image_size=config.image_size, strides=STRIDES)
    return single_map_encoder(config.encoder, options, None, True, image_size=config.image_size, share=DEPTH_SHARE)
