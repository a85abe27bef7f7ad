"""Low-rank adapters by type of layer, in encoders of several families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from simplematch.models import SimpleMatch, SimpleMatchConfig
from simplematch.models.adapters import add_lora
from simplematch.models.encoders import Encoder, PyramidEncoder, single_map_encoder

from .test_any_encoder import CONVNEXT, SWIN, VIT

PYRAMIDS: dict[str, dict[str, Any]] = {
    "convnextv2_atto": CONVNEXT,
    "swinv2_tiny_window8_256": SWIN,
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64)},
}


def _encoder(name: str) -> Encoder:
    torch.manual_seed(0)
    if name in PYRAMIDS:
        return PyramidEncoder(name, dict(PYRAMIDS[name]), image_size=64)
    return single_map_encoder(name, dict(VIT))


@pytest.mark.parametrize(
    ("name", "targets", "count"),
    [
        ("vit_small_patch14_dinov2", ("mlp",), 4),
        ("vit_small_patch14_dinov2", ("attn.qkv", "mlp.fc2"), 4),
        ("vit_small_patch16_dinov3", ("attention",), 4),
        ("eva02_tiny_patch14_224", ("attention",), 2),  # its qkv is never called
        ("swinv2_tiny_window8_256", ("attention",), 4),  # nor is this, and its networks of positions are no attention
        ("swinv2_tiny_window8_256", ("mlp",), 8),
        ("convnextv2_atto", ("mlp",), 8),
        ("convnextv2_atto", ("conv1x1",), 8),
        ("resnet18", ("conv1x1",), 4),
    ],
)
def test_every_adapter_has_an_effect(name: str, targets: tuple[str, ...], count: int) -> None:
    encoder = _encoder(name).eval()
    size = 56 if "patch14" in name else 64
    images = torch.randn(1, 3, size, size)
    before = _maps(encoder, images)
    add_lora(encoder, 2, 1, None, targets)
    torch.testing.assert_close(_maps(encoder, images), before)  # B starts at zero
    adapters = {key: x for key, x in encoder.named_parameters() if ".lora_B." in key}
    assert len(adapters) == count
    assert {key for key, x in encoder.named_parameters() if x.requires_grad and ".lora_B." in key} == set(adapters)
    for x in adapters.values():
        torch.nn.init.normal_(x, std=0.1)
    for x in encoder.parameters():  # layer scales start near zero
        if not x.requires_grad:
            x.data += 0.01
    _maps(encoder, images).square().sum().backward()
    assert all(x.grad is not None and x.grad.any() for x in adapters.values())


def _maps(encoder: Encoder, images: torch.Tensor) -> torch.Tensor:
    maps = encoder(images)
    return torch.cat([x.flatten() for x in (maps if isinstance(maps, list) else [maps])])


def test_only_chosen_blocks_have_adapters() -> None:
    encoder = _encoder("vit_small_patch16_dinov3")
    add_lora(encoder, 2, 1, [1], ("mlp",))
    assert all(".blocks.1." in key for key, x in encoder.named_parameters() if x.requires_grad)


def test_targets_that_match_nothing_name_what_the_encoder_has() -> None:
    message = r"lora_targets must name layers of 'resnet18', got \('mlp.fc2',\): it has 0 of type 'mlp', "
    with pytest.raises(ValueError, match=message + r".*4 of type 'conv1x1', .* names that end in downsample.0"):
        add_lora(_encoder("resnet18"), 2, 1, None)
    with pytest.raises(ValueError, match=r"lora_blocks must be null for 'resnet18', whose blocks aren't numbered, got"):
        add_lora(_encoder("resnet18"), 2, 1, [6], ("conv1x1",))
    with pytest.raises(ValueError, match=r"lora_targets must hold types of layers or ends of their names, got \(\)"):
        SimpleMatchConfig("resnet18", "pyramid", 64, width=8, lora_targets=())


def test_a_pyramid_with_adapters_is_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = SimpleMatchConfig(
        "convnextv2_atto", "pyramid", (64, 96), CONVNEXT, "lora", 2, 1, None, ("conv1x1",), width=8, resize="letterbox"
    )
    model = SimpleMatch(config)
    assert all((".lora_" in key) == x.requires_grad for key, x in model.encoder.named_parameters())
    model.save_pretrained(tmp_path)
    loaded = SimpleMatch.from_pretrained(tmp_path)
    assert loaded.config == config and loaded.image_size == (64, 96) and loaded.resize == "letterbox"
    for key, x in model.state_dict().items():
        assert torch.equal(x, loaded.state_dict()[key])
