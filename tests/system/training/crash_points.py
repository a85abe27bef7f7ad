"""Kills a save before each of its file operations in turn, and prints the step that resumes each time."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from simplematch.training import TrainConfig, checkpoint, manifest
from simplematch.training.checkpoint import Position

WATCHED = (
    "open",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.listdir",
    "os.scandir",
    "shutil.rmtree",
)


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # forked processes have no other threads
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(2, 2)
    accelerator.prepare(model, torch.optim.Adam(model.parameters()))
    steps = []
    for operation in range(1000):
        output = folder / str(operation)
        config = TrainConfig("resnet101-256", "images", output, output, keep_states=1)
        checkpoint.save_state(accelerator, config, Position(step=1))
        child = os.fork()
        if child == 0:
            _kill_before(operation, output)
            checkpoint.save_state(accelerator, config, Position(step=2))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        state = manifest.numbered(output / checkpoint.STATE)[0]
        manifest.check(state)
        steps.append(checkpoint.load_state(accelerator, config).step)
        assert checkpoint.save_state(accelerator, config, Position(step=3))  # leftovers don't prevent the next save
        assert [x.name for x in state.parent.iterdir()] == [manifest.numbered(state.parent)[0].name]
        shutil.rmtree(output)
        if status == 0:
            break
    print(json.dumps(steps))


def _kill_before(operation: int, output: Path) -> None:
    """End this process as `kill -9` does, before a file operation below `output`."""
    seen = 0

    def count() -> None:
        nonlocal seen
        if seen == operation:
            os._exit(9)
        seen += 1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and any(
            str(output) in str(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))
        ):
            count()

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            count()
            return function(*arguments)

        return watched

    sys.addaudithook(hook)
    os.fsync = before(os.fsync)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
