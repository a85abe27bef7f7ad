"""Nearest-neighbour matching of an encoder's features without training: the baseline of a trained model.

It samples the query bilinearly, reads the target's normalised map as if it had been upsampled bilinearly to a quarter
of the image, and returns the centre of the best cell.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from simplematch_kernels import Matches, sparse_window_match

from . import weights as weight_files
from .checks import check_images
from .encoders import PyramidEncoder, ViTEncoder
from .hub import HubModel
from .mutual import mutual_at
from .nearest_config import NEAREST_PRESETS, NearestConfig


class NearestNeighbour(HubModel):
    """Matches keypoints by the best cosine similarity, with the interface of `SimpleMatch` but without training.

    Attributes:
        image_size: side S in pixels of the input images, a multiple of 4.
        mean, std: statistics of RGB values 0..1 that input images must be normalised with.
    """

    model_type = "nearest-neighbour"
    config_type = NearestConfig
    config: NearestConfig

    def __init__(self, config: NearestConfig) -> None:
        super().__init__(config)
        self.encoder: ViTEncoder | PyramidEncoder
        if config.block is None:
            self.encoder = PyramidEncoder(config.encoder)
            self._stride = 8
        else:
            self.encoder = ViTEncoder(config.encoder, block=config.block, final_norm=True)
            self._stride = self.encoder.patch_size[0]
        if config.image_size < 1 or config.image_size % self._stride or config.image_size % 4:
            raise ValueError(f"image_size must be a multiple of {self._stride} and 4, got {config.image_size}")
        self.requires_grad_(False).eval()

    @classmethod
    def from_preset(cls, name: str, pretrained: bool = True, weights: str | Path | None = None) -> NearestNeighbour:
        """Make a matcher from a preset, "efficientnet-lite0-448-nn" or "dinov2-s14-448-nn".

        Args:
            name: one of `NEAREST_PRESETS`.
            pretrained: load the encoder's weights from `weights`, or by default as `SimpleMatch.from_preset` does.
            weights: a file of encoder weights.

        Raises:
            ValueError: the preset is unknown, or `weights` doesn't fit the encoder.
            FileNotFoundError: the file `weights` doesn't exist.
        """
        if name not in NEAREST_PRESETS:
            raise ValueError(f"preset must be one of {', '.join(NEAREST_PRESETS)}, got {name!r}")
        config = NEAREST_PRESETS[name]
        model = cls(config)
        if weights is not None:
            weight_files.load_encoder(model.encoder, weight_files.read_state_dict(Path(weights)), str(weights))
        elif pretrained:
            kind = "pyramid" if config.block is None else "vit"
            state, source = weight_files.default_state_dict(config.encoder, kind)
            weight_files.load_encoder(model.encoder, state, source)
            model.card_facts |= weight_files.card_facts(config.encoder, source)
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
        """Encode images (B, 3, S, S) for `match_features`, as sources or targets; a row (B, K) is a map (C, h, w)."""
        check_images("images", images, self.image_size)
        return self._features(images).flatten(1)

    @torch.no_grad()
    def match_features(
        self, source_features: Tensor, target_features: Tensor, keypoints: Tensor, num_keypoints: Tensor | None = None
    ) -> Matches:
        """Match features that `encode` returned; see `SimpleMatch.match_features`."""
        size = (self.image_size, self.image_size)
        return sparse_window_match(
            self._map(source_features),
            F.normalize(self._map(target_features), dim=1),
            keypoints,
            num_keypoints=num_keypoints,
            source_size=size,
            source_coords="half_pixel",
            sampling="bilinear",
            sampling_padding="border",
            upsample=(self.image_size // 4, self.image_size // 4),
            localization="argmax",
            target_size=size,
            target_coords="half_pixel",
            output_offset=0.5,  # pixel = (cell + 1/2) * 4
        )

    def mutual_at(self, source_features: Tensor, target_features: Tensor, keypoints: Tensor) -> Tensor:
        """Tell (B, N) which keypoints lie in cells that are mutual nearest neighbours; see `mutual.mutual_at`."""
        return mutual_at(self._map(source_features), self._map(target_features), keypoints + 0.5, self.image_size)

    def _features(self, images: Tensor) -> Tensor:
        maps: Tensor | list[Tensor] = self.encoder(images)
        if isinstance(maps, Tensor):
            return maps
        fine, coarse = maps[1], maps[2]  # strides 8 and 16
        coarse = F.interpolate(coarse, (fine.shape[-2], fine.shape[-1]), mode="bilinear", align_corners=False)
        return torch.cat((F.normalize(fine, dim=1), F.normalize(coarse, dim=1)), 1)

    def _map(self, rows: Tensor) -> Tensor:
        """Turn rows of `encode` into maps (B, C, h, w)."""
        side = self.image_size // self._stride
        maps: Tensor = rows.unflatten(1, (-1, side, side))
        return maps
