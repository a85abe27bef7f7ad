"""Two processes train like one with the joint batch, and measure the same PCK."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from simplematch.training import TrainResult, manifest, train
from simplematch.training.sharding import make_accelerator

from .runs import Server, free_port, run_together
from .test_training import configuration, weights

ROOT = Path(__file__).parents[3]


def torchrun(processes: int, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment that run a module on several processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port"]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}",
    }  # fmt: skip
    return [*command, str(free_port()), *arguments], environment


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


CHANGES = {"epochs": 2, "evaluate_every": 2, "learning_rate": 1e-3}
NOISE = re.compile(r"refine\..*(0\.bias|1\.running_mean)")
"""Batch norm cancels these biases: their gradients are rounding noise, which Adam turns into steps."""


@pytest.fixture(scope="module")
def alone(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """A run of one process with the joint batch."""
    output = tmp_path_factory.mktemp("alone") / "run"
    return output, train(configuration(photographs, output, batch_size=2, **CHANGES))


def pck_of(said: str) -> float:
    found = re.search(r"done: 6 steps, best PCK@0.1 ([\d.]+) %", said)
    assert found is not None, said
    return float(found[1])


def assert_equal_weights(found: Path, expected: Path) -> None:
    """Compare weights, whose differences are rounding errors: 1e-5 of their norm."""
    ours, theirs = weights(found), weights(expected)
    for name, tensor in ours.items():
        if not tensor.is_floating_point():
            assert torch.equal(tensor, theirs[name]), name
    kept = [name for name, tensor in ours.items() if tensor.is_floating_point() and not NOISE.search(name)]
    one, other = (torch.cat([state[name].double().ravel() for name in kept]) for state in (ours, theirs))
    assert (one - other).norm() <= 1e-5 * other.norm()


def test_two_processes_train_as_one(
    alone: tuple[Path, TrainResult], photographs: Path, server: Server, tmp_path: Path
) -> None:
    """Steps, losses and batch norm statistics are equal, and weights differ only by rounding."""
    output, result = alone
    parts = configuration(photographs, tmp_path / "two", batch_size=1, **CHANGES)
    found = run_together(server, parts)
    # Rounding of the weights may move a keypoint across the threshold.
    assert pck_of(found.said) == pytest.approx(100 * result.best_pck, abs=1.0)
    assert found.losses == pytest.approx(result.losses, rel=1e-5)
    assert found.threads == {"python"}  # those of the process groups have ended
    expected = weights(output)
    start = configuration(photographs, tmp_path / "none", max_steps=1, learning_rate=1e-12)
    train(start)
    untrained = weights(tmp_path / "none")
    for name, tensor in weights(tmp_path / "two").items():
        if NOISE.search(name):
            continue
        if not tensor.is_floating_point():
            assert torch.equal(tensor, expected[name]), name
            continue
        moved = (expected[name] - untrained[name]).norm()
        assert (tensor - expected[name]).norm() <= 2e-3 * moved + 1e-6 * expected[name].norm(), name


def test_sharded_processes_train_as_one_and_resume_anywhere(
    alone: tuple[Path, TrainResult], photographs: Path, server: Server, tmp_path: Path
) -> None:
    """A sharded run, stopped and resumed, has the losses and weights of one process, which can resume it as well."""
    output, result = alone
    sharded = configuration(photographs, tmp_path / "sharded", batch_size=1, sharded=True, **CHANGES)
    first = run_together(server, replace(sharded, max_steps=4))
    assert "weights and optimizer are sharded over 2 processes" in first.said
    assert "stopped, resume with --resume true: 4 steps" in first.said
    shutil.copytree(tmp_path / "sharded", tmp_path / "whole")
    second = run_together(server, sharded, "--resume", "true")
    assert first.losses + second.losses == pytest.approx(result.losses, rel=1e-5)
    assert pck_of(second.said) == pytest.approx(100 * result.best_pck, abs=1.0)
    assert_equal_weights(tmp_path / "sharded", output)

    whole = configuration(photographs, tmp_path / "whole", batch_size=2, **CHANGES)
    on_one = train(whole, resume=True, allow_changes=True)
    assert on_one.losses == pytest.approx(result.losses[4:], rel=1e-5)
    assert_equal_weights(tmp_path / "whole", output)


def test_a_whole_state_resumes_sharded(
    alone: tuple[Path, TrainResult], photographs: Path, server: Server, tmp_path: Path
) -> None:
    output, result = alone
    train(configuration(photographs, tmp_path / "run", batch_size=2, max_steps=4, **CHANGES))
    sharded = configuration(photographs, tmp_path / "run", batch_size=1, sharded=True, **CHANGES)
    found = run_together(server, sharded, "--resume", "true", "--allow-changes", "true")
    assert found.losses == pytest.approx(result.losses[4:], rel=1e-5)
    assert_equal_weights(tmp_path / "run", output)


def test_only_the_second_version_of_fsdp(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configuration(photographs, tmp_path)
    for name, value in {"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="fsdp_version of Accelerate must be 2, got 1"):
        make_accelerator(config)


def test_without_synchronised_batch_norm_they_differ(
    alone: tuple[Path, TrainResult], photographs: Path, server: Server, tmp_path: Path
) -> None:
    """Check that the tests above are strict enough to detect a difference."""
    apart = configuration(photographs, tmp_path / "two", batch_size=1, synchronise=False, **CHANGES)
    run_together(server, apart)
    expected, found = weights(alone[0]), weights(tmp_path / "two")
    statistics = [name for name in expected if name.endswith("running_var")]
    assert any((found[name] - expected[name]).norm() > 1e-2 * expected[name].norm() for name in statistics)
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "two", alone[0])
