"""Low-rank adapters (LoRA) for layers of an encoder, chosen by type or name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from .encoders import Encoder

TARGETS = ("mlp", "attention", "conv1x1", "linear")
_ATTENTION = re.compile("attention|attn")
_MLP = re.compile("mlp|swiglu|ffn|feedforward")
_POSITION = re.compile("cpb_mlp|rel_pos|pos_embed")  # small networks of positions: neither an MLP nor attention
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def add_lora(
    encoder: Encoder, rank: int, alpha: int, blocks: Sequence[int] | None, targets: Sequence[str] = ("mlp.fc2",)
) -> None:
    """Freeze an encoder and add peft's low-rank adapters to some of its layers.

    The adapter of a layer adds (alpha / rank) B A x, with A (rank, in) random and B (out, rank) zero.

    Args:
        encoder: the encoder.
        rank, alpha: r and alpha.
        blocks: the blocks whose layers get an adapter; None: every layer, whichever block or stage it is in.
        targets: types of layers, or ends of their names. "mlp" and "attention": linear layers and 1x1 convolutions of
            MLPs and of attention (qkv, projections); "conv1x1": all 1x1 convolutions; "linear": all linear layers;
            "mlp.fc2": the layers whose name is or ends in this.

    Raises:
        ValueError: the encoder has no such block, or no layer is chosen.
        ImportError: peft isn't installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(
            'encoder_training "lora" needs the package peft: pip install peft, or the extra train'
        ) from error

    _check_blocks(encoder, blocks)
    network = encoder.network
    kinds = {name: kind for name, kind in _layers(network).items() if _in_blocks(name, blocks, encoder)}
    chosen = [name for name, kind in kinds.items() if any(_is_target(name, kind, x) for x in targets)]
    if not chosen:
        raise ValueError(
            f"lora_targets must name layers of {encoder.name!r}, got {tuple(targets)}: it has {_summary(kinds)}"
        )
    encoder.requires_grad_(False)
    pattern = "|".join(map(re.escape, chosen))  # a pattern has to match the whole name, an entry of a list its end
    lora = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=f"(?:{pattern})")
    inject_adapter_in_model(lora, network)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def _in_blocks(name: str, blocks: Sequence[int] | None, encoder: Encoder) -> bool:
    if blocks is None:
        return True
    block = _BLOCK.match(name)
    return block is not None and int(block[1]) in blocks


def _check_blocks(encoder: Encoder, blocks: Sequence[int] | None) -> None:
    """Raise a ValueError unless the encoder has these blocks."""
    if blocks is None:
        return
    numbers = {int(block[1]) for name, _ in encoder.network.named_modules() if (block := _BLOCK.match(name))}
    if not numbers:
        raise ValueError(f"lora_blocks must be null for {encoder.name!r}, whose blocks aren't numbered, got {blocks}")
    depth = max(numbers) + 1
    if not blocks or not all(0 <= x < depth for x in blocks):
        raise ValueError(f"lora_blocks must be some of 0 to {depth - 1}, got {tuple(blocks)}")


def _layers(network: nn.Module) -> dict[str, set[str]]:
    """Return the layers that can have an adapter, with their types."""
    found: dict[str, set[str]] = {}
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Linear) and not _is_conv1x1(layer):
            continue
        above = _above(network, name)
        if _is_read_by_weight(name, above):
            continue
        kinds = {"linear" if isinstance(layer, nn.Linear) else "conv1x1"}
        words = name.lower() + " " + " ".join(type(x).__name__.lower() for x in above)
        if not _POSITION.search(words):
            kinds |= {kind for kind, pattern in (("attention", _ATTENTION), ("mlp", _MLP)) if pattern.search(words)}
        found[name] = kinds
    return found


def _is_conv1x1(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and tuple(layer.kernel_size) == (1, 1) and layer.groups == 1


def _above(network: nn.Module, name: str) -> list[nn.Module]:
    """Return the two modules that contain a layer, the nearest first."""
    parts = name.split(".")[:-1]
    return [network.get_submodule(".".join(parts[: len(parts) - i])) for i in range(min(2, len(parts)))]


def _is_read_by_weight(name: str, above: list[nn.Module]) -> bool:
    """Tell whether attention reads a layer's weight instead of calling it, so that an adapter would have no effect."""
    if not above:
        return False
    separate_bias = getattr(above[0], "q_bias", None) is not None and not getattr(above[0], "qkv_bias_separate", False)
    return isinstance(above[0], nn.MultiheadAttention) or (name.endswith(".qkv") and separate_bias)


def _is_target(name: str, kinds: set[str], target: str) -> bool:
    return target in kinds if target in TARGETS else name == target or name.endswith("." + target)


def _summary(kinds: dict[str, set[str]]) -> str:
    """Describe the layers: how many there are of each type, and the ends of their names."""
    if not kinds:
        return "no layer for an adapter in these blocks"
    counts = [f"{sum(kind in x for x in kinds.values())} of type {kind!r}" for kind in TARGETS]
    ends = dict.fromkeys(".".join(name.split(".")[-2:]).lstrip("0123456789.") or name for name in kinds)
    return f"{', '.join(counts)}, with names that end in {', '.join(list(ends)[:12])}"
