"""Translates state dicts of the authors' implementation to this model's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from . import storage
from .weights import UNUSED_IN_ENCODER

if TYPE_CHECKING:
    from .model import SimpleMatch

_ENCODER = re.compile(r"pair_image_encoder\.(?:image_encoder|backbone)\.(.+)")
_ALIGN = re.compile(r"pair_image_encoder\.aligns\.(\d+)\.(.+)")
_ADAPTER = re.compile(r"(.+)\.(lora_[AB])")


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has the names of the authors' checkpoints."""
    return any(name.startswith(("conv_refine1.", "pair_image_encoder.")) for name in state)


def holds_encoder(state: Mapping[str, Tensor]) -> bool:
    """Return whether a checkpoint has encoder weights besides adapters."""
    return any(_ENCODER.search(name) and not _ADAPTER.fullmatch(name) for name in state)


def load(model: SimpleMatch, state: Mapping[str, Tensor], source: str) -> tuple[list[str], list[str]]:
    """`SimpleMatch.load_official_state_dict`."""
    own = model.state_dict()
    translated: dict[str, Tensor] = {}
    unexpected = []
    for name, value in state.items():
        new = _own_name(model, name.removeprefix("module."), own)
        if new in own:
            translated[new] = value
        elif new is not None:
            unexpected.append(name)
    storage.check_shapes(own, translated, source)
    model.load_state_dict(translated, strict=False)
    adapters_alone = model.config.encoder_training == "lora" and not holds_encoder(state)
    missing = [name for name in own if name not in translated]
    return [name for name in missing if not (adapters_alone and _is_beneath_adapters(name))], unexpected


def _is_beneath_adapters(name: str) -> bool:
    return name.startswith("encoder.") and ".lora_" not in name


def _own_name(model: SimpleMatch, name: str, own: Mapping[str, Tensor]) -> str | None:
    """Translate an official name to this model's name, which may not exist; None for an unused tensor."""
    encoder = _ENCODER.fullmatch(name)
    if encoder:
        return _own_encoder_name(model, encoder[1], own)
    vit = model.config.kind == "vit"
    first, _, rest = name.partition(".")
    number = int(first[-1]) - 1 if first[-1:].isdigit() else 0
    align = _ALIGN.fullmatch(name)
    if align:
        return f"decoder.aligns.{int(align[1]) - getattr(model.decoder, 'first', 0)}.{align[2]}"
    if first.startswith("trans_conv"):
        if vit and number == 1 and model.config.variant == "official":
            return None  # stored in the checkpoint, but unused by the forward
        return f"decoder.transposed.{number}.{rest}"
    if first.startswith("conv_refine"):
        return f"decoder.refine.{number}.{rest}"
    if first.startswith("proj"):
        level = 2 if vit else number
        return f"matchers.{model.config.levels.index(level)}.proj.{rest}" if level in model.config.levels else name
    return name


def _own_encoder_name(model: SimpleMatch, name: str, own: Mapping[str, Tensor]) -> str | None:
    if name.startswith(UNUSED_IN_ENCODER):
        return None
    root = "encoder.vit." if model.config.kind == "vit" else "encoder.backbone."
    adapter = _ADAPTER.fullmatch(name)
    if adapter:
        return f"{root}{adapter[1]}.{adapter[2]}.default.weight"
    module, _, parameter = name.rpartition(".")
    beneath_adapter = f"{root}{module}.base_layer.{parameter}"
    return beneath_adapter if beneath_adapter in own else root + name
