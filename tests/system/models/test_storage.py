"""save_pretrained and from_pretrained, and folders that don't hold a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from simplematch.models import SimpleMatch, SimpleMatchConfig

from .tiny import NAMES, pair, tiny_config, tiny_model


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    model = tiny_model(name).eval()
    model.save_pretrained(tmp_path / "saved")
    loaded = SimpleMatch.from_pretrained(tmp_path / "saved")
    assert loaded.config == model.config
    assert not loaded.training
    source, target, keypoints, counts = pair(model.image_size)
    with torch.no_grad():
        expected, actual = model(source, target, keypoints, counts), loaded(source, target, keypoints, counts)
    assert all(torch.equal(x, y) for x, y in zip(expected, actual, strict=True))
    assert sorted(x.name for x in (tmp_path / "saved").iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces(tmp_path: Path) -> None:
    model = tiny_model("ibot-b16-256")
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.matchers[0].proj.bias.fill_(3.0)
    model.save_pretrained(tmp_path)
    assert (SimpleMatch.from_pretrained(tmp_path).matchers[0].proj.bias == 3).all()


def _saved(folder: Path) -> Path:
    tiny_model("ibot-b16-256").save_pretrained(folder)
    return folder


def test_missing_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path must be a folder that save_pretrained wrote, .* no .*nowhere"):
        SimpleMatch.from_pretrained(tmp_path / "nowhere")
    for name in ("config.json", "model.safetensors"):
        folder = _saved(tmp_path / name)
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"there is no .*{name}/{name}"):
            SimpleMatch.from_pretrained(folder)


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    folder = _saved(tmp_path)
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"model.safetensors must be a safetensors file, got"):
        SimpleMatch.from_pretrained(folder)
    for text, message in (("{", "must hold json, got"), ("[]", "must hold an object, got list")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=rf"config.json {message}"):
            SimpleMatch.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": None}, r"config.json must have the field 'encoder', got "),
        ({"colour": 1}, r"config.json has the unknown field 'colour'; known are "),
        ({"matching": "slow"}, r"config.json: matching must be one of 'dense', .*, got 'slow'"),
        ({"windows": 45}, r"config.json: windows must be a list, got 45"),
        ({"windows": [45, 15]}, r"config.json: windows must have as many entries as levels, 1, got \(45, 15\)"),
        ({"windows": [0]}, r"config.json: windows must hold whole numbers above zero or None, got \(0,\)"),
        ({"levels": [3]}, r"config.json: levels must be some of 0, 1, 2 in rising order, got \(3,\)"),
        ({"image_size": "big"}, r"config.json: image_size must be a whole number above zero, got 'big'"),
        ({"temperature": 0}, r"config.json: temperature must be above zero, got 0"),
        ({"dropout": 1}, r"config.json: dropout must be at least 0 and below 1, got 1"),
        ({"mean": [0.5]}, r"config.json: mean must hold 3 numbers, got \(0.5,\)"),
        ({"width": 8}, r"config.json: width must be a number for kind \"pyramid\" and None for \"vit\", got 8"),
        ({"kind": "swin"}, r"config.json: kind must be one of 'vit', 'pyramid', got 'swin'"),
    ],
)
def test_wrong_fields_are_one_sentence(change: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = _saved(tmp_path)
    fields = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps({key: x for key, x in fields.items() if key != "encoder" or x}))
    with pytest.raises(ValueError, match=message):
        SimpleMatch.from_pretrained(folder)


def test_weights_of_another_model_are_one_sentence(tmp_path: Path) -> None:
    folder = _saved(tmp_path)
    state = load_file(folder / "model.safetensors")
    wider = tiny_config("ibot-b16-256", encoder_options={"img_size": 48, "embed_dim": 32, "depth": 2, "num_heads": 2})
    (folder / "config.json").write_text(json.dumps(wider.to_dict()))
    with pytest.raises(ValueError, match=r"model.safetensors has '.*' of shape .*24.*, but the model needs .*32"):
        SimpleMatch.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(tiny_config("ibot-b16-256").to_dict()))
    save_file(
        {key: x for key, x in state.items() if "proj.bias" not in key or "matchers" not in key},
        folder / "model.safetensors",
    )
    with pytest.raises(ValueError, match=r"model.safetensors must hold 'matchers.0.proj.bias' \(1 of"):
        SimpleMatch.from_pretrained(folder)


def test_configuration_survives_json() -> None:
    for name in NAMES:
        config = tiny_config(name)
        assert SimpleMatchConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_options_that_json_has_not_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"encoder_options must hold what json can, got \{'act_layer': <class"):
        tiny_config("ibot-b16-256", encoder_options={"act_layer": torch.nn.ReLU})
