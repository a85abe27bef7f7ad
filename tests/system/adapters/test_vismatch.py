"""The matcher for vismatch, on a stand-in of that package."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import simplematch
from simplematch.correspondences import grid_points, grid_shape

from ..models.tiny import tiny_model
from . import stand_in

MODEL = "efficientnet-lite0-256-nn"


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, "vismatch", stand_in)
    sys.modules.pop("simplematch.adapters.vismatch", None)
    yield importlib.import_module("simplematch.adapters.vismatch")
    sys.modules.pop("simplematch.adapters.vismatch")


@pytest.fixture
def files(photographs: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A photograph and a part of it."""
    Image.open(photographs / "0.png").crop((20, 10, 96, 80)).save(tmp_path / "part.png")
    return photographs / "0.png", tmp_path / "part.png"


def test_a_pair_gives_what_match_gives(adapter: Any, files: tuple[Path, Path]) -> None:
    matcher = adapter.Matcher(model=MODEL, device="cpu", max_num_keypoints=100, ransac_reproj_thresh=5)
    assert isinstance(matcher, stand_in.BaseMatcher) and matcher.ransac_reproj_thresh == 5
    found = matcher(*files)
    points = grid_points((80, 96), 11)
    expected = simplematch.match(*files, points, model=MODEL)
    assert len(points) <= 100 < len(grid_points((80, 96), 12))
    assert (found["all_kpts0"] == expected.points).all() and (found["all_kpts1"] == expected.matches).all()
    assert expected.mutual is not None and 0 < expected.mutual.sum() < len(points)
    for name, values in (
        ("matched_kpts0", expected.points), ("matched_kpts1", expected.matches),
        ("matched_confidences", expected.confidence),
    ):  # fmt: skip
        assert (found[name] == values[expected.mutual]).all(), name
    assert found["all_desc0"].shape == found["all_desc1"].shape == (0, 2)
    assert found["num_inliers"] == expected.mutual.sum()


def test_every_kind_of_image_gives_the_same(adapter: Any, files: tuple[Path, Path]) -> None:
    matcher = adapter.Matcher(model=MODEL, max_num_keypoints=30, mutual=False)
    pictures = [Image.open(file) for file in files]
    tensors = [torch.from_numpy(np.array(x)).permute(2, 0, 1) / 255 for x in pictures]
    expected = matcher(*map(str, files))
    for pair in (files, pictures, tensors, [x.double() for x in tensors]):
        found = matcher(*pair)
        assert all(np.array_equal(found[name], expected[name]) for name in expected), type(pair[0])
    assert len(expected["matched_kpts0"]) == len(expected["all_kpts0"])


def test_options_choose_what_is_kept(adapter: Any, files: tuple[Path, Path]) -> None:
    every = adapter.Matcher(model=MODEL, max_num_keypoints=60, mutual=False)(*files)["matched_confidences"]
    middle = float(np.median(every))
    kept = adapter.Matcher(model=MODEL, max_num_keypoints=60, mutual=False, threshold=middle)(*files)
    assert kept["matched_confidences"].tolist() == every[every > middle].tolist()
    nothing = adapter.Matcher(model=MODEL, max_num_keypoints=60, threshold=2)(*files)
    assert nothing["num_inliers"] == 0 and len(nothing["all_kpts0"]) == len(every)


def test_a_trained_model_and_its_folder(adapter: Any, files: tuple[Path, Path], tmp_path: Path) -> None:
    model = tiny_model("resnet101-256")
    model.save_pretrained(tmp_path)
    direct, folder = (adapter.Matcher("cpu", x, 20)(*files) for x in (model, tmp_path))
    assert np.array_equal(direct["matched_kpts1"], folder["matched_kpts1"])
    assert list(adapter.Matcher(model=model).parameters())  # so that .to() moves it


@pytest.mark.parametrize("size", [(80, 96), (5, 300), (300, 5), (64, 64), (1, 1)])
@pytest.mark.parametrize("most", [1, 2, 7, 100, 2048])
def test_the_grid_is_the_finest_that_fits(size: tuple[int, int], most: int, adapter: Any) -> None:
    points = adapter._grid(size, most)
    assert 1 <= len(points) <= most
    counts = (math.prod(grid_shape(size, count)) for count in range(1, most + 2))
    assert len(points) == max(x for x in counts if x <= most)


def test_wrong_arguments_are_one_sentence(adapter: Any) -> None:
    with pytest.raises(ValueError, match=r"max_num_keypoints must be a whole number above zero, got 0"):
        adapter.Matcher(max_num_keypoints=0)
    with pytest.raises(ValueError, match=r"model must be the folder of a checkpoint, .*, got 'nothing'"):
        adapter.Matcher(model="nothing")


def test_without_vismatch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vismatch", None)
    sys.modules.pop("simplematch.adapters.vismatch", None)
    with pytest.raises(ImportError, match=r"needs the package vismatch: pip install vismatch, or the extra vismatch"):
        importlib.import_module("simplematch.adapters.vismatch")
