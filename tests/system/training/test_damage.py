"""Broken images and non-finite losses don't lose finished work."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from simplematch._files import DataError
from simplematch.data import open_dataset
from simplematch.models import SimpleMatch
from simplematch.training import checkpoint, loop, manifest, train
from simplematch.training.finite import DivergedError, LossWatch, all_finite
from simplematch.training.losses import PairLosses

from .test_training import configuration


@pytest.fixture
def copied(photographs: Path, tmp_path: Path) -> Path:
    """Copy the images, to damage them."""
    return Path(shutil.copytree(photographs, tmp_path / "photographs"))


def cut(path: Path) -> None:
    """Leave the first half of an image, with its header."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def validate_on(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make runs use a separate folder for validation pairs."""
    patch.setattr(loop, "open_dataset", lambda name, _, *rest, **options: open_dataset(name, folder, *rest, **options))


def step_of(output: Path) -> int:
    """Return the step of the newest state, which must be intact."""
    (newest, *_) = manifest.numbered(output / "state")
    manifest.check(newest)
    return checkpoint.read_position(newest / "position.json").step


def weights_are_finite(output: Path) -> bool:
    """In all states."""
    return all(all_finite(load_file(x / "model.safetensors").values()) for x in manifest.numbered(output / "state"))


class ValidatedError(Exception):
    """Raised by the first validation."""


def no_validation(*_: object, **__: object) -> None:
    raise ValidatedError


def test_a_run_saves_before_it_validates(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends during a validation resumes with that validation."""
    whole = train(configuration(photographs, tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(ValidatedError):
        patch.setattr(loop, "evaluate", no_validation)
        train(configuration(photographs, tmp_path / "parts"))
    assert step_of(tmp_path / "parts") == 3
    second = train(configuration(photographs, tmp_path / "parts"), resume=True)
    assert second.step == whole.step and second.best_pck == whole.best_pck
    for name in ("last", "best"):
        expected = SimpleMatch.from_pretrained(tmp_path / "whole" / name).state_dict()
        for key, tensor in SimpleMatch.from_pretrained(tmp_path / "parts" / name).state_dict().items():
            assert torch.equal(tensor, expected[key]), (name, key)


def test_a_broken_validation_image_is_left_out_by_name(
    photographs: Path, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cut(copied / "1.png")
    open_dataset = loop.open_dataset
    monkeypatch.setattr(
        loop, "open_dataset", lambda name, _, *rest, **options: open_dataset(name, copied, *rest, **options)
    )
    result = train(configuration(photographs, tmp_path / "run"))
    assert not result.stopped and result.step == 6 and result.best_pck >= 0
    (warning,) = {x.getMessage() for x in caplog.records if "skipped" in x.getMessage()}
    assert (
        warning.startswith("skipped 3 of 6 pairs; the first reason: ")
        and f"image {copied / '1.png'} can't be decoded" in warning
    )


def test_with_all_validation_images_broken_the_state_stays(
    photographs: Path, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in copied.iterdir():
        cut(path)
    open_dataset = loop.open_dataset
    with monkeypatch.context() as patch:
        patch.setattr(
            loop, "open_dataset", lambda name, _, *rest, **options: open_dataset(name, copied, *rest, **options)
        )
        with pytest.raises(
            DataError, match=r"^no validation pair can be read; the first reason: .*0\.png can't be decoded"
        ):
            train(configuration(photographs, tmp_path / "run"))
    assert step_of(tmp_path / "run") == 3
    assert train(configuration(photographs, tmp_path / "run"), resume=True).step == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_training_image_is_named_once_all_is_saved(copied: Path, tmp_path: Path, workers: int) -> None:
    """An image breaks after the second step; with skip_broken the resumed run finishes."""
    config = configuration(copied, tmp_path / "run", workers=workers, log_every=1, max_steps=2)
    train(config)
    whole = (copied / "1.png").read_bytes()
    cut(copied / "1.png")
    with pytest.raises(DataError, match=r"1\.png can't be decoded") as caught:
        train(configuration(copied, tmp_path / "run", workers=workers), resume=True)
    assert "\n" not in str(caught.value) and "skip_broken: true" in str(caught.value)
    assert step_of(tmp_path / "run") >= 2
    result = train(configuration(copied, tmp_path / "run", workers=workers, skip_broken=True), resume=True)
    assert result.step == 6 and result.skipped > 0
    (copied / "1.png").write_bytes(whole)


def spoil(patch: pytest.MonkeyPatch, value: float, steps: Sequence[int]) -> None:
    """Multiply the losses of some steps, counted from 1, by a value."""
    numbers, forward = itertools.count(1), PairLosses.forward

    def spoiled(module: PairLosses, *inputs: Tensor) -> list[Tensor]:
        losses = forward(module, *inputs)
        return [loss * value for loss in losses] if next(numbers) in steps else losses

    patch.setattr(PairLosses, "forward", spoiled)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_losses_that_are_no_numbers_end_a_run(
    value: float, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, value, range(5, 100))
    config = configuration(photographs, tmp_path, epochs=9, save_every=1)
    with pytest.raises(DivergedError, match=r"^the loss of step 5, .*, is nan, with .*\.png.*learning_rate"):
        train(config)
    assert step_of(tmp_path) >= 4 and weights_are_finite(tmp_path)


def test_one_loss_that_is_no_number_ends_nothing(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(monkeypatch, torch.nan, [2, 3, 5])
    assert train(configuration(photographs, tmp_path)).step == 6
    found = [x.getMessage() for x in caplog.records if x.name.endswith("finite")]
    assert [text.split(",")[0] for text in found] == [f"the loss of step {step}" for step in (2, 3, 5)]
    assert weights_are_finite(tmp_path)


@pytest.mark.parametrize("save_every", [1, 100])
def test_weights_that_are_no_numbers_are_not_saved(
    save_every: int, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a state nor a model is saved, and the message names no loss."""
    step, calls = torch.optim.Adam.step, itertools.count(1)

    def spoiled(optimizer: torch.optim.Adam, closure: None = None) -> None:
        step(optimizer, closure)
        if next(calls) == 3:
            optimizer.param_groups[0]["params"][0].data.view(-1)[0] = torch.inf

    monkeypatch.setattr(torch.optim.Adam, "step", spoiled)
    kept = "the states in .* are from earlier steps" if save_every == 1 else "nothing is saved yet"
    with pytest.raises(DivergedError, match=rf"^the weights after step 3 are NaN or infinite; {kept}\. Use a smaller"):
        train(configuration(photographs, tmp_path, save_every=save_every))
    assert not (tmp_path / "best").exists() and not (tmp_path / "last").exists()
    assert weights_are_finite(tmp_path) and len(manifest.numbered(tmp_path / "state")) == (2 if save_every == 1 else 0)


def test_a_loss_is_read_some_steps_late_and_counted_in_a_row() -> None:
    watch = LossWatch()
    for step, value in enumerate([1.0, torch.nan, 2.0, torch.inf, torch.nan, torch.nan], start=1):
        assert not watch.diverged
        watch.add(step, torch.tensor(value), [f"{step}.png"])
    watch.drain()
    assert watch.diverged and watch.first == "the loss of step 4, or its gradient, is inf, with the images 4.png"
