"""Checkpoints: states to resume from exactly, and models to use.

OUTPUT/config.yaml        the run
OUTPUT/state/000012/      weights, optimizer, random numbers and position, with digests: what `resume` reads
OUTPUT/last/, best/       models, as `SimpleMatch.from_pretrained` reads them
"""

from __future__ import annotations

import dataclasses
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils.constants import RNG_STATE_NAME
from safetensors import SafetensorError

from .._files import DataError, reason_of, write_text
from .._json import read_object, write_json
from ..models import SimpleMatch
from . import manifest
from .config import TrainConfig, check_names
from .random_state import read_random_state, write_random_state

STATE, LAST, BEST, CONFIG, POSITION = "state", "last", "best", "config.yaml", "position.json"
RANDOM = "random-{}.safetensors"  # of each process
UNREADABLE = (
    OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError,
    SafetensorError,
)  # fmt: skip
logger = logging.getLogger(__name__)


@dataclass
class Position:
    """Where a run is: steps done in all, the epoch, samples done in it, and the best validation so far."""

    step: int = 0
    epoch: int = 0
    samples: int = 0
    best_pck: float = -1.0


def has_state(output: Path) -> bool:
    """Whether a run has left something to resume from, whole or not."""
    return bool(manifest.numbered(output / STATE)) or (output / STATE / POSITION).is_file()


def write_config(config: TrainConfig) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    write_text(config.output / CONFIG, yaml.safe_dump(config.to_dict(), sort_keys=False))


def save_state(accelerator: Accelerator, config: TrainConfig, position: Position) -> bool:
    """Add a state, and remove the oldest once it is whole on the disk; False if it can't be written.

    Then the earlier states are as they were, and a warning says why.
    """
    folder = config.output / STATE
    if accelerator.is_main_process:
        manifest.discard(folder)
    accelerator.wait_for_everyone()
    part = manifest.next_part(folder)
    try:
        accelerator.save_state(str(part))
        (part / f"{RNG_STATE_NAME}_{accelerator.process_index}.pkl").unlink(missing_ok=True)
        write_random_state(part / RANDOM.format(accelerator.process_index))
        failure = ""
    except (OSError, RuntimeError, SafetensorError) as error:
        failure = reason_of(error)
    if _failed_anywhere(accelerator, failure) or not _finished(accelerator, part, config, position, failure):
        if accelerator.is_main_process:
            manifest.discard(folder)
            states = manifest.numbered(folder)
            logger.warning(
                "the state of step %d can't be saved in %s, %s; %s, and the next save tries again: make room",
                *(position.step, folder, failure or "another process failed"),
                f"the state in {states[0].name} stays" if states else "there is no earlier one",
            )
        accelerator.wait_for_everyone()
        return False
    return True


def _finished(accelerator: Accelerator, part: Path, config: TrainConfig, position: Position, failure: str) -> bool:
    """The main process completes the folder; every process learns whether it could."""
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
    """Go back to the newest state that is whole, with a warning if that is an older one.

    Raises:
        FileNotFoundError: there is none.
        DataError: none is whole, or what is whole doesn't fit this run.
        ValueError: the run that left it had other settings, and changes weren't allowed.
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
        f"{'; '.join(damage)}; nothing was changed. Begin another run, if you like from {config.output / LAST} or "
        f"{config.output / BEST}, the models that were saved."
    )


def _no_state(folder: Path) -> Exception:
    if (folder / POSITION).is_file():
        return DataError(
            f"{folder} is of an earlier version, without digests, and can't be resumed: begin another run, if you like "
            f"from {folder.parent / LAST} or {folder.parent / BEST}"
        )
    return FileNotFoundError(f"{folder} is missing or empty: {folder.parent} holds no state to resume from")


def read_position(path: Path) -> Position:
    """The position in a file.

    Raises:
        DataError: it isn't three counts and a PCK from -1 to 1.
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
    """Whether the run that left a state was one like this."""
    try:
        before = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} can't be read as YAML: {reason_of(error)}.") from error
    before, now = before if isinstance(before, Mapping) else {}, yaml.safe_load(yaml.safe_dump(config.to_dict()))
    check_names(before, str(path))
    changed = [name for name in config.DECIDING if before.get(name) != now[name]]
    if not changed:
        return
    what = "; ".join(f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in changed)
    if not allow_changes:
        raise ValueError(
            f"output {config.output} holds a run with other settings: {what}; resume with those, or allow_changes=True "
            "(--allow-changes true) to go on with the new ones"
        )
    logger.warning("going on with other settings: %s", what)


def _load(accelerator: Accelerator, state: Path) -> None:
    """Weights, optimizer and random numbers; no file can run code, for all are read without full unpickling."""
    random = state / RANDOM.format(accelerator.process_index)
    restore, differs = None, f"no random numbers of process {accelerator.process_index}"
    if random.is_file():
        try:
            restore, differs = read_random_state(random)
        except UNREADABLE as error:
            raise _unreadable(random, error) from error
    if differs:
        logger.warning("%s has %s: those here begin anew", state, differs)
    try:
        accelerator.load_state(str(state))
    except UNREADABLE as error:
        raise _unreadable(state, error) from error
    if restore is not None:
        restore()


def _unreadable(path: Path, error: Exception) -> DataError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} can't be loaded into this model: {first.rstrip('.')}; nothing was changed.")


def save_model(accelerator: Accelerator, model: SimpleMatch, folder: Path) -> bool:
    """Replace a model; False, with a warning, if it can't be written. Then the one that was there stays."""
    failure = ""
    if accelerator.is_main_process:
        try:
            model.save_pretrained(folder)
        except (OSError, SafetensorError) as error:
            failure = reason_of(error)
            logger.warning("the model %s can't be saved: %s", folder, failure)
    return not _failed_anywhere(accelerator, failure)
