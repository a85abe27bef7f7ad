"""Loads a model by the name of a preset, its folder, or its repository on the hub."""

from __future__ import annotations

from pathlib import Path

import torch

from . import storage
from .config import PRESETS
from .hub import EARLIER, MODEL_TYPE, folder_of, is_repository
from .model import SimpleMatch
from .nearest import NearestNeighbour
from .nearest_config import NEAREST_PRESETS

MODELS: dict[str, type[SimpleMatch | NearestNeighbour]] = {x.model_type: x for x in (SimpleMatch, NearestNeighbour)}


def load_model(
    name: str | Path,
    weights: Path | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> SimpleMatch | NearestNeighbour:
    """Load a model of any type in eval mode.

    Args:
        name: a preset, loaded with its pretrained encoder; or a folder that training or `save_pretrained` wrote; or a
            repository "owner/name" of the Hugging Face hub.
        weights: file of a preset's encoder weights.
        revision, cache_dir, local_files_only, token: for a repository, see `SimpleMatch.from_pretrained`.

    Raises:
        ValueError: the preset or folder is unknown, `weights` doesn't fit the model, or a file of the model is damaged.
        FileNotFoundError: the repository doesn't exist or can't be reached, or a file is missing.
    """
    check_model(name)
    if Path(name).is_dir() or str(name) not in (*NEAREST_PRESETS, *PRESETS):
        folder = folder_of(name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
        return _type_of(folder).from_pretrained(folder)
    if str(name) in NEAREST_PRESETS:
        return NearestNeighbour.from_preset(str(name), weights=weights)
    return SimpleMatch.from_preset(str(name), weights=weights).eval()


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


def check_model(name: str | Path) -> None:
    """Raise a ValueError unless `name` may be valid for `load_model`; a repository isn't looked for yet."""
    if not Path(name).is_dir() and str(name) not in (*NEAREST_PRESETS, *PRESETS) and not is_repository(name):
        raise ValueError(
            "model must be the folder of a checkpoint, a repository owner/name of the hub, or one of "
            f"{', '.join((*NEAREST_PRESETS, *PRESETS))}, got {str(name)!r}"
        )
