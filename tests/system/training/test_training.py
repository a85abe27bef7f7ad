"""Training learns, resumes exactly, and stops on request."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from simplematch.configs import names
from simplematch.data.open import NEEDED
from simplematch.models import PRESETS
from simplematch.training import TrainConfig, TrainResult, checkpoint, train

from ..models.tiny import CHANGES


def configuration(photographs: Path, output: Path, **changes: Any) -> TrainConfig:
    fields = {
        "preset": "resnet101-256", "model": CHANGES["resnet101-256"], "pretrained": False, "dataset": "images",
        "root": photographs, "output": output, "epochs": 2, "batch_size": 2, "workers": 0, "learning_rate": 3e-3,
        "crop": 0.0, "rotate": 0.0, "photometric": 0.5,
    }  # fmt: skip
    return TrainConfig(**{**fields, **changes})


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "last" / "model.safetensors")


def test_resumes_bitwise(photographs: Path, tmp_path: Path) -> None:
    """A run stopped within the second epoch and resumed ends with the weights of an uninterrupted run."""
    whole = train(configuration(photographs, tmp_path / "whole"))
    first = train(configuration(photographs, tmp_path / "parts", max_steps=4))
    assert first.stopped and first.step == 4
    second = train(configuration(photographs, tmp_path / "parts"), resume=True)
    assert not second.stopped and second.step == whole.step == 6
    assert first.losses + second.losses == whole.losses
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "parts").items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_state(photographs: Path, tmp_path: Path, number: signal.Signals) -> None:
    class AtSecondStep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("step 2 of"):
                signal.raise_signal(number)

    logger = logging.getLogger("simplematch.training.monitor")
    handler, level = AtSecondStep(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        result = train(configuration(photographs, tmp_path, log_every=1))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert result.stopped and result.step == 2
    assert checkpoint.has_state(tmp_path) and (tmp_path / "last" / "model.safetensors").is_file()
    assert train(configuration(photographs, tmp_path), resume=True).step == 6


def test_accumulation_makes_fewer_steps(photographs: Path, tmp_path: Path) -> None:
    assert train(configuration(photographs, tmp_path, accumulation=3, epochs=1)).step == 1


def test_validates_and_keeps_the_best(photographs: Path, tmp_path: Path) -> None:
    config = configuration(photographs, tmp_path, card={"license": "apache-2.0"})
    result = train(config)
    assert 0 <= result.best_pck <= 1
    assert (tmp_path / "best" / "config.json").is_file()
    assert list((tmp_path / "log").glob("events.out.tfevents.*"))
    best, last = (ModelCard.load(tmp_path / name / "README.md") for name in ("best", "last"))
    for card in (best, last):
        assert '"learning_rate": 0.003' in card.content and str(photographs) not in card.content
        assert card.data.license == "apache-2.0" and f"`{photographs.name}` (layout `images`)" in card.content
        assert "6 pairs" in card.content and "Protocol: threshold image, space squash" in card.content
    pck = {x.metric_name: x.metric_value for x in best.data.eval_results or ()}
    assert pck["PCK@0.1"] == pytest.approx(result.best_pck, abs=1e-4) and set(pck) == {
        "PCK@0.05",
        "PCK@0.1",
        "PCK@0.15",
    }
    assert "after step 6" in last.content
    before = (tmp_path / "last/README.md").read_text()
    train(config, resume=True)  # has nothing left to do
    assert (tmp_path / "last/README.md").read_text() == before


def test_a_card_has_no_pck_without_a_validation(photographs: Path, tmp_path: Path) -> None:
    train(configuration(photographs, tmp_path, max_steps=1))
    card = ModelCard.load(tmp_path / "last/README.md")
    assert "after step 1" in card.content and "PCK" not in card.content and card.data.eval_results is None


def test_logs_the_mean_of_the_steps_since_the_last_entry(photographs: Path, tmp_path: Path) -> None:
    losses = train(configuration(photographs, tmp_path, log_every=3)).losses
    (folder,) = {path.parent for path in (tmp_path / "log").rglob("events.out.tfevents.*") if path.parent.name == "log"}
    log = EventAccumulator(str(folder)).Reload()
    logged = {event.step: event.value for event in log.Scalars("loss/all")}
    assert logged == pytest.approx({3: np.mean(losses[:3]), 6: np.mean(losses[3:])}, rel=1e-5)
    names = set(log.Tags()["scalars"])
    assert {"loss/scale 0", "loss/scale 2", "learning rate", "images a second", "peak memory, MiB"} <= names
    assert {"PCK@0.1, validation", "PCK@0.1/affine"} <= names
    assert log.Tags()["images"] == ["matches, validation"]


def test_skips_broken_images_and_counts_them(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    result: TrainResult = train(configuration(folder, tmp_path / "run", skip_broken=True))
    assert result.step == 6 and result.skipped > 0


def test_an_earlier_run_is_not_overwritten(photographs: Path, tmp_path: Path) -> None:
    train(configuration(photographs, tmp_path, max_steps=1))
    before = weights(tmp_path)
    with pytest.raises(ValueError, match=r"already has a run: resume it, or choose another folder"):
        train(configuration(photographs, tmp_path, max_steps=1))
    assert all(torch.equal(x, before[name]) for name, x in weights(tmp_path).items())


def test_resume_without_a_state(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no state to resume from"):
        train(configuration(photographs, tmp_path), resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int8"}, "precision must be one of 'fp32', 'bf16', 'fp16', 'auto', got 'int8'"),
        ({"batch_size": 0}, "batch_size must be a whole number above zero, got 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number, got 2.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above zero, got 0.0"),
        ({"learning_rate": "fast"}, "learning_rate must be a finite number, got 'fast'"),
        ({"clip": float("nan")}, "clip must be a finite number, or null, got nan"),
        ({"max_steps": "many"}, "max_steps must be a whole number, or null, got 'many'"),
        ({"pretrained": "no"}, "pretrained must be true or false, got 'no'"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"card": {"licence": "mit"}}, "card has the unknown field 'licence'"),
        ({"model": []}, r"model must be fields and values, got \[\]"),
    ],
)
def test_wrong_configuration(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configuration(tmp_path, tmp_path, **changes)


@pytest.mark.parametrize("name", names())
def test_every_recipe_is_a_run(name: str, tmp_path: Path) -> None:
    config = TrainConfig.from_recipe(name, tmp_path, tmp_path, seed=3)
    assert config.preset in PRESETS and config.dataset in NEEDED and config.seed == 3


def test_configuration_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("preset: resnet101-256\ndataset: spair\nroot: data\noutput: out\nlearning_rate: 3e-5\n")
    config = TrainConfig.from_yaml(path, batch_size=16)
    assert (config.learning_rate, config.batch_size, config.root) == (3e-5, 16, Path("data"))
    assert TrainConfig.from_dict(config.to_dict()) == config
    path.write_text("preset: resnet101-256\nlr: 1\n")
    with pytest.raises(ValueError, match=r"run\.yaml has the unknown field 'lr'"):
        TrainConfig.from_yaml(path)
    for old, new in (("exchange", "swap"), ("mirror", "hflip"), ("gamma_every", "lr_step_size")):
        path.write_text(f"preset: resnet101-256\n{old}: 1\n")
        with pytest.raises(ValueError, match=rf"run\.yaml must have the field '{new}', got its earlier name '{old}'"):
            TrainConfig.from_yaml(path)
