"""Runs log to trackers of any kind, and a tracker that fails doesn't end them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker

from simplematch.training import train
from simplematch.training.monitor import PICTURE, trackers

from .test_training import configuration


class Recording(GeneralTracker):
    name = "recording"
    requires_logging_directory = False

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.failure, self.entries, self.ended = failure, list[tuple[int | None, dict[str, Any]]](), False

    @property
    def tracker(self) -> Recording:
        return self

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.entries.append((step, values))

    def finish(self) -> None:
        self.ended = True


class RecordingPictures(Recording):
    def log_images(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.log(values, step)


@pytest.mark.parametrize("kind", [Recording, RecordingPictures])
def test_a_tracker_without_a_writer(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Recording]
) -> None:
    tracker = kind()
    monkeypatch.setattr("simplematch.training.loop.trackers", lambda _: tracker)
    result = train(configuration(photographs, tmp_path, tracker="wandb", epochs=1, log_every=1))
    steps = {step: values for step, values in tracker.entries if "loss/all" in values}
    assert [steps[i + 1]["loss/all"] for i in range(3)] == pytest.approx(result.losses, rel=1e-5)
    assert any("PCK@0.1, validation" in values for _, values in tracker.entries)
    pictures = [values[PICTURE] for _, values in tracker.entries if PICTURE in values]
    assert [[x.ndim for x in found] for found in pictures] == ([[3]] if kind is RecordingPictures else [])
    assert tracker.ended and not (tmp_path / "log").exists()


def test_a_tracker_that_fails(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("simplematch.training.loop.trackers", lambda _: Recording(ConnectionError("no network")))
    assert train(configuration(photographs, tmp_path, tracker="wandb", epochs=1, log_every=1)).step == 3
    monkeypatch.setattr("simplematch.training.loop.trackers", lambda _: Recording(RuntimeError("no such run")))
    assert train(configuration(photographs, tmp_path / "b", tracker="trackio", max_steps=2, log_every=1)).step == 2
    warnings = [record.getMessage() for record in caplog.records if "the run continues" in record.getMessage()]
    assert warnings == [
        "tracker wandb fails, no network; the run continues",
        "tracker trackio fails, no such run; the run continues",
    ]


def test_no_tracker(photographs: Path, tmp_path: Path) -> None:
    assert train(configuration(photographs, tmp_path, tracker="none", max_steps=1, log_every=1)).step == 1
    assert not (tmp_path / "log").exists()


def test_missing_and_unknown_trackers(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="tracker must be one of 'tensorboard', 'wandb', 'trackio', 'none', got 'x'"):
        configuration(photographs, tmp_path, tracker="x")
    monkeypatch.setattr("simplematch.training.monitor.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs the package wandb: pip install 'simplematch-kernels\[track\]'"):
        trackers(configuration(photographs, tmp_path, tracker="wandb"))
