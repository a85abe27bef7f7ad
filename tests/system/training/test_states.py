"""Training states: intact after a kill at any moment, verified before loading, and free of code."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from simplematch._files import DataError
from simplematch.training import TrainConfig, checkpoint, manifest, train
from simplematch.training.checkpoint import Position

from .test_training import configuration, weights


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped after its fourth step, with the states of steps 3 and 4."""
    output = tmp_path_factory.mktemp("run")
    train(configuration(photographs, output, max_steps=4))
    assert [json.loads((s / "position.json").read_text())["step"] for s in states(output)] == [4, 3]
    return output


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to damage."""
    subprocess.run(["cp", "-a", f"{run}/.", str(tmp_path / "copy")], check=True)
    return tmp_path / "copy"


def states(output: Path) -> list[Path]:
    return manifest.numbered(output / "state")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Evil:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.system, (f"touch {self.marker}",)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip_a_bit,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
}
FILES = ("model.safetensors", "optimizer.bin", "random-0.safetensors", "position.json", "config.yaml", "manifest.json")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_older_state_used(
    name: str,
    damage: str,
    photographs: Path,
    copy: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    DAMAGE[damage](states(copy)[0] / name)
    accelerator = Accelerator()
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_load", lambda *_: None)
        position = checkpoint.load_state(accelerator, configuration(photographs, copy))
    assert position.step == 3
    damaged = states(copy)[0] if name == "manifest.json" else states(copy)[0] / name  # it may name another file
    assert str(damaged) in caplog.text and "resuming from the older state" in caplog.text


def test_an_older_state_ends_with_the_same_weights(photographs: Path, copy: Path, tmp_path: Path) -> None:
    train(configuration(photographs, tmp_path / "whole"))
    flip_a_bit(states(copy)[0] / "optimizer.bin")
    assert train(configuration(photographs, copy), resume=True).step == 6
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(copy)[name]), name


def test_without_a_whole_state_nothing_is_changed(photographs: Path, copy: Path) -> None:
    for state in states(copy):
        flip_a_bit(state / "model.safetensors")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(DataError, match=r"model\.safetensors is damaged.*nothing was changed.*last.*best") as caught:
        train(configuration(photographs, copy), resume=True)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    "name", ["optimizer.bin", "random-0.safetensors", "model.safetensors", "custom_checkpoint_0.pkl"]
)
def test_no_file_of_a_state_runs_code(name: str, photographs: Path, copy: Path, tmp_path: Path) -> None:
    """Not even with a forged manifest."""
    marker = tmp_path / "marker"
    for state in states(copy):
        (state / name).write_bytes(pickle.dumps(Evil(marker)))
        files = json.loads((state / "manifest.json").read_text())["files"]
        with open(state / name, "rb") as file:
            files[name] = {"bytes": 0, "sha256": manifest._digest(file)}
        (state / "manifest.json").write_text(json.dumps({"files": files}))
    with pytest.raises(DataError, match="can't be loaded"):
        train(configuration(photographs, copy), resume=True)
    assert not marker.exists()


def test_a_file_that_was_put_there_later_is_refused(photographs: Path, copy: Path) -> None:
    for state in states(copy):
        (state / "custom_checkpoint_0.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"custom_checkpoint_0\.pkl is not in manifest\.json"):
        train(configuration(photographs, copy), resume=True)


GOOD = {"step": 3, "epoch": 1, "samples": 0, "best_pck": 0.5}


@pytest.mark.parametrize(
    "content",
    [
        {**GOOD, "step": "3"}, {**GOOD, "step": 3.0}, {**GOOD, "epoch": -1}, {**GOOD, "samples": True},
        {**GOOD, "step": [3]}, {**GOOD, "best_pck": 7}, {**GOOD, "best_pck": None}, {**GOOD, "more": 1}, {"step": 3},
        [], "text",
    ],
    ids=str,
)  # fmt: skip
def test_a_position_is_three_counts_and_a_pck(content: object, tmp_path: Path) -> None:
    path = tmp_path / "position.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"position\.json (must hold|holds)"):
        checkpoint.read_position(path)
    for text in ('{"step": NaN}', '{"step": 1e999}', '{"step": 1, "step": 2}', "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(DataError, match=r"position\.json can't be read as JSON"):
            checkpoint.read_position(path)
    path.write_text(json.dumps(GOOD))
    assert checkpoint.read_position(path) == Position(**GOOD)  # type: ignore[arg-type]


def test_a_state_without_the_numbers_of_a_process_says_so(
    copy: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    accelerator = Accelerator()
    (states(copy)[0] / "random-0.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        checkpoint._load(accelerator, states(copy)[0])
    assert "has no random numbers of process 0" in caplog.text


def test_a_killed_save_leaves_a_whole_state(tmp_path: Path) -> None:
    """Kill a save before each file operation in turn: the run resumes from the previous or the new state."""
    script = Path(__file__).with_name("crash_points.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 30 and set(found) == {1, 2}, found
    assert found == sorted(found)


class FullDisk:
    """While it is full, fsync fails."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full, self._fsync = False, os.fsync
        patch.setattr(os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fsync(descriptor)


def test_a_full_disk_leaves_the_state_before(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk, config = FullDisk(monkeypatch), configuration(photographs, tmp_path)
    accelerator = Accelerator()
    accelerator.prepare(torch.nn.Linear(2, 2))
    assert checkpoint.save_state(accelerator, config, Position(step=1))
    disk.full = True
    with caplog.at_level(logging.WARNING):
        assert not checkpoint.save_state(accelerator, config, Position(step=2))
    assert "the state of step 2 can't be saved" in caplog.text and "the state in 000001 is kept" in caplog.text
    assert [x.name for x in (tmp_path / "state").iterdir()] == ["000001"]
    assert checkpoint.load_state(accelerator, config).step == 1
    disk.full = False
    assert checkpoint.save_state(accelerator, config, Position(step=2))
    assert checkpoint.load_state(accelerator, config).step == 2


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16"}, {"dataset": "spair"}, {"learning_rate": 1e-5}, {"seed": 3, "batch_size": 1}],
    ids=str,
)
def test_other_settings_are_named(changes: dict[str, Any], photographs: Path, copy: Path) -> None:
    config = configuration(photographs, copy, **changes)
    accelerator = Accelerator()
    with pytest.raises(ValueError, match="; ".join(f"{k} was .* and is {v!r}" for k, v in sorted(changes.items()))):
        _load_settings(accelerator, config)
    assert _load_settings(accelerator, config, allow_changes=True) == 4


def test_an_earlier_name_of_a_setting_is_named(photographs: Path, copy: Path) -> None:
    for state in states(copy):
        path = state / "config.yaml"
        path.write_text(path.read_text().replace("lr_step_size:", "gamma_every:"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="'lr_step_size', got its earlier name"):
        patch.setattr(manifest, "check", lambda _: None)
        _load_settings(Accelerator(), configuration(photographs, copy))


def test_settings_that_decide_nothing_may_change(photographs: Path, copy: Path) -> None:
    changes = {"epochs": 7, "workers": 1, "log_every": 3, "save_every": 9, "max_steps": 5, "keep_states": 1}
    assert _load_settings(Accelerator(), configuration(photographs, copy, **changes)) == 4


def _load_settings(accelerator: Accelerator, config: TrainConfig, allow_changes: bool = False) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_load", lambda *_: None)
        return checkpoint.load_state(accelerator, config, allow_changes).step


def test_a_state_of_an_earlier_version_is_refused(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "position.json").write_text("{}")
    with pytest.raises(DataError, match=r"of an earlier version.*start another run"):
        train(configuration(photographs, tmp_path), resume=True)
    with pytest.raises(ValueError, match="already has a run"):
        train(configuration(photographs, tmp_path))


def test_two_runs_do_not_share_a_folder(photographs: Path, tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from simplematch.training.lock import locked\n"
    program += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"is in use by process {other.pid} on .*: wait until that run has ended"):
            train(configuration(photographs, tmp_path))
        other.kill()
    assert train(configuration(photographs, tmp_path, max_steps=1)).step == 1  # a killed run leaves no lock
