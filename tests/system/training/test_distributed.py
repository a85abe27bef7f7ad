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
from accelerate.commands.config.config_args import load_config_from_file

from simplematch.data import open_dataset
from simplematch.evaluation import evaluate
from simplematch.models import load_model
from simplematch.training import TrainConfig, TrainResult, manifest, train
from simplematch.training.sharding import make_accelerator

from ..data.trees import make_spair
from .runs import Server, environments, free_port, run_together
from .test_training import configuration, weights

ROOT = Path(__file__).parents[3]


def torchrun(processes: int, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment that run a module on several processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port"]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}",
    }  # fmt: skip
    return [*command, str(free_port()), *arguments], environment


def test_two_processes_stop_together_and_go_on(photographs: Path, server: Server, tmp_path: Path) -> None:
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
    said = run_together(server, more, "--resume", "true").said
    assert f"stopped, resume with --resume true: {position['step'] + 1} steps" in said


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
    parts = configuration(photographs, tmp_path / "run", batch_size=1, **CHANGES)
    launched = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # as by accelerate launch
    found = run_together(server, parts, "--resume", "true", "--allow-changes", "true", **launched)
    assert "weights and optimizer are sharded over 2 processes" in found.said
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


PAGE = (ROOT / "docs/distributed.md").read_text()


def blocks(language: str) -> list[str]:
    """List the blocks of a language in docs/distributed.md."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_commands_of_the_page(server: Server, tmp_path: Path) -> None:
    """The commands for CPUs run on two processes, with torchrun's environment, and the numbers are those of one."""
    make_spair(tmp_path / "Landmarks-SPair")
    (tmp_path / "cpu.yaml").write_text(blocks("yaml")[0])
    (commands,) = blocks("bash")
    for line in commands.splitlines():
        found = re.fullmatch(r"((?:\w+=\S+ )+)torchrun --nproc-per-node 2 -m simplematch (.+)", line)
        assert found is not None, line
        given = dict(setting.split("=") for setting in found[1].split())
        logs = [tmp_path / f"{rank}.log" for rank in range(2)]
        processes = [
            server.ask(start=found[2].split(), log=str(log), environment=own, folder=str(tmp_path))["process"]
            for log, own in zip(logs, environments(**given), strict=True)
        ]
        assert [server.ask(wait=x)["status"] for x in processes] == [0, 0], logs[0].read_text() + logs[1].read_text()
    assert [log.read_text().count("mean of categories") for log in logs] == [1, 0]  # only the first process prints
    both = json.loads((tmp_path / "result.json").read_text())["results"][0]
    alone = evaluate(load_model(tmp_path / "run/last"), open_dataset("spair", tmp_path / "Landmarks-SPair")).results[0]
    assert both["overall"]["pairs"] == 3 and both["headline"] == pytest.approx(alone.headline, abs=1e-12)


def test_other_blocks_of_the_page(tmp_path: Path) -> None:
    """Accelerate knows the fields of its configuration, and bash the syntax of the job."""
    (tmp_path / "fsdp2.yaml").write_text(blocks("yaml")[1])
    chosen = load_config_from_file(str(tmp_path / "fsdp2.yaml"))
    assert chosen.distributed_type == "FSDP" and chosen.fsdp_config["fsdp_version"] == 2
    (job,) = blocks("sh")
    assert subprocess.run(["bash", "-n"], input=job, text=True).returncode == 0
    recipes = {recipe: TrainConfig.from_recipe(recipe, ".", ".") for recipe in re.findall(r"--recipe (\S+)", PAGE)}
    assert recipes
