"""Shapes, gradients and interface of every preset, with small widths."""

from __future__ import annotations

import pytest
import torch

from simplematch.models import PRESETS, SimpleMatch, multi_scale_loss
from simplematch_kernels import Matches

from .tiny import NAMES, pair, tiny_config, tiny_model


def test_every_preset_is_tried() -> None:
    assert set(NAMES) == set(PRESETS)


@pytest.mark.parametrize("name", NAMES)
def test_training_answers_at_every_level_and_trains_what_it_should(name: str) -> None:
    model = tiny_model(name).train()
    source, target, keypoints, counts = pair(model.image_size)
    matches = model(source, target, keypoints, counts)
    assert len(matches) == len(model.config.levels)
    for x in matches:
        assert x.keypoints.shape == (2, 5, 2)
        assert x.keypoints[0].isfinite().all()
        assert (x.keypoints[1, 3:] == -1).all()
    truth = keypoints.flip(-1)
    torch.stack(multi_scale_loss(matches, truth, counts)).sum().backward()
    adapters = model.config.encoder_training == "lora"
    for parameter_name, parameter in model.named_parameters():
        trains = not (adapters and parameter_name.startswith("encoder.")) or ".lora_" in parameter_name
        assert parameter.requires_grad == trains, parameter_name
        assert (parameter.grad is not None) == trains, parameter_name
        if trains:
            assert parameter.grad.isfinite().all(), parameter_name
    moved = [p.grad.abs().max() > 0 for p in model.encoder.parameters() if p.grad is not None]
    assert sum(moved) > 0.9 * len(moved)  # a bias before a batch norm has no effect


@pytest.mark.parametrize("name", NAMES)
def test_features_computed_once_give_the_answer_of_forward(name: str) -> None:
    model = tiny_model(name).eval()
    source, target, keypoints, counts = pair(model.image_size)
    with torch.no_grad():
        matches = model(source, target, keypoints, counts)
        encoded = torch.cat([model.encode(x[None]) for x in torch.cat((source, target))])
        again = model.match_features(encoded[[0, 1]], encoded[[2, 3]], keypoints, counts)
    assert isinstance(matches, Matches)
    assert encoded.shape == (4, model.decoder.channels, model.image_size // 4, model.image_size // 4)
    assert torch.equal(matches.peak, again.peak)
    torch.testing.assert_close(matches.keypoints, again.keypoints, atol=1e-3, rtol=0)
    torch.testing.assert_close(matches.score, again.score, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("level", "cells"), [(0, 4), (1, 8), (2, 16)])
@pytest.mark.parametrize("name", ["ibot-b16-256", "resnet101-256"])
def test_decoder_can_end_at_a_coarser_level(name: str, level: int, cells: int) -> None:
    model = tiny_model(name, levels=(level,), windows=(7,)).train()
    source, target, keypoints, counts = pair(model.image_size)
    assert model.encode(source).shape[-2:] == (cells, cells)
    (matches,) = model(source, target, keypoints, counts)
    assert matches.peak.max() < cells**2
    matches.keypoints.sum().backward()
    assert all(p.grad is not None for p in model.decoder.parameters())


def test_pyramid_takes_sizes_that_its_strides_do_not_divide() -> None:
    model = tiny_model("resnet101-256", image_size=72).train()  # 18, 9, 5 and 3 cells
    source, target, keypoints, counts = pair(72)
    coarse, middle, fine = model(source, target, keypoints, counts)
    assert coarse.peak.max() < 25 and middle.peak.max() < 81 and fine.peak.max() < 324
    assert all((x.keypoints < 72).all() for x in (coarse, middle, fine))


def test_compiles_with_the_same_answers() -> None:
    model = tiny_model("ibot-b16-256", dropout=0.0, encoder_training="frozen").eval()
    inputs = pair(model.image_size)
    expected = model(*inputs)
    actual = torch.compile(model, backend="aot_eager")(*inputs)
    torch.testing.assert_close(actual.keypoints, expected.keypoints, atol=1e-3, rtol=0)


def test_a_few_steps_lower_the_loss() -> None:
    model = tiny_model("ibot-b16-256").train()
    source, target, keypoints, counts = pair(model.image_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = torch.stack(multi_scale_loss(model(source, target, keypoints, counts), keypoints, counts)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["ibot-b16-256", "resnet101-256"])
def test_paper_variant_runs_and_answers_otherwise(name: str) -> None:
    official, paper = tiny_model(name).eval(), tiny_model(name, variant="paper").eval()
    own = paper.state_dict()
    shared = {key: x for key, x in official.state_dict().items() if key in own}
    paper.load_state_dict(shared, strict=False)
    source = pair(official.image_size)[0]
    with torch.no_grad():
        assert not torch.allclose(official.encode(source), paper.encode(source), atol=1e-3)


def test_batch_norm_sees_source_and_target_as_the_preset_says() -> None:
    for name, batches in (("ibot-b16-256", 2), ("resnet101-256", 1)):
        model = tiny_model(name).train()
        model(*pair(model.image_size))
        counts = [x for key, x in model.decoder.state_dict().items() if key.endswith("num_batches_tracked")]
        assert counts
        assert all(x == batches for x in counts)


def test_frozen_encoder_keeps_weights_and_statistics() -> None:
    model = tiny_model("efficientnet-lite0-256", encoder_training="frozen").train()
    before = {key: x.clone() for key, x in model.encoder.state_dict().items()}
    source, target, keypoints, counts = pair(model.image_size)
    assert not any(x.requires_grad for x in model.encoder(source))
    matches = model(source, target, keypoints, counts)
    torch.stack(multi_scale_loss(matches, keypoints, counts)).sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(torch.equal(x, before[key]) for key, x in model.encoder.state_dict().items())


def test_bfloat16_autocast_trains() -> None:
    model = tiny_model("resnet101-256").train()
    source, target, keypoints, counts = pair(model.image_size)
    with torch.autocast("cpu", torch.bfloat16):
        loss = torch.stack(multi_scale_loss(model(source, target, keypoints, counts), keypoints, counts)).sum()
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_wrong_images_are_one_sentence() -> None:
    model = tiny_model("ibot-b16-256").eval()
    source, target, keypoints, _ = pair(64)
    with pytest.raises(ValueError, match=r"source_images must be \(B, 3, 64, 64\), got \(2, 3, 64, 63\)"):
        model(source[..., :-1], target, keypoints)
    with pytest.raises(TypeError, match=r"images must be a floating-point tensor, got torch.uint8"):
        model.encode(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"target_images must have the shape of source_images"):
        model(source, target[:1], keypoints)


def test_wrong_names_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"preset must be one of dinov2-b14-252, .*, got 'dino'"):
        SimpleMatch.from_preset("dino")
    with pytest.raises(ValueError, match=r"'windw' is not a field of SimpleMatchConfig"):
        SimpleMatch.from_preset("ibot-b16-256", pretrained=False, windw=3)
    with pytest.raises(ValueError, match=r"encoder must be the name of a timm model, .*, got 'resnet1x1'"):
        SimpleMatch(tiny_config("resnet101-256", encoder="resnet1x1"))
    with pytest.raises(ValueError, match=r"image_size must be a multiple of the patch size, 16, got 60"):
        SimpleMatch(tiny_config("ibot-b16-256", image_size=60))
    with pytest.raises(ValueError, match=r"lora_blocks must be some of 0 to 2, got \(6,\)"):
        SimpleMatch(tiny_config("dinov2-b14-252", lora_blocks=(6,)))
