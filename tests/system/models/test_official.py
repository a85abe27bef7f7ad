"""The authors' checkpoints with small widths: missing and unknown names, and wrong shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from simplematch.models import SimpleMatch, default_weights

from .tiny import pair, tiny_config, tiny_model


def official_state(model: SimpleMatch) -> dict[str, Tensor]:
    """Return a model's tensors under the authors' names, with the further tensors of their checkpoints."""
    vit = model.config.kind == "vit"
    root = "pair_image_encoder." + ("image_encoder." if vit else "backbone.")
    width = model.decoder.channels
    state = {root + "head.weight" if vit else root + "fc.weight": torch.zeros(10, width)}
    if vit:
        state |= {root + "norm.weight": torch.ones(width), "trans_conv2.weight": torch.zeros(width, width, 2, 2)}
    for name, x in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "encoder":
            plain = ".".join(parts[2:]).replace(".base_layer", "")
            new = root + plain.replace("lora_A.default.weight", "lora_A").replace("lora_B.default.weight", "lora_B")
        elif parts[0] == "matchers":
            new = f"proj{'' if vit else int(parts[1]) + 1}.{parts[3]}"
        elif parts[1] == "aligns":
            new = "pair_image_encoder." + ".".join(parts[1:])
        else:
            layer = {"transposed": "trans_conv", "refine": "conv_refine"}[parts[1]]
            new = ".".join([f"{layer}{int(parts[2]) + 1}", *parts[3:]])
        state[new] = x
    return state


@pytest.mark.parametrize("name", ["dinov2-b14-252", "ibot-b16-256", "resnet101-256"])
def test_round_trip_through_official_names(name: str) -> None:
    model = tiny_model(name).eval()
    torch.manual_seed(5)
    other = SimpleMatch(tiny_config(name)).eval()
    assert other.load_official_state_dict(official_state(model)) == ([], [])
    source, target, keypoints, counts = pair(model.image_size)
    with torch.no_grad():
        expected, actual = model(source, target, keypoints, counts), other(source, target, keypoints, counts)
    assert torch.equal(expected.keypoints, actual.keypoints)


def test_adapters_come_without_their_encoder() -> None:
    model = tiny_model("dinov2-b14-252")
    state = {key: x for key, x in official_state(model).items() if "lora" in key or "pair_image_encoder" not in key}
    assert model.load_official_state_dict(state) == ([], [])
    part = "pair_image_encoder.image_encoder.cls_token"
    missing, _ = model.load_official_state_dict(state | {part: official_state(model)[part]})
    assert "encoder.vit.pos_embed" in missing  # a present encoder must be complete


def test_missing_and_unexpected_names_are_returned() -> None:
    model = tiny_model("ibot-b16-256")
    state = official_state(model)
    del state["proj.bias"], state["pair_image_encoder.image_encoder.blocks.1.mlp.fc1.weight"]
    state |= {"extra.weight": torch.zeros(1), "pair_image_encoder.image_encoder.blocks.7.x": torch.zeros(1)}
    missing, unexpected = model.load_official_state_dict(state)
    assert sorted(missing) == ["encoder.vit.blocks.1.mlp.fc1.weight", "matchers.0.proj.bias"]
    assert sorted(unexpected) == ["extra.weight", "pair_image_encoder.image_encoder.blocks.7.x"]


def test_another_width_is_one_sentence() -> None:
    state = official_state(tiny_model("ibot-b16-256"))
    state["proj.weight"] = torch.zeros(8, 8)
    message = r"ckpt: 'matchers.0.proj.weight' must have shape \(24, 24\), got \(8, 8\)"
    with pytest.raises(ValueError, match=message):
        tiny_model("ibot-b16-256").load_official_state_dict(state, "ckpt")


def test_checkpoint_file_serves_as_weights(tmp_path: Path) -> None:
    model = tiny_model("ibot-b16-256")
    path = tmp_path / "best.pth"
    torch.save(official_state(model), path)
    loaded = SimpleMatch.from_config(tiny_config("ibot-b16-256"), weights=path)
    assert all(
        torch.equal(x, y) for x, y in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    torch.save({"conv_refine1.block1.0.bias": torch.zeros(24)}, path)
    with pytest.raises(ValueError, match=r"best.pth must be a checkpoint of this model, got \d+ names missing and 0"):
        SimpleMatch.from_config(tiny_config("ibot-b16-256"), weights=path)


def test_adapters_in_a_file_go_on_top_of_the_default_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("dinov2-b14-252")
    state = official_state(model)
    root = "pair_image_encoder.image_encoder."
    encoder = {key.removeprefix(root): x for key, x in state.items() if key.startswith(root) and "lora" not in key}
    monkeypatch.setattr(default_weights, "default_state_dict", lambda *_: (encoder, "hub"))
    path = tmp_path / "adapters.pth"
    torch.save({key: x for key, x in state.items() if not key.startswith(root) or "lora" in key}, path)
    loaded = SimpleMatch.from_config(tiny_config("dinov2-b14-252"), weights=path)
    assert all(
        torch.equal(x, y) for x, y in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
