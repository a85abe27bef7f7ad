"""Exported models, run by onnxruntime on the CPU: they answer as PyTorch does, at sizes other than the example's.

`make onnx-vectors` does the same with every golden vector, and with all sizes free for every option. An export of one
match takes five seconds then, three if only the target's sizes are free, and one if none is.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import simplematch_kernels as smk

from .samples import SAMPLES as MATCH_SAMPLES
from .samples import SIMULATED
from .test_golden import PRESETS

pytest.importorskip("onnx", reason="onnx is not installed (pip install simplematch-kernels[onnx])")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install simplematch-kernels[onnx])")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install onnxruntime)")

from simplematch_kernels import onnx as smk_onnx  # noqa: E402  (after the packages that it needs)

from . import onnx_models as models  # noqa: E402
from .onnx_models import DIM, IN_MAPS, POINTS, ROWS, SMALL, Calls, exported, matching  # noqa: E402
from .onnx_vectors import Vector, passes, run_vectors  # noqa: E402

pytestmark = pytest.mark.skipif(SIMULATED, reason="no kernel runs in an exported model")
RECORDED = Path(__file__).parents[1] / "docs" / "onnx-vectors.json"
SIZES = {2: DIM, 3: DIM}
ANOTHER = models.draw(1, 2, 5, (7, 9), (9, 8))
OTHER_TARGET = models.draw(1, 2, 5, (7, 9), (12, 13))
OTHER_MAPS = models.draw(1, 2, 5, (6, 5), (12, 13))


def assert_equal(session: Any, model: nn.Module, *examples: Sequence[Tensor]) -> None:
    """Equal indices and masks, NaN in the same places, and values within the tolerance."""
    for inputs in examples:
        assert models.difference(session, model, inputs) <= models.TOLERANCE


def localizing(names: Sequence[str]) -> Calls:
    options = [models.LOCALIZATIONS[name] for name in names]
    return Calls([lambda scores, each=each: smk.localize(scores, **each) for each in options])


def scores_of(drawn: Sequence[Tensor]) -> list[Tensor]:
    source, target, points = drawn
    return [smk.cosine_similarity(smk.gather_keypoints(source, points), target)]


def test_localizations_of_free_sizes(tmp_path: Path) -> None:
    model, examples = localizing(("square", "shrunken", "disc")), [scores_of(SMALL), scores_of(OTHER_TARGET)]
    assert (examples[0][0][:, 0, 1, 2] == examples[0][0][:, 0, 2, 3]).all()  # a tie
    assert_equal(exported(model, examples[0], [SIZES], tmp_path / "model.onnx"), model, *examples)


def test_localizations(tmp_path: Path) -> None:
    model, example = localizing(("outside", "gaussian", "covariance", "best")), scores_of(SMALL)
    session = exported(model, example, [{}], tmp_path / "model.onnx", optimize=False)
    assert_equal(session, model, example, scores_of(ANOTHER))


def test_matches_of_free_sizes(tmp_path: Path) -> None:
    model = Calls([matching(**models.MATCHES[name]) for name in ("argmax", "global", "scores")])
    session = exported(model, SMALL, [{}, SIZES, {}], tmp_path / "model.onnx")
    assert_equal(session, model, SMALL, OTHER_TARGET)


def test_matches_and_losses(tmp_path: Path) -> None:
    """Validation needs losses too."""
    matches = [matching(**models.MATCHES[name]) for name in ("blended", "l2", "l1")]
    model = Calls([*matches, *models.LOSSES.values()])
    session = exported(model, SMALL, [{}, {}, {}], tmp_path / "model.onnx", optimize=False)
    assert_equal(session, model, SMALL, ANOTHER)


def test_other_functions(tmp_path: Path) -> None:
    model = Calls(list(models.OTHERS.values()))
    session = exported(model, SMALL, [SIZES, SIZES, {}], tmp_path / "model.onnx", optimize=False)
    assert_equal(session, model, SMALL, OTHER_MAPS)


def test_restrictions_and_numbers_are_inputs(tmp_path: Path) -> None:
    """Counts, masks, temperatures and sizes of each image, and NaN in a query, a cell and padding."""
    names = ("num_keypoints", "valid", "target_mask", "temperature", "source_size", "target_size")
    model = Calls([lambda s, t, k, *given: smk.sparse_window_match(s, t, k, window_size=5, **dict(zip(names, given)))])  # noqa: B905

    def inputs(drawn: Sequence[Tensor]) -> list[Tensor]:
        source, target, points = (x.clone() for x in drawn)
        batch, queries = points.shape[:2]
        generator = torch.Generator().manual_seed(2)
        source[1, 3, 0, 0] = target[1, 2, 3, 3] = torch.nan
        points[0, -1] = torch.nan
        counts = torch.full((batch,), queries) - torch.arange(batch).flip(0)
        valid = torch.rand(batch, queries, generator=generator) < 0.7
        mask = torch.rand(batch, *target.shape[2:], generator=generator) < 0.7
        mask[-1] = False
        sizes = torch.tensor([target.shape[2:]]) * 3 + torch.arange(batch)[:, None]
        counts[0] = queries - 1
        return [source, target, points, counts, valid, mask, 0.03 + 0.1 * torch.rand(batch, queries), sizes, sizes + 2]

    dims = (*IN_MAPS, ROWS, POINTS, {0: DIM, 1: DIM, 2: DIM}, POINTS, ROWS, ROWS)
    session = exported(model, inputs(SMALL), dims, tmp_path / "model.onnx")
    assert_equal(session, model, inputs(SMALL), inputs(models.OTHER))


@pytest.mark.parametrize("sample", [each for each in MATCH_SAMPLES if each.name == "border-bilinear-zeros"], ids=str)
def test_a_descriptor_of_zeros_scores_zero(sample: Any, tmp_path: Path) -> None:
    """The optimizer of PyTorch's exporter leaves out a sum with a small constant."""
    made = sample.make()
    model = Calls([matching(**made.options)])
    inputs = [made.source.cpu(), made.target.cpu(), made.keypoints.cpu()]
    assert_equal(exported(model, inputs, [{}, {}, {}], tmp_path / "model.onnx"), model, inputs)


@pytest.mark.parametrize("name", ("simplematch_window15", "tapir_scores_disc5"))
def test_golden_vectors(name: str, shared_data: Path, tmp_path: Path) -> None:
    vector = Vector(shared_data, name)
    (line,) = run_vectors([vector], tmp_path)
    assert passes(line), line


def test_every_golden_vector_is_recorded(shared_data: Path) -> None:
    """In what `make onnx-vectors` wrote."""
    result = json.loads(RECORDED.read_text())
    lines = [line for part in ("vectors", "models", "options") for line in result[part]]
    assert result["tolerance"] == models.TOLERANCE
    assert all(passes(line) for line in lines)
    names = {line["name"] for line in lines}
    assert PRESETS.keys() <= names and {path.stem for path in (shared_data / "vectors").glob("*.npz")} <= names
    assert {f"localize {name}" for name in models.LOCALIZATIONS} | models.OTHERS.keys() <= names
    assert {f"match {x}" for x in models.MATCHES} | {f"loss {x}" for x in models.LOSSES} <= names


def test_the_example_of_the_documentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "onnx.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "documentation"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(example, "documentation", "exec"), names)
    session = onnxruntime.InferenceSession("matcher.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["matches", "score"]
    maps, points = torch.randn(2, 1, 64, 17, 40), 16 * torch.rand(1, 3, 2)
    assert_equal(session, names["Matcher"](), [*maps, points])


def test_refuses_by_name() -> None:
    class Gradient(nn.Module):
        def forward(self, source: Tensor, keypoints: Tensor) -> Tensor:
            descriptors = smk.gather_keypoints(source, keypoints)
            operator, rest = torch.ops.simplematch.gather_keypoints_backward, ("corner", "floor", "zeros", "auto")
            found: Tensor = operator(descriptors, [True, False], source, keypoints, None, None, *rest)[0]
            return found

    with pytest.raises(
        ValueError, match=r"must not compute gradients .* a call of simplematch.gather_keypoints_backward"
    ):
        smk_onnx.export(Gradient(), (SMALL[0], SMALL[2]))
    model = Calls([lambda scores: smk.localize(scores, normalization="sum", window_size=5)])
    with pytest.raises(ValueError, match=r"dynamic_shapes must allow only sizes where .*tensors_0.shape\[2\] >= 5"):
        smk_onnx.export(model, [torch.rand(2, 3, 9, 9)], dynamic_shapes=(({2: DIM},),))


def test_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ImportError, match=r"needs onnxscript, which is not installed \(pip install"):
        smk_onnx.export(Calls([]), SMALL)
