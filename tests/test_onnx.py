"""Exported models, run by onnxruntime on the CPU: they answer as PyTorch does, at sizes other than the example's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import simplematch_kernels as smk

from .samples import SAMPLES as MATCH_SAMPLES
from .samples import SIMULATED
from .test_golden import load

pytest.importorskip("onnx", reason="onnx is not installed (pip install simplematch-kernels[onnx])")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install simplematch-kernels[onnx])")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install onnxruntime)")

from simplematch_kernels import onnx as smk_onnx  # noqa: E402  (after the packages that it needs)

pytestmark = pytest.mark.skipif(SIMULATED, reason="no kernel runs in an exported model")
TOLERANCE = 1e-5
"""Of the largest value."""
DIM = torch.export.Dim.DYNAMIC
MAPS, POINTS, ROWS = {0: DIM, 2: DIM, 3: DIM}, {0: DIM, 1: DIM}, {0: DIM}


class Calls(nn.Module):
    """Several calls in one model: an export takes seconds, most of them whatever the model."""

    def __init__(self, calls: Sequence[Callable[..., Any]]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        found = [call(*tensors) for call in self.calls]
        return [x for each in found for x in ([each] if isinstance(each, Tensor) else each) if x is not None]


def exported(model: nn.Module, inputs: Sequence[Tensor], dims: Sequence[Any], path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's exporter
        smk_onnx.export(model, inputs, path, dynamic_shapes=(tuple(dims),))
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_equal(session: Any, model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Equal indices and masks, NaN in the same places, and values within the tolerance."""
    with torch.no_grad():
        expected = model(*inputs)
    names = [each.name for each in session.get_inputs()]
    found = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    for i, (value, truth) in enumerate(zip(map(torch.from_numpy, found), expected, strict=True)):
        assert value.dtype == truth.dtype and value.shape == truth.shape, i
        if truth.is_floating_point():
            finite = truth[truth.isfinite()].abs()
            atol = TOLERANCE * float(finite.max()) if len(finite) else 0.0
            torch.testing.assert_close(value, truth, rtol=0, atol=atol, equal_nan=True, msg=lambda m, i=i: f"{i}: {m}")
        else:
            assert torch.equal(value, truth), i


def draw(seed: int, batch: int, queries: int, source: tuple[int, int], target: tuple[int, int]) -> list[Tensor]:
    """[source (B, 20, Hs, Ws), target (B, 20, Ht, Wt), keypoints (B, N, 2) in cells]; the first has two best cells."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 20, *size, generator=generator) for size in (source, target)]
    points = torch.rand(batch, queries, 2, generator=generator) * torch.tensor([source[1] - 1.0, source[0] - 1.0])
    maps[1][:, :, 2, 3] = maps[1][:, :, 1, 2] = maps[0][:, :, 1, 1]  # a tie of two cells
    points[:, 0] = 1.0
    return [*maps, points]


SMALL, OTHER = draw(0, 2, 5, (7, 9), (9, 8)), draw(1, 3, 8, (6, 5), (12, 13))
IN_MAPS = (MAPS, MAPS, POINTS)


def matching(**options: Any) -> Callable[..., Any]:
    return lambda source, target, keypoints: smk.sparse_window_match(source, target, keypoints, **options)


GROUPS: dict[str, list[Callable[..., Any]]] = {
    "windows": [
        matching(window_size=5),
        matching(window_size=(6, 2), border="shrink", source_size=(56, 72), target_size=(90, 64)),
        matching(window_size=10, window_shape="disc"),  # cells lie on its edge
        matching(window_size=20, outside_value=0.0),
    ],
    "localizations": [
        matching(localization="argmax", sampling="round", metric="dot", target_coords="half_pixel", target_size=(9, 9)),
        matching(localization="global", sampling="bilinear", source_coords="align_corners", source_size=(40, 30)),
        matching(localization="gaussian", sigma=1.7, eps_mode="clamp", eps=1e-6, temperature=0.1),
    ],
    "details": [
        matching(window_size=5, return_covariance=True, return_second=True),
        matching(window_size=3, top_k=3, top_radius=1, return_scores=True),
        matching(window_size=5, source_interpolation="matches"),
    ],
    "distances": [
        matching(window_size=5, metric="l2", temperature=4.0),
        matching(window_size=5, metric="l1", temperature=2.0),
    ],
}


@pytest.mark.parametrize("group", GROUPS)
def test_matches_as_pytorch_does(group: str, tmp_path: Path) -> None:
    model = Calls(GROUPS[group])
    session = exported(model, SMALL, IN_MAPS, tmp_path / "model.onnx")
    for inputs in (SMALL, OTHER):
        assert_equal(session, model, inputs)


def test_other_functions(tmp_path: Path) -> None:
    def descriptors(x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    model = Calls(
        [
            lambda s, t, k: smk.gather_keypoints(s, k, size=(50, 60), sampling="bilinear", padding="border"),
            lambda s, t, k: smk.cosine_similarity(descriptors(s), t),
            lambda s, t, k: smk.match_descriptors(descriptors(s), t, window_size=5, temperature=0.1),
            lambda s, t, k: smk.localize(smk.cosine_similarity(descriptors(s), t), window_size=3, border="shrink"),
            lambda s, t, k: smk.match_all(s, t, temperature=0.1, bin_score=0.4, return_second=True),
            lambda s, t, k: smk.local_correlation(s[:, :, 0, :4].mT, t, k[:, :4], radius=2, metric="cosine"),
        ]
    )
    session = exported(model, SMALL, IN_MAPS, tmp_path / "model.onnx")
    for inputs in (SMALL, OTHER):
        assert_equal(session, model, inputs)


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
    for drawn in (SMALL, OTHER):
        assert_equal(session, model, inputs(drawn))


@pytest.mark.parametrize("sample", [each for each in MATCH_SAMPLES if each.name == "border-bilinear-zeros"], ids=str)
def test_a_descriptor_of_zeros_scores_zero(sample: Any, tmp_path: Path) -> None:
    """The optimizer of PyTorch's exporter leaves out a sum with a small constant."""
    made = sample.make()
    model = Calls([matching(**made.options)])
    inputs = [made.source.cpu(), made.target.cpu(), made.keypoints.cpu()]
    assert_equal(exported(model, inputs, IN_MAPS, tmp_path / "model.onnx"), model, inputs)


@pytest.mark.parametrize("name", ("simplematch_window15", "tapir_scores_disc5"))
def test_golden_vectors(name: str, shared_data: Path, tmp_path: Path) -> None:
    arrays, options = load(shared_data, name, torch.device("cpu"))
    if "scores" in arrays:
        model, inputs = Calls([lambda scores: smk.localize(scores, **options)]), [arrays["scores"]]
        dims: list[Any] = [{1: DIM}]
    else:
        inputs = [arrays[key] for key in ("source", "target", "keypoints", "num_keypoints")]
        dims = [ROWS, ROWS, POINTS, ROWS]
        model = Calls([lambda s, t, k, n: smk.sparse_window_match(s, t, k, num_keypoints=n, **options)])
    assert_equal(exported(model, inputs, dims, tmp_path / "model.onnx"), model, inputs)


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


def test_losses(tmp_path: Path) -> None:
    """Validation needs them too."""
    model = Calls(
        [
            lambda s, t, k: smk.sparse_match_cross_entropy(s, t, k, k.flip(1) + 0.3, reduction="none"),
            lambda s, t, k: smk.sparse_match_cross_entropy(s, t, k, k, kernel_size=3, sigma=0.8, metric="dot"),
            lambda s, t, k: smk.match_descriptors_cross_entropy(smk.gather_keypoints(s, k), t, k, reduction="sum"),
        ]
    )
    session = exported(model, SMALL, IN_MAPS, tmp_path / "model.onnx")
    for inputs in (SMALL, OTHER):
        assert_equal(session, model, inputs)


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
