"""Checkpoints: states for exact resumption, and models.

OUTPUT/config.yaml        the configuration of the run
OUTPUT/state/000012/      weights, optimizer, random state and position, with digests, for `resume`
OUTPUT/last/, best/       models for `SimpleMatch.from_pretrained`
"""

from __future__ import annotations

import dataclasses
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from safetensors import SafetensorError

from .._files import DataError, reason_of, write_text
from .._json import read_object, write_json
from ..models import SimpleMatch
from . import manifest
from .config import TrainConfig, check_names
from .random_state import read_random_state, write_random_state
from .sharding import whole_model
from .state_files import read_state, write_state

STATE, LAST, BEST, CONFIG, POSITION = "state", "last", "best", "config.yaml", "position.json"
RANDOM = "random-{}.safetensors"  # one per process
UNREADABLE = (
    OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError,
    SafetensorError,
)  # fmt: skip
logger = logging.getLogger(__name__)


@dataclass
class Position:
    """The position of a run: total steps, the epoch, samples done in the epoch, and the best validation PCK."""

    step: int = 0
    epoch: int = 0
    samples: int = 0
    best_pck: float = -1.0


def has_state(output: Path) -> bool:
    """Return whether a folder has a state, complete or not."""
    return bool(manifest.numbered(output / STATE)) or (output / STATE / POSITION).is_file()


def write_config(config: TrainConfig) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    write_text(config.output / CONFIG, yaml.safe_dump(config.to_dict(), sort_keys=False))


def save_state(accelerator: Accelerator, config: TrainConfig, position: Position) -> bool:
    """Save a state, then remove the oldest one; return False if it can't be written.

    In that case the earlier states are unchanged, and a warning logs the reason.
    """
    folder = config.output / STATE
    if accelerator.is_main_process:
        manifest.discard(folder)
    accelerator.wait_for_everyone()
    part = manifest.next_part(folder)
    try:
        write_state(accelerator, part)
        part.mkdir(parents=True, exist_ok=True)
        write_random_state(part / RANDOM.format(accelerator.process_index))
        failure = ""
    except (OSError, RuntimeError, SafetensorError) as error:
        failure = reason_of(error)
    if _failed_anywhere(accelerator, failure) or not _finished(accelerator, part, config, position, failure):
        if accelerator.is_main_process:
            manifest.discard(folder)
            states = manifest.numbered(folder)
            logger.warning(
                "the state of step %d can't be saved in %s, %s; %s; free some space, and the next save tries again",
                *(position.step, folder, failure or "another process failed"),
                f"the state in {states[0].name} is kept" if states else "there is no earlier state",
            )
        accelerator.wait_for_everyone()
        return False
    return True


def _finished(accelerator: Accelerator, part: Path, config: TrainConfig, position: Position, failure: str) -> bool:
    """Complete the folder on the main process; return on every process whether that succeeded."""
    if accelerator.is_main_process:
        try:
            write_json(part / POSITION, dataclasses.asdict(position))
            write_text(part / CONFIG, yaml.safe_dump(config.to_dict(), sort_keys=False))
            manifest.finish(part, config.keep_states)
        except OSError as error:
            logger.warning("%s", reason_of(error))
            failure = reason_of(error)
    return not _failed_anywhere(accelerator, failure)


def _failed_anywhere(accelerator: Accelerator, failure: str) -> bool:
    failed = torch.tensor(float(bool(failure)), device=accelerator.device)
    return bool(accelerator.reduce(failed, "sum") > 0)


def load_state(accelerator: Accelerator, config: TrainConfig, allow_changes: bool = False) -> Position:
    """Load the newest intact state, and warn if a newer one is damaged.

    Raises:
        FileNotFoundError: there is no state.
        DataError: no state is intact, or the state doesn't fit this run.
        ValueError: the state has other settings and `allow_changes` is False.
    """
    folder = config.output / STATE
    states = manifest.numbered(folder)
    if not states:
        raise _no_state(folder)
    damage = []
    for state in states:
        try:
            manifest.check(state)
            position = read_position(state / POSITION)
        except (DataError, OSError) as error:
            damage.append(reason_of(error))
            continue
        if damage:
            logger.warning("%s; resuming from the older state %s, of step %d", "; ".join(damage), state, position.step)
        _check_settings(state / CONFIG, config, allow_changes)
        _load(accelerator, state)
        return position
    raise DataError(
        f"{'; '.join(damage)}; nothing was changed. Start another run, for example from the saved models "
        f"{config.output / LAST} or {config.output / BEST}."
    )


def _no_state(folder: Path) -> Exception:
    if (folder / POSITION).is_file():
        return DataError(
            f"{folder} is of an earlier version without digests and can't be resumed: start another run, for example "
            f"from {folder.parent / LAST} or {folder.parent / BEST}"
        )
    return FileNotFoundError(f"{folder} is missing or empty: {folder.parent} has no state to resume from")


def read_position(path: Path) -> Position:
    """Read a position.

    Raises:
        DataError: the file doesn't hold three counts and a PCK from -1 to 1.
    """
    found = read_object(path)
    counts = [found.get(name) for name in ("step", "epoch", "samples")]
    best = found.get("best_pck")
    if (
        set(found) != {field.name for field in dataclasses.fields(Position)}
        or not all(type(count) is int and 0 <= count < 2**53 for count in counts)
        or isinstance(best, bool)
        or not isinstance(best, (int, float))
        or not -1 <= best <= 1
    ):
        raise DataError(f"{path} must hold step, epoch and samples, whole numbers, and best_pck, from -1 to 1.")
    return Position(**found)


def _check_settings(path: Path, config: TrainConfig, allow_changes: bool) -> None:
    """Raise a ValueError if a state's settings differ from `config`, or warn with `allow_changes`."""
    try:
        before = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} can't be read as YAML: {reason_of(error)}.") from error
    before, now = before if isinstance(before, Mapping) else {}, yaml.safe_load(yaml.safe_dump(config.to_dict()))
    check_names(before, str(path))
    # A field that an earlier version didn't have had its default.
    defaults = {x.name: x.default for x in dataclasses.fields(config)}
    changed = [name for name in config.DECIDING if before.get(name, defaults[name]) != now[name]]
    if not changed:
        return
    what = "; ".join(f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in changed)
    if not allow_changes:
        raise ValueError(
            f"output {config.output} has a run with other settings: {what}; resume with its settings, or use the new "
            "ones with allow_changes=True (--allow-changes true)"
        )
    logger.warning("resuming with other settings: %s", what)


def _load(accelerator: Accelerator, state: Path) -> None:
    """Load weights, optimizer and random state, without unpickling that could run code."""
    random = state / RANDOM.format(accelerator.process_index)
    restore, differs = None, f"no random numbers of process {accelerator.process_index}"
    if random.is_file():
        try:
            restore, differs = read_random_state(random)
        except UNREADABLE as error:
            raise _unreadable(random, error) from error
    if differs:
        logger.warning("%s has %s; they restart from the seed", state, differs)
    try:
        read_state(accelerator, state)
    except UNREADABLE as error:
        raise _unreadable(state, error) from error
    if restore is not None:
        restore()


def _unreadable(path: Path, error: Exception) -> DataError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} can't be loaded into this model: {first.rstrip('.')}; nothing was changed.")


def save_model(accelerator: Accelerator, model: SimpleMatch, folder: Path, facts: dict[str, Any] | None = None) -> bool:
    """Save a model, with facts for its card; if that fails, log a warning, keep the earlier model and return False."""
    failure, model = "", whole_model(model)
    if accelerator.is_main_process:
        try:
            model.save_pretrained(folder, model_card_kwargs=facts)
        except (OSError, SafetensorError) as error:
            failure = reason_of(error)
            logger.warning("the model %s can't be saved: %s", folder, failure)
    return not _failed_anywhere(accelerator, failure)
