"""Matches as transformers' image processors return them, against those processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simplematch.cli import main
from simplematch.correspondences import Correspondences

SIZE_A, SIZE_B = (120, 200), (90, 160)  # height, width


@pytest.fixture
def found() -> Correspondences:
    random = np.random.default_rng(3)
    points, matches = (random.uniform(0, 1, (12, 2)) * size[::-1] for size in (SIZE_A, SIZE_B))
    confidence = random.uniform(-0.5, 1, 12)
    confidence[:4] = (np.nan, 0.0, 1.0000001, -1.0)
    return Correspondences(points, matches, confidence, np.zeros(12), SIZE_A, SIZE_B, "model")


def processors() -> list[Any]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    names = ("LightGlueImageProcessor", "SuperGlueImageProcessor", "EfficientLoFTRImageProcessor")
    return [getattr(transformers, name)() for name in names]


def outputs_of(found: Correspondences) -> Any:
    """The same matches as a LightGlue model returns them: coordinates 0..1 of both images, and each point's match."""
    count = len(found)
    scores, order = torch.from_numpy(found.confidence).float(), torch.arange(count)
    sides = [torch.from_numpy(x / size[::-1]) for x, size in ((found.points, SIZE_A), (found.matches, SIZE_B))]
    both = {"mask": torch.ones(1, 2, count), "matches": torch.stack((order, order))[None]}
    outputs = {"keypoints": torch.stack(sides)[None], "matching_scores": torch.stack((scores, scores))[None], **both}
    return type("Outputs", (), outputs)


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_the_same_as_the_processors(threshold: float, found: Correspondences) -> None:
    ours = found.to_transformers(threshold)
    for processor in processors():
        (theirs,) = processor.post_process_keypoint_matching(outputs_of(found), [(SIZE_A, SIZE_B)], threshold)
        assert list(ours[0]) == list(theirs) and len(ours) == 1
        for name, tensor in theirs.items():
            assert ours[0][name].dtype == tensor.dtype, name
            assert torch.equal(ours[0][name], tensor), name


def test_what_a_match_becomes(found: Correspondences) -> None:
    (pair,) = found.to_transformers(0.5)
    kept = found.confidence > 0.5
    assert 0 < kept.sum() < 12 and not kept[0]
    assert pair["keypoints0"].tolist() == np.floor(found.points[kept]).astype(int).tolist()
    assert pair["keypoints1"].tolist() == np.floor(found.matches[kept]).astype(int).tolist()
    assert pair["keypoints0"].dtype == pair["keypoints1"].dtype == torch.int32
    assert pair["matching_scores"].tolist() == found.confidence[kept].astype(np.float32).tolist()
    (nothing,) = found.to_transformers(2)
    assert {name: tuple(x.shape) for name, x in nothing.items()} == {
        "keypoints0": (0, 2), "keypoints1": (0, 2), "matching_scores": (0,),
    }  # fmt: skip


def test_processors_draw_ours(found: Correspondences) -> None:
    images = [Image.new("RGB", size[::-1], "white") for size in (SIZE_A, SIZE_B)]
    for processor in processors():
        (picture,) = processor.visualize_keypoint_matching(images, found.to_transformers())
        assert picture.size == (360, 120)
        (pair,) = found.to_transformers()
        for (x, y), (u, v) in zip(pair["keypoints0"].tolist(), pair["keypoints1"].tolist(), strict=True):
            assert picture.getpixel((x, y)) != (255, 255, 255) and picture.getpixel((u + 200, v)) != (255, 255, 255)
        joined = found.to_transformers() + found.to_transformers(0.5)
        assert len(processor.visualize_keypoint_matching([images, images], joined)) == 2


def test_command_writes_it(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [str(photographs / "0.png"), str(photographs / "0.png")]
    options = ["--grid", "3", "--model", "efficientnet-lite0-256-nn"]
    main(["match", *images, *options, "--output", str(tmp_path / "own")])
    main(["match", *images, *options, "--output", str(tmp_path / "theirs"), "--format", "transformers"])
    own = json.loads((tmp_path / "own.json").read_text())["matches"]
    (pair,) = json.loads((tmp_path / "theirs.json").read_text())
    assert set(pair) == {"keypoints0", "keypoints1", "matching_scores"}
    assert pair["keypoints0"] == [[int(row["x_a"]), int(row["y_a"])] for row in own]
    assert pair["matching_scores"] == pytest.approx([row["confidence"] for row in own], abs=1e-4)
    assert (tmp_path / "theirs.csv").read_text() == (tmp_path / "own.csv").read_text()
    with pytest.raises(SystemExit):
        main(["match", *images, "--format", "coco"])
    assert "format must be one of simplematch, transformers, got 'coco'" in capsys.readouterr().err
