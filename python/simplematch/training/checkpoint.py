"""Checkpoints: a state to resume from exactly, and models to use.

OUTPUT/config.yaml        the run
OUTPUT/state/             weights, optimizer, scheduler, random numbers and position: what `resume` reads
OUTPUT/last/, best/       models, as `SimpleMatch.from_pretrained` reads them
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from accelerate import Accelerator

from ..models import SimpleMatch
from .config import TrainConfig

STATE, LAST, BEST, CONFIG = "state", "last", "best", "config.yaml"


@dataclass
class Position:
    """Where a run is: steps done in all, the epoch, batches done in it, and the best validation so far."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_pck: float = -1.0


def write_config(config: TrainConfig) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / CONFIG).write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))


def save_state(accelerator: Accelerator, output: Path, position: Position) -> None:
    """Replace the state: written beside it first, so that an interruption leaves one of them whole."""
    fresh, old = output / f"{STATE}.part", output / STATE
    if accelerator.is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(fresh))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (fresh / "position.json").write_text(json.dumps(asdict(position)))
        shutil.rmtree(old, ignore_errors=True)
        fresh.rename(old)
    accelerator.wait_for_everyone()


def load_state(accelerator: Accelerator, output: Path) -> Position:
    """Go back to the saved state.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its position can't be read.
    """
    path = output / STATE / "position.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {output} holds no state to resume from")
    try:
        position = Position(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold step, epoch, batch and best_pck, got: {error}") from error
    accelerator.load_state(str(output / STATE))
    return position


def save_model(accelerator: Accelerator, model: SimpleMatch, folder: Path) -> None:
    if accelerator.is_main_process:
        model.save_pretrained(folder)
    accelerator.wait_for_everyone()
