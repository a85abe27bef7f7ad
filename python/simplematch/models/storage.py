"""A model as a folder: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .._json import loads

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save(folder: Path, fields: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write both files, each first beside its place, so that a folder never holds half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{CONFIG}.part").write_text(json.dumps(fields, indent=2) + "\n")
    save_file({name: x.contiguous() for name, x in state.items()}, folder / f"{WEIGHTS}.part")
    for name in (WEIGHTS, CONFIG):
        (folder / f"{name}.part").replace(folder / name)


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The fields of the configuration, and the weights on the CPU.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, in one sentence.
    """
    for path in (folder, folder / CONFIG, folder / WEIGHTS):
        if not path.exists():
            raise FileNotFoundError(f"path must be a folder that save_pretrained wrote, but there is no {path}")
    try:
        fields = loads((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} must hold json, got {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{folder / CONFIG} must hold an object, got {type(fields).__name__}")
    try:
        return fields, load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} must be a safetensors file, got {error}") from error


def check_fits(model: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """All names of the model and no others, each with its shape.

    Raises:
        ValueError: naming the first tensor that doesn't fit.
    """
    missing = [name for name in model if name not in state]
    if missing:
        raise ValueError(f"{source} must hold {missing[0]!r} ({len(missing)} of {len(model)} tensors are missing)")
    unexpected = [name for name in state if name not in model]
    if unexpected:
        raise ValueError(f"{source} holds {unexpected[0]!r}, which the model has not ({len(unexpected)} such tensors)")
    check_shapes(model, state, source)


def check_shapes(model: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Every tensor of `state` has the shape of its namesake in the model."""
    for name, value in state.items():
        if value.shape != model[name].shape:
            raise ValueError(
                f"{source} has {name!r} of shape {tuple(value.shape)}, but the model needs {tuple(model[name].shape)}"
            )
