"""Loads a model by the name of a preset, its folder, its repository on the hub, or the name of an encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..sizes import ImageSize
from . import storage
from .backbones import check_name
from .config import PRESETS
from .hub import EARLIER, MODEL_TYPE, folder_of, is_repository
from .model import SimpleMatch
from .nearest import NearestNeighbour
from .nearest_config import NEAREST_PRESETS, NearestConfig, nearest_preset

MODELS: dict[str, type[SimpleMatch | NearestNeighbour]] = {x.model_type: x for x in (SimpleMatch, NearestNeighbour)}


def load_model(
    name: str | Path | None = None,
    weights: Path | None = None,
    *,
    encoder: str | None = None,
    block: int | None = None,
    image_size: ImageSize | None = None,
    resize: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> SimpleMatch | NearestNeighbour:
    """Load a model of any type in eval mode.

    Args:
        name: a preset, loaded with its pretrained encoder; or a folder that training or `save_pretrained` wrote; or a
            repository "owner/name" of the Hugging Face hub.
        weights: file of the encoder weights of a preset or of `encoder`.
        encoder: instead of `name`, any model of timm, for an untrained matcher.
        block: with `encoder`, the block whose descriptors are compared, see `NearestConfig`.
        image_size: size of the network's input instead of a preset's, S or (height, width).
        resize: "squash" or "letterbox", instead of a preset's.
        revision, cache_dir, local_files_only, token: for a repository, see `SimpleMatch.from_pretrained`.

    Raises:
        ValueError: the preset, folder or encoder is unknown, has no such block or can't encode the size, `weights`
            doesn't fit the model, or a file of the model is damaged.
        FileNotFoundError: the repository doesn't exist or can't be reached, or a file is missing.
    """
    check_model(name, encoder, block)
    changes: dict[str, Any] = {"image_size": image_size, "resize": resize}
    changes = {key: value for key, value in changes.items() if value is not None}
    if encoder is not None:
        config = replace(NearestConfig.of_encoder(encoder, block), **changes)
        return NearestNeighbour.from_config(config, weights=weights)
    assert name is not None
    if Path(name).is_dir() or str(name) not in (*NEAREST_PRESETS, *PRESETS):
        if changes or weights is not None:
            given = next(iter(changes), "weights")
            raise ValueError(f"{given} must not be given for a model that has its own, got it with {name}")
        folder = folder_of(name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
        return _type_of(folder).from_pretrained(folder)
    if str(name) in NEAREST_PRESETS:
        config = replace(nearest_preset(str(name)), **changes)
        return NearestNeighbour.from_config(config, weights=weights, name=str(name))
    return SimpleMatch.from_preset(str(name), weights=weights, **changes).eval()


def _type_of(folder: Path) -> type[SimpleMatch | NearestNeighbour]:
    found = storage.load_fields(folder).get(MODEL_TYPE, EARLIER)
    if not isinstance(found, str) or found not in MODELS:
        raise ValueError(
            f"{folder / storage.CONFIG} must have a model_type of {', '.join(map(repr, MODELS))}, got {found!r}: it is "
            "a model of another library, or of a later version of this one"
        )
    return MODELS[found]


def default_device() -> torch.device:
    """Return CUDA if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_model(name: str | Path | None, encoder: str | None = None, block: int | None = None) -> None:
    """Raise a ValueError unless the arguments may be valid for `load_model`; a repository isn't looked for yet."""
    if encoder is not None:
        check_name(encoder)
        return
    if block is not None:
        raise ValueError(f"block must not be given without an encoder, got {block}")
    known = name is not None and (Path(name).is_dir() or str(name) in (*NEAREST_PRESETS, *PRESETS))
    if not known and (name is None or not is_repository(name)):
        raise ValueError(
            "model must be the folder of a checkpoint, a repository owner/name of the hub, or one of "
            f"{', '.join((*NEAREST_PRESETS, *PRESETS))}, got {str(name)!r}"
        )
