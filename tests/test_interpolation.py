"""source_interpolation="matches": four cells are matched, and their results are blended."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _native

from .oracle import assert_as_good_as, relative_error, run_backend, run_reference
from .samples import DEVICE, SIMULATED, Inputs, Sample
from .test_gradients import differentiates

PIXELS = {"source_size": (56, 72), "target_size": (90, 64)}
OF_MATCHES = {"source_interpolation": "matches"}
CASES = (
    Sample("window", {**OF_MATCHES, "window_size": 3}),
    Sample("argmax", {**OF_MATCHES, **PIXELS, "source_coords": "align_corners", "localization": "argmax"}),
    Sample(
        "all-restrictions",
        {**OF_MATCHES, **PIXELS, "source_coords": "half_pixel", "window_size": 5},
        rows=("num_keypoints", "valid", "empty_target_mask"),
        temperature="rows",
        own_sizes=True,
    ),
    Sample("border", {**OF_MATCHES, "localization": "global"}, keypoints="border"),
    Sample("one-row", {**OF_MATCHES, "window_size": 3}, source_map=(1, 9), layout="channels_last"),
    Sample("one-cell", {**OF_MATCHES, "window_size": 3}, source_map=(1, 1)),
    Sample("no-queries", OF_MATCHES, queries=0),
    Sample("sliced", {**OF_MATCHES, "metric": "l2", "temperature": 4.0}, layout="sliced"),
)
NEEDS = ("source", "target", "keypoints", "temperature")
by_case = pytest.mark.parametrize("sample", CASES, ids=str)


@by_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_agrees_with_the_oracle(sample: Sample, dtype: torch.dtype, backend: str, poisoned_memory: None) -> None:
    inputs = sample.make(dtype)
    exact = run_reference(inputs.to(torch.float64), torch.float64, *NEEDS)
    assert_as_good_as(
        run_backend(inputs, backend, *NEEDS), run_reference(inputs, dtype, *NEEDS), exact, dtype, sample=sample
    )


def blended(inputs: Inputs, b: int, n: int, backend: str) -> tuple[Tensor, float, int]:
    """Point, score and peak of one query, from four calls of one cell each."""
    height, width = inputs.source.shape[2:]
    x, y = inputs.keypoints[b, n].tolist()
    x, y = min(max(x, 1e-5), width - 1 - 1e-5), min(max(y, 1e-5), height - 1 - 1e-5)
    point, score, best = torch.zeros(2, dtype=torch.float64, device=DEVICE), 0.0, (-1.0, -1)
    for j in (math.floor(y), math.floor(y) + 1):
        for i in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(x - i)) * (1 - abs(y - j))
            cell = torch.tensor([[[i, j]]], dtype=torch.float64, device=DEVICE)
            options = {k: v for k, v in inputs.options.items() if k != "source_interpolation"}
            one = smk.sparse_window_match(
                inputs.source[b : b + 1], inputs.target[b : b + 1], cell, **options, backend=backend
            )  # fmt: skip
            point, score = point + weight * one.keypoints[0, 0], score + weight * float(one.score)
            best = max(best, (weight, int(one.peak)), key=lambda of_cell: of_cell[0])
    return point, score, best[1]


def test_blends_four_calls(backend: str) -> None:
    inputs = CASES[0].make(torch.float64)
    matches = smk.sparse_window_match(
        inputs.source, inputs.target, inputs.keypoints, **inputs.options, backend=backend
    )  # fmt: skip
    for b, n in ((0, 0), (1, 3)):
        point, score, peak = blended(inputs, b, n, backend)
        torch.testing.assert_close(matches.keypoints[b, n], point)
        assert float(matches.score[b, n]) == pytest.approx(score)
        assert int(matches.peak[b, n]) == peak


def test_a_whole_cell_is_its_own_match(backend: str) -> None:
    inputs = CASES[0].make(torch.float64)
    cells = torch.tensor([[[1.0, 2.0], [5.0, 4.0]]] * 2, dtype=torch.float64, device=DEVICE)
    found = smk.sparse_window_match(inputs.source, inputs.target, cells, **inputs.options, backend=backend)
    options = {**inputs.options, "source_interpolation": "features"}
    expected = smk.sparse_window_match(inputs.source, inputs.target, cells, **options, backend=backend)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-12


def test_gradients(backend: str) -> None:
    options = {**OF_MATCHES, "window_size": 3, "temperature": 0.3}
    inputs = Sample(
        "small", options, batch=1, queries=3, channels=4, source_map=(4, 5), target_map=(5, 4)
    ).make(torch.float64)  # fmt: skip
    leaves = inputs.requiring("source", "target", "keypoints").leaves()

    def run(source: Tensor, target: Tensor, keypoints: Tensor) -> tuple[Tensor, ...]:
        matches = smk.sparse_window_match(source, target, keypoints, **options, backend=backend)
        return matches.keypoints, matches.score, matches.log_sum_exp

    assert differentiates(run, tuple(leaves.values()), backend)


def test_padding_passes_on_no_gradient(backend: str) -> None:
    inputs = CASES[0].make(torch.float32)
    source, target = inputs.source.requires_grad_(), inputs.target.requires_grad_()
    points = inputs.keypoints.clone()
    points[:, -1] = math.nan
    points.requires_grad_()
    counts = torch.full((2,), points.shape[1] - 1, device=DEVICE)
    matches = smk.sparse_window_match(
        source, target, points, num_keypoints=counts, **inputs.options, backend=backend
    )  # fmt: skip
    assert (matches.keypoints[:, -1] == -1).all() and (matches.peak[:, -1] == -1).all()
    (matches.keypoints.sum() + matches.score.sum() + matches.log_sum_exp.sum()).backward()
    for leaf in (source, target, points):
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert points.grad is not None and (points.grad[:, -1] == 0).all() and (points.grad[:, :-1] != 0).any()


@pytest.mark.skipif(DEVICE.type != "cpu", reason="values on a GPU are checked in the kernels")
def test_wrong_values_are_named_by_their_own_row(backend: str) -> None:
    inputs = CASES[0].make(torch.float32)
    points = inputs.keypoints.clone()
    points[1, 2, 0] = math.inf
    with pytest.raises(ValueError, match=r"keypoints must be finite .* in batch 1, row 2"):
        smk.sparse_window_match(inputs.source, inputs.target, points, **inputs.options, backend=backend)
    counts = torch.tensor([5, 6])
    with pytest.raises(ValueError, match="between 0 and the number of keypoints, 5, got"):
        smk.sparse_window_match(
            inputs.source, inputs.target, inputs.keypoints, num_keypoints=counts, **inputs.options, backend=backend
        )  # fmt: skip
    sizes = torch.tensor([[4, 4], [4, 0]])
    with pytest.raises(ValueError, match=r"source_size must hold sizes of at least 1 x 1 pixel, got \(4, 0\)"):
        smk.sparse_window_match(
            inputs.source, inputs.target, inputs.keypoints, source_size=sizes, **inputs.options, backend=backend
        )  # fmt: skip


def test_a_wrong_choice_is_refused() -> None:
    inputs = CASES[0].make(torch.float32)
    with pytest.raises(ValueError, match="source_interpolation must be one of 'features', 'matches', got 'scores'"):
        smk.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, source_interpolation="scores")


@pytest.mark.skipif(_backends.interpreting(), reason="the interpreter needs no compiler")
def test_compile_and_vmap(backend: str) -> None:
    inputs = CASES[0].make(torch.float32)

    def run(source: Tensor, target: Tensor, keypoints: Tensor) -> Tensor:
        matches = smk.sparse_window_match(source, target, keypoints, **inputs.options, backend=backend)
        return matches.keypoints

    arguments = (inputs.source, inputs.target, inputs.keypoints)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), run(*arguments))
    mapped = torch.vmap(lambda *xs: run(*(x[None] for x in xs))[0])(*arguments)
    torch.testing.assert_close(mapped, run(*arguments))


@pytest.mark.skipif(SIMULATED or _native.why_not() is not None, reason="needs the compiled module")
@by_case
def test_numpy_gives_the_same_bits(sample: Sample) -> None:
    import simplematch_kernels.numpy as smn

    inputs = sample.make(torch.float32, torch.device("cpu"))
    expected = smk.sparse_window_match(
        inputs.source, inputs.target, inputs.keypoints, **inputs.options, backend="cpu"
    )  # fmt: skip
    arrays: dict[str, Any] = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in inputs.options.items()}
    found = smn.sparse_window_match(inputs.source.numpy(), inputs.target.numpy(), inputs.keypoints.numpy(), **arrays)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.numpy().dtype and ours.tobytes() == theirs.numpy().tobytes()
