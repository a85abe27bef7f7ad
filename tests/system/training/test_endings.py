"""However a run ends, it gives the reason in one sentence and can be resumed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from simplematch.training import TrainConfig, manifest, stop, train

from .runs import Run, Server
from .test_training import configuration, weights

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks for processes in /proc")


@pytest.fixture(scope="module")
def long(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make a configuration of a run that continues until it is stopped."""

    def make(output: Path, **changes: Any) -> TrainConfig:
        fields = {"epochs": 1000, "evaluate_every": 1000, "save_every": 1000, "log_every": 1, "workers": 1} | changes
        return configuration(photographs, output, **fields)

    return make


def step_of(output: Path) -> int:
    """The step of the newest state."""
    (newest, *_) = manifest.numbered(output / "state")
    manifest.check(newest)
    step: int = json.loads((newest / "position.json").read_text())["step"]
    return step


def assert_no_traceback(run: Run) -> None:
    assert "Traceback" not in run.said and "Error" not in run.said, run.said


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1"])
def test_a_signal_to_all_processes_leaves_a_state(name: str, server: Server, long: Any, tmp_path: Path) -> None:
    """The signal goes to the whole group, including data loader workers, as from `kill -- -GROUP` or a terminal."""
    number = signal.Signals[name]
    run = Run(server, long(tmp_path / "run")).until("step 2 of")
    run.send(number, group=True)
    assert run.status() == 128 + number
    assert_no_traceback(run)
    step = step_of(tmp_path / "run")
    assert step >= 2 and f"stopped, resume with --resume true: {step} steps" in run.said


def test_only_another_ctrl_c_breaks_into_a_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler sends SIGUSR1 and then SIGTERM while the run saves."""
    with stop.stop_on_signals() as request:
        signal.raise_signal(signal.SIGUSR1)
        monkeypatch.setattr(stop, "SECOND_REQUEST", 0.0)
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_lost_terminal_leaves_a_state(server: Server, long: Any, tmp_path: Path) -> None:
    """The run saves everything even if it can't print."""
    run = Run(server, long(tmp_path / "run"), terminal=True).until("step 2 of")
    server.ask(hang_up=run.number)
    assert run.status() == 128 + signal.SIGHUP
    assert step_of(tmp_path / "run") >= 2
    assert weights(tmp_path / "run")


def test_a_killed_reader_of_images_leaves_a_state(server: Server, long: Any, tmp_path: Path) -> None:
    """The system kills a worker when memory runs out."""
    run = Run(server, long(tmp_path / "run", workers=2)).until("step 2 of")
    (*_, reader) = run.children()
    os.kill(reader, signal.SIGKILL)
    assert run.status() == 2
    assert "Traceback" not in run.said
    assert re.search(
        r"^simplematch: a data loader worker \(process \d+\) was killed.*Resume to continue\.$", run.said, re.M
    )
    step = step_of(tmp_path / "run")
    resumed = Run(server, long(tmp_path / "run", max_steps=step + 1), "--resume", "true")
    assert resumed.status() == 0 and f"{step + 1} steps" in resumed.said


def test_killed_at_any_moment_it_resumes_bitwise(server: Server, photographs: Path, tmp_path: Path) -> None:
    """A run that is killed repeatedly ends with the weights of an uninterrupted run."""
    changes = {"epochs": 4, "evaluate_every": 2, "save_every": 1, "log_every": 1, "workers": 1}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the server's runs, because rounding depends on the number of threads
    train(configuration(photographs, tmp_path / "whole", **changes))
    torch.set_num_threads(threads)
    config, moments, kills = configuration(photographs, tmp_path / "killed", **changes), random.Random(0), 0
    while kills < 3:
        resume = manifest.numbered(tmp_path / "killed" / "state")
        run = Run(server, config, *(["--resume", "true"] if resume else [])).until(" of 12: losses")
        time.sleep(moments.uniform(0, 0.2))
        if run.ended:
            break
        run.send(signal.SIGKILL).status()
        kills += 1
    assert kills >= 2
    last = Run(server, config, "--resume", "true")
    assert last.status() == 0, last.said
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "killed").items():
        assert torch.equal(tensor, expected[name]), name
