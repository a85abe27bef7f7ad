"""Invalid model folders; test_hub.py has the valid ones."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from simplematch.models import SimpleMatch, SimpleMatchConfig

from .tiny import NAMES, tiny_config, tiny_model


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


class _RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"", r"got an empty file"),
        (lambda whole: b"none", r"got a damaged one \("),
        (lambda whole: whole[: len(whole) // 2], r"got a damaged one \("),
        (lambda whole: whole[:100], r"got a damaged one \("),
        (lambda whole: b"\xff" * 8 + whole[8:], r"got a damaged one \("),
    ],
)
def test_damaged_weights_are_one_sentence(damage: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    path = _saved(tmp_path) / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=rf"model.safetensors must be a safetensors file, {message}.*: copy the folder"
    ):
        SimpleMatch.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_pickles_are_not_run(write: Callable[[object, Path], object], name: str, tmp_path: Path) -> None:
    folder = _saved(tmp_path / "saved")
    write({"x": _RunsCode(tmp_path / "ran")}, folder / name)
    with pytest.raises(ValueError, match=rf"{name} must .*, got a pickle of Python or PyTorch, which is never loaded"):
        SimpleMatch.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_folder_in_the_place_of_a_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    folder = _saved(tmp_path)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ValueError, match=rf"{name} must .*, got a folder: copy the folder again"):
        SimpleMatch.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold json, got an empty file"),
        (b"{", "must hold json, got "),
        (b'{"encoder": "vit', "must hold json, got "),
        (b"\xff\xfe\xfd", "must hold json, got "),
        (b'{"temperature": NaN}', "must hold json, got NaN is not a JSON number"),
        (b"[]", "must hold an object, got list"),
    ],
)
def test_damaged_configurations_are_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    (_saved(tmp_path) / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"config.json {message}.*: copy the folder again, or use another folder"):
        SimpleMatch.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "option",
    [
        {"pretrained": True},
        {"checkpoint_path": "weights.pth"},
        {"cache_dir": "."},
        {"pretrained_cfg": "tv2_in1k"},
        {"pretrained_cfg_overlay": {"file": "weights.pth"}},
        {"pretrained_strict": False},
        {"features_only": False},
        {"num_classes": 10},
        {"exportable": True},
    ],
)
def test_options_that_load_something_are_refused(
    option: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_model(*arguments: object, **options: object) -> None:
        raise AssertionError("timm was asked")

    monkeypatch.setattr("timm.create_model", no_model)
    (name,) = option
    fields = tiny_config("resnet101-256").to_dict()
    fields["encoder_options"] = {**fields["encoder_options"], **option}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"config.json: encoder_options must not have '{name}': only options"):
        SimpleMatch.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "encoder", ["hf-hub:timm/resnet50.a1_in1k", "hf_hub:a/b", "local-dir:/tmp", "resnet50.hf-hub:x"]
)
def test_encoders_on_a_hub_or_in_a_folder_are_refused(encoder: str, tmp_path: Path) -> None:
    fields = tiny_config("resnet101-256").to_dict() | {"encoder": encoder}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"encoder must be the name of a timm model, such as .*, got "):
        SimpleMatch.from_pretrained(tmp_path)


def test_options_that_timm_can_not_build_are_one_sentence() -> None:
    for options in ({"layers": 7}, {"act_layer": "none such"}, {"img_size": 64}):
        with pytest.raises(ValueError, match=r"encoder_options must be valid for timm's 'resnet101.tv_in1k'"):
            SimpleMatch(tiny_config("resnet101-256", encoder_options=options))
    with pytest.raises(ValueError, match=r"encoder_options must hold numbers, strings, .*, got 'layers': \{'a': 1\}"):
        tiny_config("resnet101-256", encoder_options={"layers": {"a": 1}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": None}, r"config.json must have the field 'encoder', got "),
        ({"colour": 1}, r"config.json has the unknown field 'colour'; known are "),
        ({"matching": "slow"}, r"config.json: matching must be one of 'dense', .*, got 'slow'"),
        ({"windows": 45}, r"config.json: windows must be a list, got 45"),
        ({"windows": [45, 15]}, r"config.json: windows must have as many entries as levels, 1, got \(45, 15\)"),
        ({"windows": [0]}, r"config.json: windows must hold whole numbers above zero or None, got \(0,\)"),
        ({"levels": [3]}, r"config.json: levels must be some of 0, 1, 2 in ascending order, got \(3,\)"),
        (
            {"image_size": "big"},
            r"config.json: image_size must be a whole number above zero, or a height .*, got 'big'",
        ),
        ({"temperature": 0}, r"config.json: temperature must be above zero, got 0"),
        ({"dropout": 1}, r"config.json: dropout must be at least 0 and below 1, got 1"),
        ({"mean": [0.5]}, r"config.json: mean must hold 3 numbers, got \(0.5,\)"),
        ({"kind": "pyramid"}, r"config.json: width must be a number for kind \"pyramid\", got None"),
        ({"encoder": 7}, r"config.json: encoder must be the name of a timm model, got 7"),
        ({"levels": [2.0]}, r"config.json: levels must be some of 0, 1, 2 in ascending order, got \(2.0,\)"),
        ({"joint_batch": "no"}, r"config.json: joint_batch must be true or false, got 'no'"),
        ({"std": [0, 1, 1]}, r"config.json: std must hold 3 numbers above zero, got \(0, 1, 1\)"),
        ({"mean": ["a", 0, 0]}, r"config.json: mean must hold 3 numbers, got \('a', 0, 0\)"),
        ({"lora_blocks": ["a"]}, r"config.json: lora_blocks must hold whole numbers, got \('a',\)"),
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
    with pytest.raises(ValueError, match=r"model.safetensors: '.*' must have shape .*32.*, got .*24"):
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
    with pytest.raises(ValueError, match=r"encoder_options must hold json values, got \{'act_layer': <class"):
        tiny_config("ibot-b16-256", encoder_options={"act_layer": torch.nn.ReLU})
