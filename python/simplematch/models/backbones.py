"""Makes timm's models for images of a given size, and says what they compute."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._torchvision import import_torchvision
from ..sizes import ImageSize, height_width, size_text

import_torchvision()
import timm  # noqa: E402  (it imports torchvision)
from timm.layers.pos_embed import resample_abs_pos_embed  # noqa: E402
from timm.models import PretrainedCfg, get_pretrained_cfg, model_entrypoint  # noqa: E402
from timm.models.vision_transformer import VisionTransformer as VisionTransformer  # noqa: E402

_UNEXPECTED = re.compile(r"unexpected keyword argument(?:\(s\))?:?\W+(\w+)")
# Marked by timm as of a fixed size, but their forward takes any: only then do weights of their own size fit.
_ANY_SIZE = ("vision_transformer_sam",)


def create_timm_model(name: str, pretrained: bool = False, **options: Any) -> Any:
    """Call `timm.create_model`, with clear errors.

    Raises:
        ValueError: timm doesn't know the name, or can't build the model with these options.
    """
    check_name(name)
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # timm passes options on, and its layers raise errors of any type
        if pretrained:
            raise
        raise _wrong_options(name, options, error) from error


def _wrong_options(name: str, options: dict[str, Any], error: Exception) -> ValueError:
    return ValueError(f"encoder_options must be valid for timm's {name!r}, got {options}: {_reason(error)}")


def _wrong_size(name: str, image_size: ImageSize, error: Exception) -> ValueError:
    record = weights_of(name)
    own = "" if record is None else "; {} x {} would fit".format(*record.input_size[1:])
    got = size_text(image_size)
    return ValueError(f"image_size must be one that {name!r} can encode, got {got}: {_reason(error)}{own}")


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def check_name(name: str) -> None:
    """Raise a ValueError unless timm knows a model by this name; the message names the nearest."""
    architecture, _, tag = name.partition(".")
    if ":" in name or "/" in name or not timm.is_model(architecture):  # a colon or slash names a hub or a file
        near = difflib.get_close_matches(architecture, timm.list_models(), 3, 0.5)
        raise ValueError(
            f"encoder must be the name of a timm model, such as {', '.join(near or ['resnet50'])}, got {name!r}"
        )
    if tag:
        tags = [x.partition(".")[2] for x in timm.list_pretrained(f"{architecture}.*")]
        if tag not in tags:
            known = f"must have a tag of timm's, such as {', '.join(tags[:5])}" if tags else "must have no tag"
            raise ValueError(f"encoder {architecture!r} {known}, got {tag!r}")


def module_of(name: str) -> str:
    """Return the name of the file of `timm.models` that defines a model."""
    return str(model_entrypoint(name.partition(".")[0]).__module__).rpartition(".")[2]


def weights_of(name: str) -> PretrainedCfg | None:
    """Return timm's record of published weights and what they need, by a name with or without a tag."""
    return get_pretrained_cfg(name, allow_unregistered=True)


def has_fixed_size(name: str) -> bool:
    """Return whether a model only takes images of the size that it is made for."""
    config = weights_of(name)
    return config is not None and bool(config.fixed_input_size) and module_of(name) not in _ANY_SIZE


def sized_model(name: str, image_size: ImageSize | None, options: dict[str, Any], **defaults: Any) -> Any:
    """Make a timm model that takes images of a size.

    Args:
        name: name of a timm model.
        image_size: the size; None: timm's default for the model.
        options: arguments of `timm.create_model` that the user chose.
        defaults: arguments that are left out if the model doesn't know them.

    Raises:
        ValueError: as `create_timm_model`.
    """
    check_name(name)
    chosen: dict[str, Any] = {"dynamic_img_size": True, **defaults}
    while True:
        try:
            return timm.create_model(name, pretrained=False, **{**chosen, **options})
        except TypeError as error:  # before any layer is made
            unknown = _UNEXPECTED.search(str(error))
            if unknown is None or unknown[1] not in chosen or unknown[1] in (*options, "features_only"):
                raise _wrong_options(name, options, error) from error
            del chosen[unknown[1]]
            if unknown[1] == "dynamic_img_size" and image_size is not None and has_fixed_size(name):
                chosen["img_size"] = height_width(image_size)
        except Exception as error:  # timm's layers raise errors of any type
            if "img_size" in chosen and not options and image_size is not None:
                raise _wrong_size(name, image_size, error) from error
            raise _wrong_options(name, {**chosen, **options}, error) from error


def reductions(model: Any) -> list[int]:
    """Return the strides of a model's feature maps, block after block or stage after stage."""
    info = model.feature_info
    return [int(x["reduction"]) for x in info] if isinstance(info, list) else [int(x) for x in info.reduction()]


def strides_of(name: str, image_size: ImageSize | None, options: dict[str, Any]) -> list[int]:
    """Return the strides of all feature maps of a timm model; empty if timm doesn't say."""
    try:
        with torch.device("meta"):
            model = sized_model(name, image_size, options, num_classes=0)
    except ValueError:  # the model needs values as it is made
        model = sized_model(name, image_size, options, num_classes=0)
    return reductions(model) if hasattr(model, "feature_info") else []


def channels(model: Any) -> list[int]:
    """Return the channels of a model's feature maps."""
    info = model.feature_info
    return [int(x["num_chs"]) for x in info] if isinstance(info, list) else [int(x) for x in info.channels()]


def channels_first(model: Any, features: Tensor) -> Tensor:
    """Return a map of a `features_only` model as (B, C, h, w)."""
    if "NHWC" in str(getattr(model, "output_fmt", "")):
        return features.permute(0, 3, 1, 2).contiguous()
    return features


def weight_filter(name: str) -> Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] | None:
    """Return timm's function that renames and resizes published weights for a model, if it has one."""
    found = getattr(sys.modules[f"timm.models.{module_of(name)}"], "checkpoint_filter_fn", None)
    return found if callable(found) else None


def whole_model(name: str, image_size: ImageSize | None, options: dict[str, Any]) -> nn.Module:
    """Return a model as `sized_model` makes it, with all its layers and its classifier, but without weights."""
    with torch.device("meta"):
        model: nn.Module = sized_model(name, image_size, {k: x for k, x in options.items() if k != "out_indices"})
    return model


def resample_positions(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Resample the position embedding of a square of patches to a network's own grid, as timm does for most models."""
    own, resampled = network.state_dict().get("pos_embed"), dict(state)
    grid = getattr(network, "tokens_spatial_shape", None) or getattr(
        getattr(network, "patch_embed", None), "grid_size", None
    )
    x = state.get("pos_embed")
    if x is None or own is None or grid is None or x.dim() != 3 or x.shape == own.shape or len(grid) != 2:
        return resampled
    prefix = own.shape[1] - grid[0] * grid[1]
    if prefix >= 0 and math.isqrt(x.shape[1] - prefix) ** 2 == x.shape[1] - prefix:
        resampled["pos_embed"] = resample_abs_pos_embed(x, list(grid), num_prefix_tokens=prefix)
    return resampled


def check_runs(name: str, encoder: nn.Module, image_size: ImageSize) -> None:
    """Check that an encoder takes images of a size, by encoding one.

    Raises:
        ValueError: it doesn't.
    """
    if any(x.is_meta for x in encoder.parameters()):
        return
    training = [module for module in encoder.modules() if module.training]
    try:
        encoder.eval()
        with torch.no_grad():
            encoder(torch.zeros(1, 3, *height_width(image_size)))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _wrong_size(name, image_size, error) from error
    finally:
        for module in training:
            module.training = True
