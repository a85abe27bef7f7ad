"""Stores a model as a folder with `config.json` and `model.safetensors`.

Both files change together. `save` writes them to a temporary folder, renames it to `.next`, and then moves the files
into place one by one; `load` reads a file from `.next` while it is there. If a save is killed at any moment, the folder
holds the old model or the new one. Other files in the folder are unchanged.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from .._files import WriteError, reason_of, sync_folder, write_bytes, write_error, writing
from .._json import loads, to_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
NEXT, UNFINISHED = ".next", ".next.part"
REMEDY = "copy the folder again, or use another folder of the same run, such as best or last"


def save(folder: Path, fields: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Replace both files, and create the folder if necessary.

    Raises:
        WriteError: the files can't be written; an earlier model is unchanged.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _finish(folder)
        unfinished = folder / UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    try:
        _write(folder, CONFIG, f"{to_json(dict(fields), indent=2)}\n".encode())
        _write(folder, WEIGHTS, to_bytes({name: x.contiguous() for name, x in state.items()}))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # frees space on a full disk
        raise
    with writing(folder):
        unfinished.rename(folder / NEXT)
        sync_folder(folder)
        _finish(folder)


def _write(folder: Path, name: str, content: bytes) -> None:
    try:
        write_bytes(folder / UNFINISHED / name, content)
    except WriteError as error:  # name the final path, which the user knows
        raise write_error(folder / name, error.__cause__ if isinstance(error.__cause__, OSError) else error) from error


def _finish(folder: Path) -> None:
    """Move the files in `.next` into place."""
    waiting = folder / NEXT
    if not waiting.is_dir():
        return
    for name in (CONFIG, WEIGHTS):
        if (waiting / name).exists():
            os.replace(waiting / name, folder / name)
    sync_folder(folder)
    waiting.rmdir()
    sync_folder(folder)


def _place(folder: Path, name: str) -> Path:
    """Return the path of the newest file of a name."""
    waiting = folder / NEXT / name
    return waiting if waiting.exists() else folder / name


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the fields of the configuration, and the weights on the CPU.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged.
    """
    config, weights = _place(folder, CONFIG), _place(folder, WEIGHTS)
    for path in (folder, config, weights):
        if not path.exists():
            raise FileNotFoundError(f"path must be a folder that save_pretrained wrote, but there is no {path}")
    return _read_config(config), _read_weights(weights)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        fields = loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must hold json, got {_what(path) or reason_of(error)}: {REMEDY}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold an object, got {type(fields).__name__}: {REMEDY}")
    return fields


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        what = _what(path) or f"a damaged one ({reason_of(error)})"
        raise ValueError(f"{path} must be a safetensors file, got {what}: {REMEDY}") from error


def _what(path: Path) -> str | None:
    """Describe an unreadable file, if its kind is obvious."""
    if path.is_dir():
        return "a folder"
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        return reason_of(error)
    if not head:
        return "an empty file"
    if head.startswith(_PICKLES):
        return "a pickle of Python or PyTorch, which is never loaded because it could run code"
    return None


_PICKLES = (b"PK\x03\x04", *(bytes((0x80, version)) for version in range(2, 6)))


def check_fits(model: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Check that a state dict has exactly the model's names and shapes.

    Raises:
        ValueError: a tensor is missing, unexpected, or has a wrong shape; the message names the first.
    """
    missing = [name for name in model if name not in state]
    if missing:
        raise ValueError(f"{source} must hold {missing[0]!r} ({len(missing)} of {len(model)} tensors are missing)")
    unexpected = [name for name in state if name not in model]
    if unexpected:
        raise ValueError(f"{source} must not hold {unexpected[0]!r} ({len(unexpected)} tensors are unexpected)")
    check_shapes(model, state, source)


def check_shapes(model: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Check that every tensor of `state` has the shape of the model's tensor of that name."""
    for name, value in state.items():
        if value.shape != model[name].shape:
            raise ValueError(f"{source}: {name!r} must have shape {tuple(model[name].shape)}, got {tuple(value.shape)}")
