"""Encoders of many families of timm, made narrow and shallow, at a square and at another size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from simplematch.models import NearestNeighbour, SimpleMatch, SimpleMatchConfig
from simplematch.models.encoders import MapEncoder, PyramidEncoder, ViTEncoder
from simplematch.models.nearest import NearestConfig
from simplematch.models.weights import load_encoder
from simplematch.sizes import ImageSize, height_width

import timm  # isort: skip  (after simplematch, which imports torchvision)

VIT: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
HIERA: dict[str, Any] = {"embed_dim": 16, "stages": (1, 1, 1, 1), "num_heads": 1}
CONVNEXT: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)}
ENCODERS: dict[str, dict[str, Any]] = {
    "vit_small_patch14_reg4_dinov2": VIT,
    "vit_small_patch16_dinov3": VIT,
    "eva02_tiny_patch14_224": VIT,
    "vit_base_patch16_siglip_gap_256": VIT,  # SigLIP 2 too
    "samvit_base_patch16": VIT | {"global_attn_indexes": (1,)},
    "vit_base_patch16_radio_v3": VIT,
    "vit_pe_spatial_tiny_patch16_512": VIT,
    "beit_base_patch16_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "aimv2_large_patch14_224": VIT,
    "naflexvit_base_patch16_gap": VIT,
    "swin_tiny_patch4_window7_224": SWIN,
    "swinv2_tiny_window8_256": SWIN,
    "hiera_tiny_224": HIERA,
    "sam2_hiera_tiny": HIERA,
    "convnextv2_atto": CONVNEXT,
    "mambaout_femto": CONVNEXT,
    "mobilenetv4_conv_small_035": {},
    "efficientnet_lite0": {},
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1)},
    "levit_128s": {},  # strides 16, 32, 64
}


def _sizes(name: str) -> tuple[ImageSize, ImageSize]:
    return (56, (56, 84)) if "patch14" in name else (64, (64, 96))


def _with_noise(model: torch.nn.Module) -> None:
    """Replace zeros, which would stop gradients."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)


@pytest.mark.parametrize("name", ENCODERS)
def test_trained_model(name: str) -> None:
    for image_size in _sizes(name):
        torch.manual_seed(0)
        pyramid = ENCODERS[name] in (SWIN, HIERA, CONVNEXT) or name.startswith(("mobile", "eff", "res", "pvt"))
        kind: dict[str, Any] = {"kind": "pyramid", "width": 8} if pyramid else {"kind": "vit"}
        model = SimpleMatch(
            SimpleMatchConfig(name, image_size=image_size, encoder_options=ENCODERS[name], **kind)  # type: ignore[arg-type]
        )
        _with_noise(model)
        height, width = height_width(image_size)
        images = torch.randn(2, 2, 3, height, width)
        _check_maps(model.encoder, images[0])
        keypoints = torch.rand(2, 4, 2) * torch.tensor([width, height])
        (*_, found) = model(images[0], images[1], keypoints)
        found.keypoints.square().sum().backward()
        assert found.keypoints.isfinite().all()
        assert (found.keypoints <= torch.tensor([width, height])).all()
        trained = [x.grad is not None and bool(x.grad.any()) for x in model.encoder.parameters()]
        assert trained[0] and sum(trained) > 0.8 * len(trained)


def _check_maps(encoder: ViTEncoder | MapEncoder | PyramidEncoder, images: Tensor) -> None:
    """Check the shapes of all maps, and that a ViT's map holds the tokens of patches only, in their order."""
    tokens: list[Tensor] = []
    blocks = getattr(encoder.network, "blocks", None)
    hook = None if blocks is None else blocks[-1].register_forward_hook(lambda *x: tokens.append(x[2]))
    maps = encoder.eval()(images)
    encoder.train()
    if hook is not None:
        hook.remove()
    height, width = images.shape[-2:]
    if isinstance(encoder, PyramidEncoder):
        assert [tuple(x.shape[1:]) for x in maps] == [
            (c, height // s, width // s) for c, s in zip(encoder.channels, (4, 8, 16, 32), strict=True)
        ]
        return
    stride = encoder.stride[0]
    assert maps.shape == (len(images), encoder.channels, height // stride, width // stride) and maps.isfinite().all()
    prefix = getattr(encoder.network, "num_prefix_tokens", 0)
    if tokens and tokens[0].dim() == 3:
        assert tokens[0].shape[1] == prefix + maps.shape[2] * maps.shape[3]
        torch.testing.assert_close(maps.flatten(2).transpose(1, 2), tokens[0][:, prefix:])


@pytest.mark.parametrize("name", ENCODERS)
def test_untrained_matcher(name: str) -> None:
    for image_size in _sizes(name):
        torch.manual_seed(0)
        model = NearestNeighbour(NearestConfig(name, None, image_size, encoder_options=ENCODERS[name]))
        height, width = height_width(image_size)
        images = torch.rand(2, 3, height, width) - 0.5
        stride = model._stride
        centres = torch.tensor([[stride * (i + 0.5), stride * (j + 0.5)] for i in (0, 2) for j in (1, 2)])
        rows = model.encode(images)
        found = model.match_features(rows, rows, centres.expand(2, -1, -1))
        assert (found.keypoints - centres).abs().max() < stride and found.score.min() > 0.9


def test_the_default_block_of_a_vit_is_at_three_quarters() -> None:
    options = {"embed_dim": 16, "depth": 8, "num_heads": 2}
    for name in ("vit_small_patch14_dinov2", "vit_small_patch16_dinov3"):
        model = NearestNeighbour(NearestConfig(name, None, 112, encoder_options=options))
        assert len(model.encoder.network.blocks) == 7
    with pytest.raises(ValueError, match=r"block must be 0 to 7 for 'vit_small_patch16_dinov3', got 8"):
        NearestNeighbour(NearestConfig("vit_small_patch16_dinov3", 8, 112, encoder_options=options))


def test_a_stage_is_a_block() -> None:
    model = NearestNeighbour(NearestConfig("convnextv2_atto", 2, 64, encoder_options=CONVNEXT))
    assert model._stride == 16 and model.encode(torch.zeros(1, 3, 64, 64)).shape == (1, 32 * 4 * 4)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("vit_small_patch16_dinov3", 0),
        ("beit_base_patch16_224", None),  # timm resizes its relative positions
        ("hiera_tiny_224", None),  # timm doesn't resize its positions
        ("swin_tiny_patch4_window7_224", 1),
        ("convnextv2_atto", None),  # `features_only` renames its layers
    ],
)
def test_files_of_timm_load_at_another_size(name: str, block: int | None) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(name, **ENCODERS[name]).state_dict()
    model = NearestNeighbour(NearestConfig(name, block, _sizes(name)[1], encoder_options=ENCODERS[name]))
    load_encoder(model.encoder, whole, "file")
    resized = 0
    for own, x in model.encoder.network.state_dict().items():
        stored = whole[own if own in whole else own.replace("_", ".", 1)]
        resized += stored.shape != x.shape
        assert stored.shape != x.shape or torch.equal(stored, x)
    assert resized == {"beit_base_patch16_224": 2, "hiera_tiny_224": 1}.get(name, 0)
    del whole[next(key for key in whole if key.startswith(("blocks.0.", "layers.0.", "stages.0.")))]
    with pytest.raises(ValueError, match=r"file must hold '.*' \(1 of \d+ tensors are missing\)"):
        load_encoder(model.encoder, whole, "file")


def test_files_of_meta_load_as_dinov3(capsys: pytest.CaptureFixture[str]) -> None:
    name = "vit_small_patch16_dinov3"
    torch.manual_seed(0)
    whole = timm.create_model(name, **VIT).state_dict()
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    meta = {"mask_token": torch.zeros(1, 32), "rope_embed.periods": torch.zeros(4)}
    for key, x in whole.items():
        for timm_name, own in names.items():
            key = key.replace(timm_name, own)
        meta[key] = x
    meta |= {f"blocks.{i}.attn.qkv.{x}": torch.zeros(96) for i in range(2) for x in ("bias", "bias_mask")}
    model = NearestNeighbour(NearestConfig(name, 1, 64, encoder_options=VIT))
    load_encoder(model.encoder, meta, "file")
    assert all(torch.equal(x, whole[key]) for key, x in model.encoder.network.state_dict().items())
    assert capsys.readouterr().out == ""


def test_hiera_positions_are_resampled() -> None:
    """The positions of a ramp stay a ramp."""
    name = "hiera_tiny_224"
    whole = timm.create_model(name, **ENCODERS[name]).state_dict()
    ramp = torch.linspace(0, 1, 56)[:, None] + 2 * torch.linspace(0, 1, 56)
    whole["pos_embed"] = ramp.reshape(1, -1, 1).expand(-1, -1, 16).clone()
    model = NearestNeighbour(NearestConfig(name, None, (64, 96), encoder_options=HIERA))
    load_encoder(model.encoder, whole, "file")
    x = model.encoder.network.pos_embed[0, :, 0].reshape(16, 24)
    middle = torch.linspace(0, 1, 56).mean()
    torch.testing.assert_close(x.mean(), 3 * middle, atol=1e-3, rtol=0)
    steps = (x[3:-3].diff(dim=0), x[:, 3:-3].diff(dim=1))
    torch.testing.assert_close(steps[0], torch.full_like(steps[0], 56 / 16 / 55), atol=2e-3, rtol=0)
    torch.testing.assert_close(steps[1], torch.full_like(steps[1], 2 * 56 / 24 / 55), atol=2e-3, rtol=0)


def test_weights_of_another_size_are_one_sentence() -> None:
    model = NearestNeighbour(NearestConfig("levit_128s", None, 64))
    whole = timm.create_model("levit_128s").state_dict()
    message = r"'stages.0.blocks.0.attn.attention_biases' must have shape .*; the weights .* for images of 224 x 224"
    with pytest.raises(ValueError, match=message):
        load_encoder(model.encoder, whole, "file")


def test_sizes_that_do_not_fit_are_one_sentence() -> None:
    def make(name: str, image_size: ImageSize, **options: Any) -> None:
        NearestNeighbour(NearestConfig(name, None, image_size, encoder_options=options))

    with pytest.raises(ValueError, match=r"multiple of 16 and 4, got 450x224: 448x224 or 464x224 would fit"):
        make("vit_small_patch16_dinov3", (450, 224), **VIT)
    with pytest.raises(ValueError, match=r"multiple of 14 and 4, got 100: 84 or 112 would fit"):
        make("vit_small_patch14_dinov2", 100, **VIT)
    with pytest.raises(ValueError, match=r"'nest_tiny' can encode, got 64 x 96: .* square inputs; 224 x 224 would fit"):
        make("nest_tiny", (64, 96))
    with pytest.raises(ValueError, match=r"image_size must be one that 'hiera_tiny_224' can encode, got 72 x 72: .*"):
        make("hiera_tiny_224", 72, **HIERA)
    config = SimpleMatchConfig("resnet18", "pyramid", (64, 90), width=8, encoder_options={"layers": (1, 1, 1, 1)})
    with pytest.raises(ValueError, match=r"image_size must be a multiple of 4, got 64x90: 64x88 or 64x92 would fit"):
        SimpleMatch(config)


def test_names_that_timm_does_not_know_are_one_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"name of a timm model, such as vit_small_patch16_dinov3, .*, got 'vit_smal_p"
    ):
        NearestConfig.of_encoder("vit_smal_patch16_dinov3")
    with pytest.raises(
        ValueError, match=r"'vit_small_patch16_dinov3' must have a tag of timm's, such as lvd1689m, got"
    ):
        NearestConfig.of_encoder("vit_small_patch16_dinov3.lvd")


def test_an_encoder_brings_its_tag_and_statistics() -> None:
    config = NearestConfig.of_encoder("vit_base_patch16_siglip_256", 3)
    assert config.encoder.startswith("vit_base_patch16_siglip_256.") and config.mean == (0.5, 0.5, 0.5)
    assert (config.block, config.image_size, config.resize) == (3, 448, "squash")


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        encoder = MapEncoder("vit_small_patch16_dinov3", dict(VIT), checkpoint=checkpoint)
        encoder(torch.ones(1, 3, 64, 64)).square().sum().backward()
        gradients.append([x.grad for x in encoder.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
