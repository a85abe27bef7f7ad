"""Loads a model by the name of a preset or the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from .config import PRESETS
from .model import SimpleMatch
from .nearest import NEAREST_PRESETS, NearestNeighbour


def load_model(name: str | Path, weights: Path | None = None) -> SimpleMatch | NearestNeighbour:
    """Load a model in eval mode.

    Args:
        name: a preset, loaded with its pretrained encoder, or a folder that training or `save_pretrained` wrote.
        weights: file of a preset's encoder weights.

    Raises:
        ValueError: the preset or folder is unknown, or `weights` doesn't fit the model.
    """
    check_model(name)
    if Path(name).is_dir():
        return SimpleMatch.from_pretrained(name)
    if str(name) in NEAREST_PRESETS:
        return NearestNeighbour.from_preset(str(name), weights=weights)
    return SimpleMatch.from_preset(str(name), weights=weights).eval()


def default_device() -> torch.device:
    """Return CUDA if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_model(name: str | Path) -> None:
    """Raise a ValueError unless `name` is valid for `load_model`."""
    if not Path(name).is_dir() and str(name) not in (*NEAREST_PRESETS, *PRESETS):
        raise ValueError(
            f"model must be the folder of a checkpoint or one of {', '.join((*NEAREST_PRESETS, *PRESETS))}, "
            f"got {str(name)!r}"
        )
