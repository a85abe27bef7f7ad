"""Stores a model as a folder with `config.json`, `model.safetensors` and, as its model card, `README.md`.

The files change together. `save` writes them to a temporary folder, renames it to `.next`, and then moves the files
into place one by one; `load` reads a file from `.next` while it is there. If a save is killed at any moment, the folder
holds the old model or the new one. A card that somebody has edited, and other files in the folder, are unchanged.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from .._files import WriteError, reason_of, sync_folder, write_bytes, write_error, writing
from .._json import loads, to_json
from .signed import digest, is_edited, weights_of

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
NEXT, UNFINISHED = ".next", ".next.part"
LARGEST_CARD = 1 << 20  # bytes
_log = logging.getLogger(__name__)
REMEDY = "copy the folder again, or use another folder of the same run, such as best or last"


def save(
    folder: Path,
    fields: Mapping[str, Any],
    state: Mapping[str, Tensor],
    make_card: Callable[[str], str] | None = None,
) -> None:
    """Replace the files, and create the folder if necessary.

    Args:
        folder: the folder of the model.
        fields: what `config.json` holds.
        state: the weights.
        make_card: takes the digest of `model.safetensors` and returns the model card, which replaces `README.md` unless
            somebody has edited that. None: the folder keeps its card.

    Raises:
        WriteError: the files can't be written; an earlier model is unchanged.
    """
    weights = to_bytes({name: x.contiguous() for name, x in state.items()})
    files = {CONFIG: f"{to_json(dict(fields), indent=2)}\n".encode(), WEIGHTS: weights}
    if make_card is not None:
        files[CARD] = make_card(digest(weights)).encode()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _finish(folder)
        unfinished = folder / UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    try:
        for name, content in files.items():
            _write(folder, name, content)
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
    if (waiting / CARD).exists():
        _finish_card(folder)
    sync_folder(folder)
    waiting.rmdir()
    sync_folder(folder)


def _finish_card(folder: Path) -> None:
    """Move the card into place, or remove it if the folder's own card has been edited."""
    new, place = folder / NEXT / CARD, folder / CARD
    old = _read_text(place)
    if (old is None and not os.path.lexists(place)) or (old is not None and not is_edited(old)):
        os.replace(new, place)
        return
    if old is None or weights_of(old) != weights_of(_read_text(new) or ""):
        _log.warning("%s has been edited and is kept; it may describe other weights: remove it to get a new one", place)
    new.unlink()


def read_card(folder: Path) -> str | None:
    """Read the model card of a folder; None if there is none, or it isn't text of a card's size."""
    return _read_text(_place(folder, CARD))


def weights_digest(folder: Path) -> str:
    """Return the digest of a folder's `model.safetensors`."""
    return digest(_place(folder, WEIGHTS).read_bytes())


def _read_text(path: Path) -> str | None:
    try:
        if path.stat().st_size > LARGEST_CARD:
            return None
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _place(folder: Path, name: str) -> Path:
    """Return the path of the newest file of a name."""
    waiting = folder / NEXT / name
    return waiting if waiting.exists() else folder / name


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the fields of the configuration, and the weights on the CPU.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged.
    """
    fields = load_fields(folder)
    weights = _place(folder, WEIGHTS)
    _check_exists(weights)
    return fields, _read_weights(weights)


def load_fields(folder: Path) -> dict[str, Any]:
    """Read the fields of the configuration alone; see `load`."""
    config = _place(folder, CONFIG)
    _check_exists(folder)
    _check_exists(config)
    return _read_config(config)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"path must be a folder that save_pretrained wrote, but there is no {path}")


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
