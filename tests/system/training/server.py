"""Starts runs of the command line quickly: it has all modules loaded, and forks for each run.

It reads a JSON object a line, and answers each with one:

{"start": [arguments], "log": file}                    a run in a process group of its own; {"process": number}
{"start": [arguments], "log": file, "terminal": true}  the same on a terminal
{"start": [arguments], "log": file, "environment": {}, "record": file}   one of several processes; the file receives the
                                                       losses of its steps, and its threads when training has ended
{"start": [arguments], "log": file, "folder": folder}  in that folder
{"hang_up": number}                                    close its terminal
{"wait": number}                                       {"status": the exit status, negative for a signal}
"""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from simplematch import training
from simplematch.cli import main
from simplematch.training import TrainResult

terminals: dict[int, tuple[int, int]] = {}  # of each run: the terminal's other end, and the process that copies it


def start(arguments: list[str], log: str, terminal: bool = False, **options: Any) -> dict[str, int]:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    process, master = pty.fork() if terminal else (os.fork(), -1)
    if process == 0:
        for other, _ in terminals.values():
            os.close(other)
        if not terminal:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
        run(arguments, **options)
    if terminal:
        terminals[process] = master, copy(master, output)
    os.close(output)
    return {"process": process}


def run(
    arguments: list[str],
    file_size: int | None = None,
    environment: dict[str, str] | None = None,
    record: str | None = None,
    folder: str | None = None,
) -> None:
    """Run the command, in a folder if given, and end the process normally."""
    torch.set_num_threads(1)
    if folder is not None:
        os.chdir(folder)
    os.environ.update(environment or {})
    if record is not None:
        training.train = recording(training.train, Path(record))
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
    main(arguments)
    sys.exit(0)


def recording(train: Callable[..., TrainResult], path: Path) -> Callable[..., TrainResult]:
    """Wrap training to write the losses of its steps, and the names of the threads that it leaves."""

    def recorded(*arguments: Any, **options: Any) -> TrainResult:
        result = train(*arguments, **options)
        threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
        path.write_text(json.dumps({"losses": result.losses, "threads": threads}))
        return result

    return recorded


def copy(master: int, output: int) -> int:
    """Start a process that copies a terminal's output to a file."""
    process = os.fork()
    if process == 0:
        try:
            while True:
                os.write(output, os.read(master, 65536))
        finally:
            os._exit(0)
    return process


def hang_up(process: int) -> dict[str, int]:
    master, copier = terminals.pop(process)
    os.kill(copier, signal.SIGKILL)
    os.waitpid(copier, 0)
    os.close(master)
    return {}


def answer(request: dict[str, Any]) -> dict[str, int]:
    if "hang_up" in request:
        return hang_up(request["hang_up"])
    if "wait" in request:
        return {"status": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
    return start(request.pop("start"), **request)


if __name__ == "__main__":
    while line := sys.stdin.readline():
        print(json.dumps(answer(json.loads(line))), flush=True)
