"""Runs that keep the features of a frozen encoder: they train like runs that encode in every step."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import signal
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from simplematch.models.encoders import ViTEncoder
from simplematch.models.identity import digest
from simplematch.training import TrainConfig, TrainResult, feature_store, train
from simplematch.training.feature_cache import CachedCopies, Filling
from simplematch.training.fetch import Failure, fetch
from simplematch.training.lock import LOCK, lock_after_waiting

from ..data.trees import make_spair
from ..models.tiny import CHANGES, tiny_model
from .test_training import configuration, weights

VIT: dict[str, Any] = {
    "preset": "dinov2-s14-252",
    "model": CHANGES["dinov2-s14-252"] | {"encoder_training": "frozen", "width": 8, "dropout": 0.0},
}
AUGMENTATION = {"crop": 0.5, "rotate": 0.5, "photometric": 1.0, "affine": 0.5, "hflip": 0.5}


def frozen(photographs: Path, output: Path, **changes: Any) -> TrainConfig:
    slow = {"epochs": 1, "learning_rate": 1e-5, "cache_copies": 2}  # too slow for rounding to grow
    return configuration(photographs, output, **{**VIT, **AUGMENTATION, **slow, **changes})


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each call of a ViT, without those that only show the shapes of its maps."""
    sizes: list[int] = []
    forward = ViTEncoder.forward

    def counting(self: ViTEncoder, images: torch.Tensor) -> torch.Tensor:
        if images.any():
            sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(ViTEncoder, "forward", counting)
    return sizes


def keys(cache: Path) -> set[str]:
    return {path.parent.name for path in cache.glob("*/settings.json")}


def test_losses_of_pairs_are_those_of_a_run_that_encodes(photographs: Path, tmp_path: Path) -> None:
    config = frozen(photographs, tmp_path / "plain")
    plain = train(config)
    cached = train(replace(config, output=tmp_path / "cached", cache=tmp_path / "cache"))
    assert cached.losses == pytest.approx(plain.losses, rel=1e-3)
    assert cached.best_pck == pytest.approx(plain.best_pck, abs=0.02)
    assert len(keys(tmp_path / "cache")) == 2  # training and validation


def test_losses_of_groups_are_those_of_a_run_that_encodes(tmp_path: Path, encoded: list[int]) -> None:
    """A second run of the same settings encodes nothing, neither for training nor for validation."""
    make_spair(tmp_path / "data")
    changes = {"dataset": "spair", "group_size": 3, "batch_size": 1, "epochs": 3, "evaluate_every": 3}
    config = frozen(tmp_path / "data", tmp_path / "plain", **changes)
    plain = train(config)
    encoded.clear()
    first = train(replace(config, output=tmp_path / "first", cache=tmp_path / "cache"))
    assert sum(encoded) == 3 * 2 + 3
    encoded.clear()
    second = train(replace(config, output=tmp_path / "second", cache=tmp_path / "cache"))
    assert not encoded and second.losses == first.losses
    assert first.losses == pytest.approx(plain.losses, rel=1e-3)
    assert torch.equal(*(weights(tmp_path / x)["matchers.0.proj.weight"] for x in ("first", "second")))


def test_other_settings_are_kept_apart_and_named(
    photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "simplematch")
    config = frozen(photographs, tmp_path / "a", cache=tmp_path / "cache", max_steps=1)
    train(config)
    first = keys(tmp_path / "cache")
    assert "8 images x 2 copies, 0.00 GB, of which 0.00 GB are there" in caplog.text
    assert "encoded 16 of 16" in caplog.text and "other settings" not in caplog.text
    caplog.clear()
    train(replace(config, output=tmp_path / "b", model=config.model | {"image_size": 84}))
    assert "also has features of other settings, which are kept apart: maps" in caplog.text
    assert "image_size 56 (here 84)" in caplog.text
    assert first < keys(tmp_path / "cache")
    caplog.clear()
    train(replace(config, output=tmp_path / "c", cache_copies=4))  # further copies of the same
    assert "encoded 16 of 16" in caplog.text and "other settings" not in caplog.text


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("when", ["before", "while writing"])
def test_a_full_disk_does_not_end_the_run(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    config = frozen(photographs, tmp_path / "plain", max_steps=2)
    plain = train(config)
    if when == "before":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 10, 0))
    else:
        write, calls = feature_store.write_bytes, []

        def fail_second(path: Path, content: bytes) -> None:
            calls.append(path)
            if len(calls) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, content)

        monkeypatch.setattr(feature_store, "write_bytes", fail_second)
        monkeypatch.setattr(feature_store, "FILE_BYTES", 1)
        monkeypatch.setattr("simplematch.training.feature_cache.BATCH", 1)
    found = train(replace(config, output=tmp_path / "full", cache=tmp_path / "cache"))
    assert found.losses == plain.losses
    reason = "it needs 0.00 GB and the disk has 0.00 GB free" if when == "before" else "no space left on device"
    assert f"can't be used, {reason}; the run goes on without it" in caplog.text
    assert not list((tmp_path / "cache").glob("*/*.features"))


def store_of(photographs: Path, cache: Path) -> tuple[CachedCopies, Any]:
    from simplematch.data import ImageCopies, PairTransform, open_dataset

    model = tiny_model("dinov2-s14-252", encoder_training="frozen")
    transform = PairTransform(model.image_size, hflip=0.5, affine=0.5)
    copies = ImageCopies(open_dataset("images", photographs, "trn"), transform, 4)
    return CachedCopies(cache, model, copies, "fp32", digest(model.encoder)), model


def how(**changes: Any) -> Filling:
    from contextlib import nullcontext

    return Filling(torch.device("cpu"), nullcontext, **changes)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(feature_store, "FILE_BYTES", 1)
    monkeypatch.setattr("simplematch.training.feature_cache.BATCH", 1)
    yield


def test_a_stopped_or_killed_filling_goes_on(
    photographs: Path, tmp_path: Path, small_files: None, encoded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    cached, model = store_of(photographs, tmp_path)
    cached.store.prepare(cached.total)
    total = cached.total
    assert not cached.fill(model, how(stopping=lambda: sum(encoded) == 3))
    assert len(cached.missing()) == total - 3
    (first, second, *_) = sorted(tmp_path.glob("*/*.features"))
    first.with_suffix(".json").unlink()  # killed between the two files
    second.write_bytes(second.read_bytes()[:-1])  # damaged
    os.utime(first, (0, 0))
    again, _ = store_of(photographs, tmp_path)
    assert f"{second} is damaged: its images are encoded again" in caplog.text
    again.store.prepare(again.total)
    assert not first.exists()
    encoded.clear()
    assert again.fill(model, how()) and sum(encoded) == total - 1
    for key, copy in again.every:
        row, affine = again.store.read(again.copies.name_of(key, copy))
        pixels, expected = again.copies.draw(key, copy)
        assert torch.equal(row, model.encode_images(pixels[None])[0]) and torch.equal(affine, expected)


def test_a_signal_while_encoding_leaves_a_state(photographs: Path, tmp_path: Path) -> None:
    class AtTheStart(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "images x" in record.getMessage():
                signal.raise_signal(signal.SIGTERM)

    logger, handler = logging.getLogger("simplematch.training.run_cache"), AtTheStart()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    config = frozen(photographs, tmp_path / "run", cache=tmp_path / "cache")
    try:
        result = train(config)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert result.stopped and result.step == 0 and result.signal == signal.SIGTERM
    assert train(config, resume=True).step == 3


def test_a_killed_worker_ends_the_run_and_keeps_the_cache(
    photographs: Path, tmp_path: Path, small_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[object] = []

    def fetch_two(found: Iterator[Any]) -> Any:
        batches.append(None)
        return fetch(found) if len(batches) < 3 else Failure(ChildProcessError("a data loader worker was killed."))

    monkeypatch.setattr("simplematch.training.feature_cache.fetch", fetch_two)
    with pytest.raises(ChildProcessError, match="worker was killed"):
        train(frozen(photographs, tmp_path / "run", cache=tmp_path / "cache"))
    assert len(list((tmp_path / "cache").glob("*/*.features"))) == 2


def test_processes_share_the_work(photographs: Path, tmp_path: Path, encoded: list[int]) -> None:
    parts = [store_of(photographs, tmp_path) for _ in range(2)]
    parts[0][0].store.prepare(parts[0][0].total)
    for rank, (cached, model) in enumerate(parts):
        assert cached.fill(model, how(rank=rank, world=2))
    assert sum(encoded) == parts[0][0].total
    parts[0][0].store.refresh()
    assert not parts[0][0].missing()


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with open(tmp_path / LOCK, "w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            file.write("process 7 on here")
            file.flush()
            time.sleep(30)
        os._exit(0)
    while not (tmp_path / LOCK).exists() or not (tmp_path / LOCK).read_text():
        time.sleep(0.01)
    told: list[str] = []
    with lock_after_waiting(tmp_path, lambda holder: bool(told.append(holder))) as has_lock:
        assert not has_lock and told == ["process 7 on here"]
    os.kill(child, 9)
    os.waitpid(child, 0)
    with lock_after_waiting(tmp_path, lambda holder: True) as has_lock:
        assert has_lock


def test_broken_images_are_left_out(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    config = frozen(folder, tmp_path / "run", cache=tmp_path / "cache", skip_broken=True)
    result: TrainResult = train(config)
    assert result.step == 3 and result.skipped > 0
    with pytest.raises(ValueError, match=r"1\.png can't be decoded"):
        train(replace(config, output=tmp_path / "strict", skip_broken=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": CHANGES["dinov2-s14-252"]}, "cache must be null unless the encoder is frozen .* got .*'lora'"),
        ({"cache_copies": -1}, "cache_copies must be 0 or a whole number above zero, got -1"),
        ({"cache_copies": 1}, "cache_copies must be at least 2 for hflip 0.5"),
    ],
)
def test_wrong_settings(photographs: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(frozen(photographs, tmp_path / "run", cache=tmp_path / "cache", **changes))


def test_default_copies(tmp_path: Path) -> None:
    config = frozen(tmp_path, tmp_path, cache=Path("auto"), cache_copies=0)
    assert config.cache_copies == 8 and config.cache is not None and config.cache.name == "features"
    assert TrainConfig.from_dict(config.to_dict()) == config
    plain = dict.fromkeys(AUGMENTATION, 0.0)
    assert frozen(tmp_path, tmp_path, cache=tmp_path, cache_copies=0, **plain).cache_copies == 1
    assert frozen(tmp_path, tmp_path, cache_copies=0).cache_copies == 0
