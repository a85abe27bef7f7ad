"""Two processes train like one with the joint batch, and measure the same PCK."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from simplematch.training import manifest, train

from .test_training import configuration, weights

ROOT = Path(__file__).parents[3]


def torchrun(processes: int, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment that run a module on several processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port"]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}",
    }  # fmt: skip
    return [*command, str(port), *arguments], environment


def launch(processes: int, *arguments: str) -> str:
    """Run a module on several processes, and return their output."""
    command, environment = torchrun(processes, *arguments)
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_two_processes_stop_together_and_go_on(photographs: Path, tmp_path: Path) -> None:
    config = configuration(photographs, tmp_path / "out", batch_size=1, epochs=200, evaluate_every=200, log_every=1)
    (tmp_path / "run.json").write_text(json.dumps(config.to_dict()))
    command, environment = torchrun(2, "-m", "simplematch", "train", "--config", str(tmp_path / "run.json"))
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        printed = ""
        while "step 3 of" not in printed:
            line = run.stderr.readline()
            assert line, printed
            printed += line
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=120)
    (newest, *_) = manifest.numbered(tmp_path / "out/state")
    position = json.loads((newest / "position.json").read_text())
    assert 3 <= position["step"] < 600
    more = replace(config, max_steps=position["step"] + 1)
    (tmp_path / "run.json").write_text(json.dumps(more.to_dict()))
    printed = launch(2, "-m", "simplematch", "train", "--config", str(tmp_path / "run.json"), "--resume", "true")
    assert f"stopped, resume with --resume true: {position['step'] + 1} steps" in printed


def test_two_processes_train_as_one(photographs: Path, tmp_path: Path) -> None:
    """Steps and batch norm statistics are equal, and weights differ only by rounding."""
    changes = {"epochs": 2, "evaluate_every": 2, "learning_rate": 1e-3}
    whole = configuration(photographs, tmp_path / "one", batch_size=2, **changes)
    result = train(whole)
    parts = configuration(photographs, tmp_path / "two", batch_size=1, **changes)
    run = tmp_path / "run.json"
    run.write_text(json.dumps(parts.to_dict()))
    printed = launch(2, "-m", "simplematch", "train", "--config", str(run))
    found = re.search(r"done: (\d+) steps, best PCK@0.1 ([\d.]+) %", printed)
    assert found is not None and int(found[1]) == result.step
    # Rounding of the weights may move a keypoint across the threshold.
    assert float(found[2]) == pytest.approx(100 * result.best_pck, abs=1.0)
    expected = weights(tmp_path / "one")
    start = configuration(photographs, tmp_path / "none", max_steps=1, learning_rate=1e-12)
    train(start)
    untrained = weights(tmp_path / "none")
    for name, tensor in weights(tmp_path / "two").items():
        if re.search(r"refine\..*(0\.bias|1\.running_mean)", name):
            continue  # batch norm cancels that bias: its gradient is rounding noise, which Adam turns into steps
        if not tensor.is_floating_point():
            assert torch.equal(tensor, expected[name]), name
            continue
        moved = (expected[name] - untrained[name]).norm()
        assert (tensor - expected[name]).norm() <= 2e-3 * moved + 1e-6 * expected[name].norm(), name


def test_without_synchronised_batch_norm_they_differ(photographs: Path, tmp_path: Path) -> None:
    """Check that the test above is strict enough to detect a difference."""
    changes = {"epochs": 2, "evaluate_every": 2, "learning_rate": 1e-3}
    train(configuration(photographs, tmp_path / "one", batch_size=2, **changes))
    run = tmp_path / "run.json"
    apart = configuration(photographs, tmp_path / "two", batch_size=1, synchronise=False, **changes)
    run.write_text(json.dumps(apart.to_dict()))
    launch(2, "-m", "simplematch", "train", "--config", str(run))
    expected, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    statistics = [name for name in expected if name.endswith("running_var")]
    assert any((found[name] - expected[name]).norm() > 1e-2 * expected[name].norm() for name in statistics)
