"""Encoded images stand for images everywhere."""

from __future__ import annotations

import pytest
import torch

from simplematch.models.map_rows import MapRows

from .tiny import pair, tiny_model

NAMES = ("dinov2-s14-252", "resnet101-256")


@pytest.mark.parametrize("name", NAMES)
def test_rows_give_what_their_images_give(name: str) -> None:
    model = tiny_model(name, encoder_training="frozen", **({"width": 8} if "dinov2" in name else {})).eval()
    source, target, points, counts = pair(model.image_size)
    rows = [model.encode_images(x) for x in (source, target)]
    assert rows[0].dtype == torch.float16 and rows[0].shape == (2, model.rows.length)
    close = {"rtol": 2e-3, "atol": 0.05}
    for one, other in zip(
        model.match_levels(source, target, points, counts), model.match_levels(*rows, points, counts), strict=True
    ):
        torch.testing.assert_close(one.score, other.score, **close)
    torch.testing.assert_close(model.encode(source), model.encode(rows[0]), **close)
    expected = model.cross_entropies(source, target, points, points, counts)
    torch.testing.assert_close(model.cross_entropies(*rows, points, points, counts), expected, **close)
    groups, grouped = torch.stack((source, target), 1), torch.stack(rows, 1)
    keypoints, valid = torch.stack((points, points), 1), torch.ones(2, 2, 2, points.shape[1], dtype=torch.bool)
    expected = model.group_cross_entropies(groups, keypoints, valid)
    torch.testing.assert_close(model.group_cross_entropies(grouped, keypoints, valid), expected, **close)
    for one, other in zip(model.match_groups(groups, keypoints), model.match_groups(grouped, keypoints), strict=True):
        torch.testing.assert_close(one.matches.score, other.matches.score, **close)


@pytest.mark.parametrize("name", NAMES)
def test_rows_hold_the_maps_of_the_encoder(name: str) -> None:
    model = tiny_model(name).eval()
    images = pair(model.image_size)[0]
    maps = model.encoder(images)
    unpacked = model.rows.unpack(model.encode_images(images), torch.float32)
    pairs = [(maps, unpacked)] if isinstance(maps, torch.Tensor) else zip(maps, unpacked, strict=True)
    for whole, half in pairs:
        assert torch.equal(whole.half().float(), half)


def test_wrong_rows() -> None:
    model = tiny_model("dinov2-s14-252").eval()
    with pytest.raises(ValueError, match=r"images must be \(B, 256\) if they are encoded, got \(2, 7\)"):
        model.encode(torch.zeros(2, 7))
    with pytest.raises(TypeError, match=r"images must be a floating-point tensor, got torch.int64"):
        model.encode(torch.zeros(2, 256, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"at most 65504 in absolute value, as float16 is, got 70000"):
        MapRows(((1, 1, 1),), True).pack(torch.full((1, 1, 1, 1), 7e4))


def test_a_narrow_decoder_of_a_vit() -> None:
    model = tiny_model("dinov2-s14-252", width=8)
    assert model.decoder.channels == 8 and model.matchers[0].proj.weight.shape == (8, 8)
    assert model.decoder.align.weight.shape == (8, 16, 1, 1)
    assert not list(tiny_model("dinov2-s14-252").decoder.align.parameters())
