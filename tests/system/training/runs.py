"""Runs the command line in separate processes, to test signals, kills and hang-ups."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simplematch.training import TrainConfig

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0


class Server:
    """See server.py."""

    def __init__(self) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "python"))), "OMP_NUM_THREADS": "1", "COLUMNS": "200",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **request: Any) -> dict[str, int]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(request)}\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


class Run:
    """`simplematch train` in a process group of its own."""

    def __init__(self, server: Server, config: TrainConfig, *arguments: str, rank: int = 0, **options: Any) -> None:
        self.server, self.output = server, config.output
        self.output.mkdir(parents=True, exist_ok=True)
        file = self.output.with_suffix(f".run{rank}.json")
        file.write_text(json.dumps(config.to_dict()))
        self.log = self.output.with_suffix(f".{rank}.log")
        self.start = self.log.stat().st_size if self.log.exists() else 0
        command = ["train", "--config", str(file), *arguments]
        self.number = server.ask(start=command, log=str(self.log), **options)["process"]

    @property
    def said(self) -> str:
        """The output so far."""
        text = self.log.read_bytes()[self.start :].decode(errors="replace") if self.log.exists() else ""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)  # remove terminal colours

    @property
    def ended(self) -> bool:
        """Return whether the process has ended."""
        return Path(f"/proc/{self.number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def until(self, text: str) -> Run:
        """Wait until the output matches."""
        end = time.monotonic() + PATIENCE
        while text not in self.said:
            assert time.monotonic() < end and not self.ended, self.said
            time.sleep(0.01)
        return self

    def send(self, number: signal.Signals, group: bool = False) -> Run:
        (os.killpg if group else os.kill)(self.number, number)
        return self

    def children(self) -> list[int]:
        """List its data loader workers."""
        path = Path(f"/proc/{self.number}/task/{self.number}/children")
        return [int(x) for x in path.read_text().split()]

    def status(self) -> int:
        """Wait until it ends, and return its exit status."""
        return self.server.ask(wait=self.number)["status"]


@dataclass
class Together:
    """The end of a run on two processes.

    Attributes:
        losses: for each step, the mean over the processes.
        said: the output of the main process.
        threads: names of the threads that training left.
    """

    losses: list[float]
    said: str
    threads: set[str]


def run_together(server: Server, config: TrainConfig, *arguments: str, **environment: str) -> Together:
    """Train on two processes of this machine, started as torchrun and srun do, and wait for their end."""
    runs, records = [], []
    for rank, own in enumerate(environments(**{"ACCELERATE_USE_CPU": "true", **environment})):
        records.append(config.output.with_suffix(f".record{rank}"))
        options = {"environment": own, "record": str(records[-1])}
        runs.append(Run(server, config, *arguments, rank=rank, **options))
    assert [run.status() for run in runs] == [0, 0], "\n".join(run.said for run in runs)
    found = [json.loads(record.read_text()) for record in records]
    losses = [sum(step) / 2 for step in zip(*(x["losses"] for x in found), strict=True)]
    return Together(losses, runs[0].said, {name for x in found for name in x["threads"]})


def environments(**shared: str) -> list[dict[str, str]]:
    """Return what torchrun and srun add to the environments of two processes."""
    shared |= {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    return [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def free_port() -> int:
    """Return a port that no program uses."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port: int = free.getsockname()[1]
    return port
