"""A model by one name: a preset's, or the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from .config import PRESETS
from .model import SimpleMatch
from .nearest import NEAREST_PRESETS, NearestNeighbour


def load_model(name: str | Path, weights: Path | None = None) -> SimpleMatch | NearestNeighbour:
    """A model to match with, in eval mode.

    Args:
        name: of a preset, with its pretrained encoder; or a folder that training or `save_pretrained` wrote.
        weights: file of a preset's encoder weights.

    Raises:
        ValueError: there is no such preset or folder, or `weights` doesn't fit.
    """
    check_model(name)
    if Path(name).is_dir():
        return SimpleMatch.from_pretrained(name)
    if str(name) in NEAREST_PRESETS:
        return NearestNeighbour.from_preset(str(name), weights=weights)
    return SimpleMatch.from_preset(str(name), weights=weights).eval()


def default_device() -> torch.device:
    """Where models run unless told otherwise: CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_model(name: str | Path) -> None:
    """Raise a ValueError unless `load_model` knows the name."""
    if not Path(name).is_dir() and str(name) not in (*NEAREST_PRESETS, *PRESETS):
        raise ValueError(
            f"model must be the folder of a checkpoint or one of {', '.join((*NEAREST_PRESETS, *PRESETS))}, "
            f"got {str(name)!r}"
        )
