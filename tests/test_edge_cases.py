"""Ties, NaN, padding that holds garbage, empty inputs, fused keypoints: the corners of the specification."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends
from simplematch_kernels._options import LocalizationOptions
from simplematch_kernels._types import LocalizeProblem, Rows

from .oracle import relative_error, run_backend, run_reference
from .samples import DEVICE, SAMPLES, Sample

BY_NAME = {sample.name: sample for sample in SAMPLES}
LOCALIZATIONS = ("argmax", "window", "global", "gaussian")


def options_of(localization: str) -> dict[str, object]:
    return {"localization": localization, "window_size": 3, "sigma": 2.0}


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_the_lowest_index_wins_a_tie(value: float, backend: str) -> None:
    scores = torch.full((1, 2, 37, 41), value, device=DEVICE)
    scores[0, 1, 20, 30] = scores[0, 1, 20, 29] = scores[0, 1, 36, 40] = value + 1
    assert smk.localize(scores, backend=backend).peak.tolist() == [[0, 20 * 41 + 29]]
    descriptors = torch.ones(1, 1, 8, device=DEVICE)
    target = torch.ones(1, 8, 21, 23, device=DEVICE)
    assert smk.match_descriptors(descriptors, target, backend=backend).peak.item() == 0
    target[:, :, 0] = -1
    assert smk.match_descriptors(descriptors, target, backend=backend).peak.item() == 23


def test_negative_zero_ties_with_zero(backend: str) -> None:
    scores = torch.tensor([[[[-0.0, 0.0, -1.0]]]], device=DEVICE)
    assert smk.localize(scores, backend=backend).peak.item() == 0


@pytest.mark.parametrize("localization", LOCALIZATIONS)
def test_a_nan_stays_in_its_row(localization: str, backend: str) -> None:
    inputs = BY_NAME["window"].make()
    inputs.options.clear()
    inputs.options.update(options_of(localization))
    clean = run_backend(inputs, backend)
    cell = inputs.keypoints[1, 2].long()
    source = inputs.source.clone()
    source[1, 3, cell[1], cell[0]] = math.nan
    matches = smk.sparse_window_match(source, inputs.target, inputs.keypoints, **inputs.options, backend=backend)
    same_cell = (inputs.keypoints.long() == cell).all(-1)
    same_cell[0] = False
    assert same_cell[1, 2]
    for name in ("keypoints", "score", "log_sum_exp"):
        dirty, expected = getattr(matches, name), getattr(clean.matches, name)
        assert dirty[same_cell].isnan().all()
        assert torch.equal(dirty[~same_cell], expected[~same_cell])
    assert torch.equal(matches.peak[~same_cell], clean.matches.peak[~same_cell])
    assert (matches.peak[same_cell] == 0).all()  # NaN counts as the greatest score, so the first cell is the peak


def test_a_nan_cell_reaches_every_row_of_its_image_only(backend: str) -> None:
    inputs = BY_NAME["window"].make()
    clean = run_backend(inputs, backend)
    target = inputs.target.clone()
    target[0, 1, 4, 5] = math.nan
    matches = smk.sparse_window_match(inputs.source, target, inputs.keypoints, **inputs.options, backend=backend)
    assert (matches.peak[0] == 4 * 8 + 5).all() and matches.keypoints[0].isnan().all()
    assert torch.equal(matches.keypoints[1], clean.matches.keypoints[1])
    mask = torch.ones(2, 9, 8, dtype=torch.bool, device=DEVICE)
    mask[0, 4, 5] = False  # a masked cell is as if it weren't there
    masked = smk.sparse_window_match(
        inputs.source, target, inputs.keypoints, **inputs.options, target_mask=mask, backend=backend
    )
    assert masked.keypoints.isfinite().all()


@pytest.mark.parametrize("localization", LOCALIZATIONS)
@pytest.mark.parametrize("sampling", ["floor", "bilinear"])
def test_padding_passes_on_no_gradient(localization: str, sampling: str, backend: str) -> None:
    """Whatever the padding holds and whatever arrives from above: NaN here too."""
    inputs = BY_NAME["valid"].make()
    options = {**inputs.options, **options_of(localization), "sampling": sampling}
    valid = options["valid"]
    assert isinstance(valid, Tensor) and valid.any() and not valid.all()
    found = {}
    for garbage in (0.0, math.nan):
        keypoints = torch.where(valid[..., None], inputs.keypoints, garbage).requires_grad_()
        temperature = torch.where(valid, inputs.options["temperature"], 1.0).requires_grad_()
        source, target = inputs.source.clone().requires_grad_(), inputs.target.clone().requires_grad_()
        matches = smk.sparse_window_match(
            source, target, keypoints, **{**options, "temperature": temperature}, backend=backend
        )
        outputs = [matches.keypoints, matches.score, matches.log_sum_exp]
        for output, filler in zip(outputs, (-1, 0, 0), strict=True):
            assert (output[~valid] == filler).all()
        assert (matches.peak[~valid] == -1).all()
        upstream = [torch.ones_like(o) for o in outputs]
        for u in upstream:
            u[~valid] = garbage
        leaves = [source, target, temperature] + ([keypoints] if sampling == "bilinear" else [])
        found[garbage] = torch.autograd.grad(outputs, leaves, upstream)
    for clean, dirty in zip(found[0.0], found[math.nan], strict=True):
        assert torch.equal(clean, dirty)
    assert (found[math.nan][2][~valid] == 0).all()


def test_rows_without_a_target_cell_are_invalid(backend: str) -> None:
    inputs = BY_NAME["window"].make()
    mask = torch.ones(2, 9, 8, dtype=torch.bool, device=DEVICE)
    mask[1] = False
    leaves = inputs.requiring("source", "target")
    matches = smk.sparse_window_match(leaves.source, leaves.target, leaves.keypoints, target_mask=mask, backend=backend)
    assert (matches.keypoints[1] == -1).all() and (matches.peak[1] == -1).all()
    assert (matches.score[1] == 0).all() and (matches.log_sum_exp[1] == 0).all()
    matches.keypoints.sum().backward()
    assert leaves.source.grad is not None and leaves.target.grad is not None
    assert (leaves.source.grad[1] == 0).all() and (leaves.target.grad[1] == 0).all()
    assert leaves.target.grad[0].abs().sum() > 0


def test_num_keypoints_equals_valid(backend: str) -> None:
    inputs = BY_NAME["window"].make()
    counts = torch.tensor([3, 0], device=DEVICE)
    valid = torch.arange(5, device=DEVICE) < counts[:, None]
    by_count, by_mask, by_both = (
        smk.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, **rows, backend=backend)
        for rows in (
            {"num_keypoints": counts},
            {"valid": valid},
            {"num_keypoints": counts.int(), "valid": torch.ones_like(valid)},
        )
    )
    for a, b, c in zip(by_count, by_mask, by_both, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_keypoints_in_one_cell_share_its_gradient(backend: str) -> None:
    """Fused keypoints: the gradients of all rows that read a cell are summed there."""
    inputs = BY_NAME["window"].make(torch.float64)
    inputs.keypoints[:] = torch.tensor([3.3, 2.6])
    exact = run_reference(inputs, torch.float64, "source")
    found = run_backend(inputs, backend, "source")
    gradient = found.gradients["source"]
    assert relative_error(gradient, exact.gradients["source"]) < 1e-11
    assert gradient[:, :, 2, 3].abs().sum() > 0
    gradient[:, :, 2, 3] = 0
    assert (gradient == 0).all()


def test_only_some_outputs_are_used(backend: str) -> None:
    inputs = BY_NAME["temperature-rows"].make(torch.float64)
    exact, leaves = (
        inputs.requiring("source", "target", "temperature"),
        inputs.requiring("source", "target", "temperature"),
    )
    for name in ("keypoints", "score", "log_sum_exp"):
        expected = getattr(run_reference(inputs, torch.float64).matches, name)
        matches = smk.sparse_window_match(
            leaves.source, leaves.target, leaves.keypoints, **leaves.options, backend=backend
        )
        assert relative_error(getattr(matches, name), expected) < 1e-11
        gradients = torch.autograd.grad(getattr(matches, name).sum(), list(leaves.leaves().values()))
        again = smk.sparse_window_match(
            exact.source, exact.target, exact.keypoints, **exact.options, backend="reference"
        )
        for a, b in zip(
            gradients, torch.autograd.grad(getattr(again, name).sum(), list(exact.leaves().values())), strict=True
        ):
            assert relative_error(a, b) < 1e-10


def test_probability_of_the_peak(backend: str) -> None:
    scores = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    matches = smk.localize(scores, localization="global", temperature=0.5, backend=backend)
    probability = (scores / 0.5).flatten(2).softmax(-1).max(-1).values
    torch.testing.assert_close((matches.score / 0.5 - matches.log_sum_exp).exp(), probability)


@pytest.mark.parametrize("border", ["shift", "shrink"])
def test_extract_windows(border: str, backend: str) -> None:
    scores = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).to(DEVICE).requires_grad_()
    windows, top_left = smk.extract_windows(scores, window_size=(4, 3), border=border, backend=backend)
    assert windows.shape == (2, 3, 4, 3) and top_left.shape == (2, 3, 2) and top_left.dtype == torch.int64
    padded = torch.nn.functional.pad(scores.detach(), (3, 3, 4, 4), value=-torch.inf)
    for b in range(2):
        for n in range(3):
            x, y = top_left[b, n].tolist()
            assert torch.equal(windows[b, n], padded[b, n, y + 4 : y + 8, x + 3 : x + 6])
            assert windows[b, n].max() == scores[b, n].max()
    windows[windows.isfinite()].sum().backward()
    assert scores.grad is not None and scores.grad.sum() == windows.isfinite().sum()
    whole, corner = smk.extract_windows(scores.detach(), window_size=45, backend=backend)
    assert torch.equal(whole, scores.detach()) and (corner == 0).all()


def test_caller_scores_may_hold_minus_infinity(backend: str) -> None:
    scores = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    scores[:, :, :, 3:] = -math.inf
    scores.requires_grad_()
    temperature = torch.tensor(0.5, device=DEVICE, requires_grad=True)
    matches = smk.localize(scores, localization="global", temperature=temperature, backend=backend)
    assert (matches.keypoints[..., 0] <= 2).all()
    matches.keypoints.sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all() and (scores.grad[..., 3:] == 0).all()
    assert temperature.grad is not None and temperature.grad.isfinite()


@pytest.mark.parametrize("wrong", [0.0, -0.5, math.nan])
def test_a_temperature_that_is_not_above_zero_answers_nan(wrong: float, backend: str) -> None:
    """In the kernels, which is what a GPU sees; for CPU tensors the operator raises before it gets there."""
    scores = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    temperature = torch.tensor([[0.5, wrong, 0.5]], device=DEVICE)
    localization = LocalizationOptions(window_size=(3, 3), fixed_temperature=None).resolve(4, 5)
    run = _backends.select(backend, DEVICE).localize
    matches = run(LocalizeProblem(scores, Rows(), temperature, localization))
    assert matches.keypoints[0, 1].isnan().all() and matches.log_sum_exp[0, 1].isnan()
    assert matches.keypoints[0, [0, 2]].isfinite().all()
    rows = Rows(num_keypoints=torch.tensor([1], device=DEVICE))
    padded = run(LocalizeProblem(scores, rows, temperature, localization))
    assert (padded.keypoints[0, 1:] == -1).all() and (padded.log_sum_exp[0, 1:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_large_and_tiny_features_keep_their_direction(dtype: torch.dtype, backend: str) -> None:
    """A cosine doesn't depend on the scale; norms are taken in float32."""
    inputs = BY_NAME["window"].make(dtype)
    plain = run_backend(inputs, backend)
    for scale in (2.0**9, 2.0**-9):
        scaled = smk.sparse_window_match(
            inputs.source * scale, inputs.target * scale, inputs.keypoints, **inputs.options, eps=1e-12, backend=backend
        )
        assert torch.equal(scaled.peak, plain.matches.peak)
        assert relative_error(scaled.keypoints, plain.matches.keypoints) < (1e-4 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients_keep_the_memory_format(layout: str, backend: str) -> None:
    sample = Sample("format", {"window_size": 3}, layout=layout)
    inputs = sample.make()
    for name, gradient in run_backend(inputs, backend, "source", "target").gradients.items():
        assert gradient.stride() == getattr(inputs, name).stride(), name


@pytest.mark.skipif(DEVICE.type != "cuda", reason="9 GB of device memory")
def test_more_than_two_to_the_31_elements(backend: str) -> None:
    if backend == "reference":
        pytest.skip("the definition is not written for memory")
    target = torch.zeros(1, 70_000, 176, 176, dtype=torch.bfloat16, device=DEVICE)
    target[0, -1, 170, 171] = 1
    descriptors = torch.zeros(1, 1, 70_000, dtype=torch.bfloat16, device=DEVICE)
    descriptors[0, 0, -1] = 1
    matches = smk.match_descriptors(descriptors, target, backend=backend)
    assert matches.peak.item() == 170 * 176 + 171
