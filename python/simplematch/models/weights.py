"""Loads encoder weights from files: of DINOv2, iBOT, torchvision, timm, and the formats that timm converts."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .._files import reason_of
from ..sizes import height_width
from . import storage
from .backbones import has_fixed_size, resample_positions, weight_filter, weights_of, whole_model
from .encoders import Encoder, MapEncoder, PyramidEncoder, ViTEncoder

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


def load_encoder(encoder: Encoder, state: Mapping[str, Tensor], source: str) -> None:
    """Load an encoder's weights by the names of DINOv2, iBOT, torchvision or timm, or others that timm converts.

    Args:
        encoder: the encoder; its adapters, if any, are unchanged.
        state: tensors by name; tensors that no feature map uses are ignored.
        source: where they come from, for error messages.

    Raises:
        ValueError: a tensor is missing, unexpected, or has a wrong shape.
    """
    own = {_without_adapter(name): x for name, x in encoder.network.state_dict().items() if ".lora_" not in name}
    renamed = {_plain_name(name): x for name, x in state.items()}
    if not isinstance(encoder, ViTEncoder):
        renamed = _converted(encoder, renamed, own)
    used = {name: x for name, x in renamed.items() if name in own or not _is_unused(name, own)}
    try:
        storage.check_fits(own, used, source)
    except ValueError as error:
        raise ValueError(f"{error}{_size_note(encoder)}") from error
    with torch.no_grad():
        for name, x in own.items():
            x.copy_(used[name])


def _size_note(encoder: Encoder) -> str:
    """Describe the size that an encoder's weights are for, if it differs from that of the images and decides shapes."""
    if isinstance(encoder, ViTEncoder) or encoder.image_size is None or not has_fixed_size(encoder.name):
        return ""
    record = weights_of(encoder.name)
    if record is None:
        return ""
    own = record.input_size[1:]
    note = "; the weights that timm knows are for images of {} x {}".format(*own)
    return "" if tuple(own) == height_width(encoder.image_size) else note


def _converted(
    encoder: MapEncoder | PyramidEncoder, state: dict[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return tensors under the names of an encoder's network, without those that only the whole model of timm has."""
    if set(state) == set(own):
        return resample_positions(state, encoder.network)
    whole = whole_model(encoder.name, encoder.image_size, encoder.options)
    convert = weight_filter(encoder.name)
    if convert is not None:
        # Weights of another model raise errors of any type, which the checks that follow explain; and timm prints.
        with suppress(Exception), redirect_stdout(io.StringIO()):
            state = convert(dict(state), whole)
    beyond = set(whole.state_dict())
    named = {_name_of(name, own): x for name, x in state.items()}
    return resample_positions({k: x for k, x in named.items() if k in own or k not in beyond}, encoder.network)


def _name_of(name: str, own: Mapping[str, Tensor]) -> str:
    """Return the name of a tensor in a `features_only` network, which joins the first two parts of some names."""
    joined = name.replace(".", "_", 1)
    return joined if name not in own and joined in own else name


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
