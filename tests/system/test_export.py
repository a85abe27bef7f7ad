"""`simplematch export`: the exported file matches a photograph as the model does."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simplematch.cli import main
from simplematch.commands.export import INPUTS, OUTPUTS, PairMatcher, export_model
from simplematch.models import NearestNeighbour, SimpleMatch, load_model
from simplematch.models.nearest import NearestConfig

from .models.tiny import tiny_model

for package in ("onnx", "onnxscript"):
    pytest.importorskip(package, reason=f"{package} is not installed (pip install simplematch-kernels[onnx])")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install onnxruntime)")
data = pytest.importorskip("skimage.data", reason="scikit-image, which ships photographs, is not installed")

PIXELS = 1e-3


def photographs(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A photograph, and the same 1/16 further left and down, as (1, 3, S, S) of values 0 to 1."""
    whole = Image.fromarray(data.astronaut()).resize((side + side // 16,) * 2, Image.Resampling.BICUBIC)
    moved = side // 16
    boxes = ((0, moved, side, side + moved), (moved, 0, side + moved, side))
    pixels = [np.array(whole.crop(box), dtype=np.float32) / 255 for box in boxes]
    first, second = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in pixels)
    return first, second


def assert_equal(content: bytes, model: SimpleMatch | NearestNeighbour) -> None:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert tuple(each.name for each in session.get_inputs()) == INPUTS
    assert tuple(each.name for each in session.get_outputs()) == OUTPUTS
    a, b = photographs(model.image_size)
    keypoints = model.image_size * torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(0))
    for inputs in ((a, b, keypoints[:1, :1]), (torch.cat((a, b)), torch.cat((b, a)), keypoints)):
        with torch.no_grad():
            expected = PairMatcher(model)(*inputs)
        found = session.run(None, dict(zip(INPUTS, (x.numpy() for x in inputs), strict=True)))
        for value, truth, atol in zip(map(torch.from_numpy, found), expected, (PIXELS, 1e-5), strict=True):
            torch.testing.assert_close(value, truth, atol=atol, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_a_trained_model_matches_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model("efficientnet-lite0-256").save_pretrained(tmp_path / "model")
    file = tmp_path / "model.onnx"
    main(["export", "--onnx", str(file), "--model", str(tmp_path / "model")])
    assert f"written: {file}" in capsys.readouterr().out
    assert_equal(file.read_bytes(), load_model(tmp_path / "model"))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_an_untrained_matcher_matches_a_photograph() -> None:
    torch.manual_seed(0)
    model = NearestNeighbour(NearestConfig("tf_efficientnet_lite0", None, 64))
    assert_equal(export_model(model), model)


def test_a_mistake_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("export needs onnxscript, which is not installed (pip install onnxscript)")

    monkeypatch.setattr("simplematch_kernels.onnx.export", missing)
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        main(["export", "--onnx", "model.onnx", "--model", "efficientnet-lite0-256-nn"])
    assert capsys.readouterr().err.strip().endswith("which is not installed (pip install onnxscript)")
