"""Pairs with known warps: correspondences must be exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simplematch.data import DataError, WarpedImages, open_dataset
from simplematch.data.warps import random_warp, warp_image

from .trees import write_image

KINDS = ("affine", "perspective", "thin-plate")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_pixels_follow_the_keypoints(tmp_path: Path, kind: str, seed: int) -> None:
    """In an image of its own coordinates, a target point has the value of its source point's coordinates."""
    width, height = 200, 120
    x = (torch.arange(width) + 0.5) * 255 / width
    y = (torch.arange(height) + 0.5) * 255 / height
    image = torch.stack((x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)))
    warp, _ = random_warp(f"{kind}:{seed}:0:0")
    shown = warp_image(image.round().to(torch.uint8), warp).double()
    write_image(tmp_path / "one.png", width=width, height=height)
    info = WarpedImages(tmp_path, kinds=(kind,), pairs_per_image=1, seed=seed).info(0)
    assert len(info.source_keypoints) == 20
    for (xs, ys), (xt, yt) in zip(info.source_keypoints, info.target_keypoints, strict=True):
        if not (5 < xs < width - 5 and 5 < ys < height - 5):
            continue  # bilinear sampling mixes in the black border
        seen = shown[:2, int(yt), int(xt)].numpy() * [width / 255, height / 255]
        # a warp stretches the half pixel to the pixel's centre to less than two pixels
        assert np.abs(seen - [xs, ys]).max() < 2.0, (kind, seed)


def test_perspective_and_thin_plate_meet_their_definition() -> None:
    for kind in KINDS:
        warp, _ = random_warp(f"{kind}:3:1:0")
        line = np.linspace(-0.5, 0.5, 5)[:, None] * np.array([[1.0, 0.4]])
        a, b, *_, c = warp(line)
        bend = abs((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0])
        assert (bend > 1e-4) == (kind == "thin-plate"), kind  # the other two preserve straight lines


def test_repeatable_and_different(tmp_path: Path) -> None:
    for i in range(2):
        write_image(tmp_path / f"folder/{i}.png", i)
    first, second, other = (open_dataset("images", tmp_path, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 6 and first.categories == ["affine", "perspective", "thin-plate"]
    for i in range(6):
        a, b = first[i], second[i]
        assert torch.equal(a.target, b.target)
        np.testing.assert_array_equal(a.info.source_keypoints, b.info.source_keypoints)
        assert not np.array_equal(a.info.source_keypoints, other.info(i).source_keypoints)
        assert a.info.target_key != a.info.source_key
    assert len({first.info(i).target_key for i in range(6)}) == 6


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold images"):
        WarpedImages(tmp_path)
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(DataError, match=r"a.jpg can't be decoded"):
        WarpedImages(tmp_path)
    write_image(tmp_path / "b.jpg")
    assert len(WarpedImages(tmp_path, skip_broken=True)) == 3
    with pytest.raises(ValueError, match=r"kinds must be some of .*, got .*twist"):
        WarpedImages(tmp_path, kinds=("twist",))
