"""Tells models apart: a digest of the weights, and the settings that decide the matches."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

_OF_TRAINING = {"encoder_training", "dropout", "checkpoint_encoder", "checkpoint_decoder", "joint_batch"}


def identity(model: nn.Module) -> dict[str, Any]:
    """Return a model's class, settings and the SHA-256 of its weights, as JSON values."""
    config: Any = model.config
    settings = {name: value for name, value in asdict(config).items() if name not in _OF_TRAINING}
    found = {"class": type(model).__name__, "weights": digest(model), "settings": settings}
    plain: dict[str, Any] = json.loads(json.dumps(found))  # tuples become lists
    return plain


def digest(model: nn.Module) -> str:
    """Return the SHA-256 of names, shapes and values of a model's weights."""
    hashed = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        hashed.update(f"{name}\0{tuple(value.shape)}\0".encode())
        hashed.update(_bytes(value))
    return hashed.hexdigest()


def difference(expected: dict[str, Any], model: nn.Module) -> str | None:
    """Say in what a model differs from an identity; None if in nothing.

    Settings that only one of the two knows are ignored, because versions of this package differ in them.
    """
    own = identity(model)
    if own["class"] != expected.get("class"):
        return f"a {expected.get('class')}, not a {own['class']}"
    settings = expected.get("settings") or {}
    for name in sorted(settings.keys() & own["settings"].keys()):
        if settings[name] != own["settings"][name]:
            return f"one with {name} {_shown(settings[name])}, not {_shown(own['settings'][name])}"
    return None if own["weights"] == expected.get("weights") else "one with other weights"


def _shown(value: object) -> str:
    return json.dumps(value)[:80]


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
