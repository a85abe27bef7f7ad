"""Encoders against timm's forward, and adapters against their formula."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from simplematch.models.adapters import add_lora
from simplematch.models.encoders import PyramidEncoder, ViTEncoder, resample_position

TINY = {"img_size": 48, "embed_dim": 24, "depth": 3, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_base_patch16_224", 48),
        ("vit_base_patch14_dinov2", 70),
        ("vit_base_patch14_reg4_dinov2", 70),  # registers, position embeddings without prefix
        ("vit_base_patch16_clip_224", 48),  # a norm before the blocks
        ("vit_base_patch16_siglip_256", 48),  # no class token
    ],
)
@pytest.mark.parametrize("final_norm", [False, True])
def test_tokens_are_those_of_timm_at_the_size_it_was_trained_for(name: str, size: int, final_norm: bool) -> None:
    torch.manual_seed(0)
    encoder = ViTEncoder(name, TINY | {"img_size": size}, final_norm=final_norm).eval()
    images = torch.randn(2, 3, size, size)
    (expected,) = encoder.vit.forward_intermediates(images, indices=1, norm=final_norm, intermediates_only=True)
    tokens = encoder(images)
    assert tokens.shape == (2, 24, *expected.shape[2:])
    torch.testing.assert_close(tokens, expected)


def test_an_inner_block_is_the_last_to_run() -> None:
    torch.manual_seed(0)
    whole = ViTEncoder("vit_base_patch16_224", TINY).eval()
    part = ViTEncoder("vit_base_patch16_224", TINY, block=1).eval()
    part.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(1, 3, 48, 48)
    expected = whole.vit.forward_intermediates(images, indices=[1], norm=False, intermediates_only=True)[0]
    torch.testing.assert_close(part(images), expected)
    with pytest.raises(ValueError, match=r"block must be 0 to 2 for 'vit_base_patch16_224', got 3"):
        ViTEncoder("vit_base_patch16_224", TINY, block=3)


@pytest.mark.parametrize(("grid", "size"), [((14, 14), (16, 16)), ((37, 37), (18, 18)), ((4, 5), (7, 3))])
def test_position_embeddings_are_sampled_at_a_scale_of_a_tenth_more(
    grid: tuple[int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    cells = torch.randn(1, 3, *grid)
    position = torch.cat((torch.randn(1, 2, 3), cells.flatten(2).transpose(1, 2)), 1)
    resampled = resample_position(position, grid, size, prefix=2)
    assert torch.equal(resampled[:, :2], position[:, :2])
    actual = resampled[:, 2:].transpose(1, 2).unflatten(2, size)
    # Cell i is read at (i + 1/2) n0 / (n + 0.1) - 1/2: Keys' cubic convolution with a = -3/4, edges repeated.
    y = (torch.arange(size[0]) + 0.5) * grid[0] / (size[0] + 0.1) - 0.5
    x = (torch.arange(size[1]) + 0.5) * grid[1] / (size[1] + 0.1) - 0.5
    expected = torch.einsum("ya,bcad,xd->bcyx", _cubic(y, grid[0]), cells, _cubic(x, grid[1]))
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)


def _cubic(at: torch.Tensor, cells: int) -> torch.Tensor:
    """Weights (n, cells) of bicubic interpolation at points."""
    weights = torch.zeros(len(at), cells)
    for row, point in enumerate(at.tolist()):
        first = int(point // 1) - 1
        for cell in range(first, first + 4):
            d, a = abs(point - cell), -0.75
            w = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            weights[row, min(max(cell, 0), cells - 1)] += w
    return weights


def test_position_embeddings_at_their_own_size_are_untouched() -> None:
    position = torch.randn(1, 17, 3)
    assert resample_position(position, (4, 4), (4, 4), 1) is position


def test_adapter_adds_its_product_scaled() -> None:
    torch.manual_seed(0)
    encoder = ViTEncoder("vit_base_patch16_224", TINY)
    plain = encoder.vit.blocks[2].mlp.fc2
    add_lora(encoder, rank=4, alpha=1, blocks=[2])
    adapted = encoder.vit.blocks[2].mlp.fc2
    a, b = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    x = torch.randn(3, 96)
    torch.testing.assert_close(adapted(x), F.linear(x, plain.weight, plain.bias))  # B starts at zero
    torch.nn.init.normal_(b)
    torch.testing.assert_close(adapted(x), F.linear(x, plain.weight, plain.bias) + x @ a.T @ b.T / 4)
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {f"vit.blocks.2.mlp.fc2.lora_{x}.default.weight" for x in "AB"}


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "efficientnet_lite0"])
def test_pyramids_have_four_strides(name: str) -> None:
    encoder = PyramidEncoder(name).eval()
    with torch.no_grad():
        maps = encoder(torch.randn(1, 3, 64, 64))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (c, s, s) for c, s in zip(encoder.channels, (16, 8, 4, 2), strict=True)
    ]


def test_models_of_the_wrong_kind_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"encoder must be a VisionTransformer of timm .*, got 'resnet18'"):
        ViTEncoder("resnet18", {"dynamic_img_size": None})
    with pytest.raises(ValueError, match=r"must have strides 4, 8, 16 and 32 .*, got 'vit_tiny_patch16_224'"):
        PyramidEncoder("vit_tiny_patch16_224")


def test_adapters_without_their_package_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'encoder_training "lora" needs the package peft: pip install peft, or the'):
        add_lora(ViTEncoder("vit_base_patch16_224", TINY), rank=4, alpha=1, blocks=[2])
