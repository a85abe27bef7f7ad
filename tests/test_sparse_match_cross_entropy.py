"""The cross entropy with a true point: its definition, every backend against the float64 oracle, and its edges."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _resolved
from simplematch_kernels.reference import functional as reference

from .oracle import WIDER, relative_error
from .samples import DEVICE, DTYPES, Inputs, Sample
from .test_gradients import differentiates

NEEDS = ("source", "target", "keypoints", "temperature")
BILINEAR = {"sampling": "bilinear"}
PIXELS = {"source_size": (56, 72), "target_size": (90, 64)}
SAMPLES = (
    Sample("nearest", {"temperature": 0.3}),
    Sample("gaussian", {"kernel_size": 3, "temperature": 0.1}),
    Sample("gaussian-wide", {"kernel_size": 7, "sigma": 2.5}),
    Sample("gaussian-even", {"kernel_size": 4, "sigma": 0.7, "temperature": 0.1}),
    Sample("larger-than-the-map", {"kernel_size": 45, "sigma": 3.0, "temperature": 0.1}),
    Sample("narrow", {"kernel_size": 5, "sigma": 1e-4, "temperature": 0.1}),
    Sample("dot", {"metric": "dot", "kernel_size": 3, "temperature": 4.0}),
    Sample("l2", {"metric": "l2", "kernel_size": 3, "temperature": 4.0, **BILINEAR}),
    Sample("l1", {"metric": "l1", "kernel_size": 3, "temperature": 2.0, **BILINEAR}),
    Sample("clamp", {"eps_mode": "clamp", "eps": 6.0, "kernel_size": 3}),
    Sample("corner", {**PIXELS, "kernel_size": 3}),
    Sample("half-pixel", {**PIXELS, "source_coords": "half_pixel", "target_coords": "half_pixel", "kernel_size": 3}),
    Sample("align-corners", {**PIXELS, "target_coords": "align_corners", **BILINEAR}, keypoints="border"),
    Sample("border-of-both", {"kernel_size": 3, **BILINEAR, "sampling_padding": "border"}, keypoints="border"),
    Sample("temperature-rows", {"kernel_size": 3, **BILINEAR}, temperature="rows"),
    Sample("temperature-scalar", {"kernel_size": 3}, temperature="scalar"),
    Sample("target-mask", {"kernel_size": 3, "temperature": 0.1}, rows=("target_mask",)),
    Sample("all-restrictions", {"kernel_size": 3}, rows=("num_keypoints", "valid", "empty_target_mask")),
    Sample("channels-last", {"kernel_size": 3, **BILINEAR}, layout="channels_last", queries=23, channels=64),
    Sample("sliced", {"kernel_size": 3}, layout="sliced"),
    Sample("expanded", {"kernel_size": 3}, layout="expanded"),
    Sample("one-of-each", {"metric": "dot"}, batch=1, queries=1, channels=1, source_map=(1, 1), target_map=(1, 1)),
    Sample("no-queries", {}, queries=0),
    Sample("no-images", {}, batch=0),
    Sample("one-row", {"kernel_size": 3, **PIXELS}, target_map=(1, 13)),
    Sample("primes", {"kernel_size": 5}, batch=3, queries=37, channels=53, source_map=(13, 11), target_map=(11, 19)),
)
BY_NAME = {sample.name: sample for sample in SAMPLES}
SPREAD = SAMPLES[::4] if _backends.interpreting() else SAMPLES
by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)
by_spread_sample = pytest.mark.parametrize("sample", SPREAD, ids=str)


def truth_of(sample: Sample, inputs: Inputs) -> Tensor:
    """True points, from a cell and a half outside the map on the left to as much on the right."""
    generator = torch.Generator().manual_seed(11)
    height, width = inputs.options.get("target_size") or sample.target_map
    points = torch.rand(sample.batch, sample.queries, 2, generator=generator, dtype=torch.float64)
    cells = torch.tensor(sample.target_map[::-1], dtype=torch.float64)
    points = points * (cells + 2) - 1.5 if sample.keypoints == "border" else points * (cells - 1)
    return (points * torch.tensor([width, height]) / cells).to(inputs.keypoints)


def losses(function: Any, inputs: Inputs, truth: Tensor, *needs: str, **options: Any) -> dict[str, Tensor]:
    """The loss of every row, and gradients of a random sum of them."""
    leaves = inputs.requiring(*needs)
    loss = function(leaves.source, leaves.target, leaves.keypoints, truth, **leaves.options, **options)
    found = {"loss": loss.detach()}
    wanted = leaves.leaves()
    if wanted and loss.requires_grad:
        weights = torch.randn(loss.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(loss)
        gradients = torch.autograd.grad(loss, list(wanted.values()), weights, allow_unused=True)
        found |= {name: g for name, g in zip(wanted, gradients, strict=True) if g is not None}
    return found


def run(inputs: Inputs, truth: Tensor, backend: str, *needs: str) -> dict[str, Tensor]:
    return losses(smk.sparse_match_cross_entropy, inputs, truth, *needs, reduction="none", backend=backend)


def run_reference(inputs: Inputs, truth: Tensor, dtype: torch.dtype, *needs: str) -> dict[str, Tensor]:
    return losses(reference.sparse_match_cross_entropy, inputs, truth, *needs, dtype=dtype)


# ---- the definition ------------------------------------------------------------------------------------------------


def test_nearest_cell_is_the_cross_entropy_of_torch(backend: str) -> None:
    source, target = torch.randn(2, 2, 8, 6, 7, dtype=torch.float64, device=DEVICE).unbind()
    keypoints = torch.tensor([[[1.0, 2.0], [6.0, 5.0], [0.0, 0.0]]] * 2, device=DEVICE)
    truth = torch.tensor([[[2.4, 2.6], [5.5, 4.5], [-0.9, 5.9]]] * 2, device=DEVICE)
    cells = torch.tensor([3 * 7 + 2, 4 * 7 + 6, 5 * 7 + 0] * 2, device=DEVICE)  # halves go to the even cell
    scores = smk.cosine_similarity(smk.gather_keypoints(source, keypoints), target, backend="reference")
    for reduction in ("mean", "sum", "none"):
        expected = F.cross_entropy(scores.flatten(2).flatten(0, 1) / 0.05, cells, reduction=reduction)
        found = smk.sparse_match_cross_entropy(
            source, target, keypoints, truth, temperature=0.05, reduction=reduction, backend=backend
        )
        torch.testing.assert_close(found.flatten(), expected.flatten())


def test_gaussian_is_the_cross_entropy_of_torch_with_probabilities(backend: str) -> None:
    source, target = torch.randn(2, 1, 8, 6, 7, dtype=torch.float64, device=DEVICE).unbind()
    keypoints, point = torch.tensor([[[1.0, 2.0]]], device=DEVICE), (5.25, 0.5)
    scores = smk.cosine_similarity(smk.gather_keypoints(source, keypoints), target, backend="reference")
    y, x = torch.meshgrid(torch.arange(6), torch.arange(7), indexing="ij")
    gaussian = torch.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 0.8**2)).double()
    gaussian = torch.where((x >= 4) & (x <= 6) & (y <= 1), gaussian, 0)  # 3 x 3 round (5, 0), cut by the map
    expected = F.cross_entropy(scores.flatten(2)[0] / 0.1, (gaussian / gaussian.sum()).flatten()[None].to(DEVICE))
    found = smk.sparse_match_cross_entropy(
        source, target, keypoints, torch.tensor([[point]], device=DEVICE), kernel_size=3, sigma=0.8, temperature=0.1,
        backend=backend,
    )  # fmt: skip
    torch.testing.assert_close(found, expected)


def test_sd4match_and_marco_train_with_it(backend: str) -> None:
    """Their loss of points on cells is the truncated Gaussian's sum times ours: theirs isn't renormalised."""
    size, k, temperature = 16, 7, 0.04
    source, target = torch.randn(2, 1, 12, size, size, dtype=torch.float64, device=DEVICE).unbind()
    points = torch.tensor([[[4.0, 5.0], [8.0, 8.0], [11.0, 4.0]]], dtype=torch.float64, device=DEVICE)
    scores = smk.cosine_similarity(smk.gather_keypoints(source, points), target, backend="reference")
    probability = (scores.flatten(2) / temperature).softmax(-1).unflatten(2, (size, size))
    offsets = torch.arange(-(k // 2), k // 2 + 1, dtype=torch.float64, device=DEVICE)
    sigma = k // 2 / 2
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    theirs = torch.zeros((), dtype=torch.float64, device=DEVICE)
    for n, (x, y) in enumerate(points[0].long().tolist()):
        window = probability[0, n, y - k // 2 : y + k // 2 + 1, x - k // 2 : x + k // 2 + 1]
        theirs = theirs - (kernel * window.log()).sum() / 3
    ours = smk.sparse_match_cross_entropy(
        source, target, points, points, kernel_size=k, temperature=temperature, sampling="bilinear", backend=backend
    )
    torch.testing.assert_close(kernel.sum() * ours, theirs)


# ---- against the oracle --------------------------------------------------------------------------------------------


@by_sample
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_agrees_with_the_oracle(sample: Sample, dtype: torch.dtype, backend: str, poisoned_memory: None) -> None:
    inputs = sample.make(dtype)
    truth = truth_of(sample, inputs)
    exact = run_reference(inputs.to(torch.float64), truth.double(), torch.float64, *NEEDS)
    rival = run_reference(inputs, truth, dtype, *NEEDS)
    found = run(inputs, truth, backend, *NEEDS)
    assert found["loss"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.keys() >= exact.keys()
    # A score of float32 rounds by 2^-24, and a probability by that over the temperature, which is at least 0.02.
    least = max(WIDER[dtype], 2**-24 / 0.02) if dtype == torch.float32 else WIDER[dtype]
    for name, value in found.items():
        ours, theirs = relative_error(value, exact[name]), relative_error(rival[name], exact[name])
        allowed = least if math.isnan(theirs) else max(2 * theirs, least)
        assert ours <= allowed, f"{name}: relative error {ours:.2e}, PyTorch's own allows {allowed:.2e}"


@pytest.mark.parametrize("need", NEEDS)
def test_a_gradient_alone_is_that_among_all(need: str, backend: str, poisoned_memory: None) -> None:
    inputs = BY_NAME["temperature-rows"].make(torch.float64)
    truth = truth_of(BY_NAME["temperature-rows"], inputs)
    alone, among_all = run(inputs, truth, backend, need), run(inputs, truth, backend, *NEEDS)
    assert relative_error(alone[need], among_all[need]) < 1e-12


@by_spread_sample
def test_repeats_bitwise_and_within_any_budget(
    sample: Sample, backend: str, poisoned_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = sample.make(torch.float64)
    truth = truth_of(sample, inputs)
    whole, again = (run(inputs, truth, backend, *NEEDS) for _ in range(2))
    monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 1 if sample.queries < 10 else 200_000)
    blocked = run(inputs, truth, backend, *NEEDS)
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name
        assert relative_error(blocked[name], value) < 1e-11, name


@by_spread_sample
def test_descriptors_are_gathered_keypoints(sample: Sample, backend: str) -> None:
    inputs = sample.make(torch.float64)
    truth = truth_of(sample, inputs)
    expected = run(inputs, truth, backend, "source", "target")
    leaves = inputs.requiring("source", "target")
    options = dict(leaves.options)
    gather = {"size": "source_size", "coords": "source_coords", "sampling": "sampling", "padding": "sampling_padding"}
    descriptors = smk.gather_keypoints(
        leaves.source, leaves.keypoints, backend=backend,
        **{name: options.pop(option) for name, option in gather.items() if option in options},
    )  # fmt: skip
    loss = smk.match_descriptors_cross_entropy(
        descriptors, leaves.target, truth, **options, reduction="none", backend=backend
    )
    weights = torch.randn(loss.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(loss)
    found = torch.autograd.grad(loss, [leaves.source, leaves.target], weights)
    for name, value in zip(("loss", "source", "target"), (loss, *found), strict=True):
        assert relative_error(value, expected[name]) < 1e-10, name


@pytest.mark.parametrize("name", ["nearest", "temperature-rows", "target-mask", "l2", "l1", "clamp", "gaussian-even"])
def test_gradients_are_numerical_ones(name: str, backend: str) -> None:
    small = {"batch": 2, "queries": 3, "channels": 4, "source_map": (4, 5), "target_map": (5, 4)}
    sample = replace(BY_NAME[name], **small)
    inputs = sample.make(torch.float64).requiring(*NEEDS[: 4 if "sampling" in sample.options else 2], "temperature")
    leaves, truth = inputs.leaves(), truth_of(sample, inputs)
    leaves = {k: v for k, v in leaves.items() if k != "keypoints" or "sampling" in sample.options}

    def function(*values: Tensor) -> Tensor:
        given = {"source": inputs.source, "target": inputs.target, "keypoints": inputs.keypoints, **inputs.options}
        given.update(zip(leaves, values, strict=True))
        return smk.sparse_match_cross_entropy(target_keypoints=truth, **given, reduction="none", backend=backend)

    assert differentiates(function, tuple(leaves.values()), backend)


# ---- rows that don't count -----------------------------------------------------------------------------------------


def test_the_mean_is_that_of_the_valid_rows(backend: str) -> None:
    inputs = BY_NAME["all-restrictions"].make(torch.float64)
    truth = truth_of(BY_NAME["all-restrictions"], inputs)
    each = run(inputs, truth, backend)["loss"]
    call = lambda **o: smk.sparse_match_cross_entropy(  # noqa: E731
        inputs.source, inputs.target, inputs.keypoints, truth, **{**inputs.options, **o}, backend=backend
    )
    counted = (each != 0).sum()
    assert 0 < counted < each.numel()
    torch.testing.assert_close(call(), each.sum() / counted)
    torch.testing.assert_close(call(reduction="sum"), each.sum())
    nobody = call(valid=torch.zeros_like(each, dtype=torch.bool))
    assert nobody.item() == 0


def test_a_point_a_cell_outside_is_invalid(backend: str) -> None:
    source, target = torch.randn(2, 1, 8, 6, 7, device=DEVICE).unbind()
    inside = torch.tensor([[-0.99, 2.0], [6.99, 2.0], [3.0, -0.99], [3.0, 5.99]])
    outside = torch.tensor([[-1.0, 2.0], [7.0, 2.0], [3.0, -1.0], [3.0, 6.0], [1e30, 0.0]])
    nearest = torch.tensor([[0.0, 2.0], [6.0, 2.0], [3.0, 0.0], [3.0, 5.0]])
    call = lambda points: smk.sparse_match_cross_entropy(  # noqa: E731
        source, target, torch.zeros(1, len(points), 2, device=DEVICE), points[None].to(DEVICE), kernel_size=3,
        reduction="none", backend=backend,
    )  # fmt: skip
    assert torch.equal(call(inside), call(nearest)) and (call(inside) > 0).all()
    assert (call(outside) == 0).all()


def test_a_masked_window_is_invalid(backend: str) -> None:
    source, target = torch.randn(2, 1, 8, 6, 7, device=DEVICE).unbind()
    target.requires_grad_()
    mask = torch.ones(1, 6, 7, dtype=torch.bool, device=DEVICE)
    mask[0, :3, :3] = False
    points = torch.tensor([[[1.0, 1.0], [2.0, 2.0]]], device=DEVICE)  # (3, 3) is left to the second
    loss = smk.sparse_match_cross_entropy(
        source, target, points, points, kernel_size=3, target_mask=mask, reduction="none", backend=backend
    )
    assert loss[0, 0] == 0 and loss[0, 1] > 0
    loss[0, 0].backward()
    assert (target.grad == 0).all()


def test_padding_may_hold_anything(backend: str) -> None:
    """Invalid rows get no gradient and pass on none, whatever they and their upstream gradient hold."""
    inputs = BY_NAME["temperature-rows"].make(torch.float64)
    valid = torch.tensor([[True, True, False, True, True]] * 2, device=DEVICE)
    keypoints, truth = inputs.keypoints.clone(), truth_of(BY_NAME["temperature-rows"], inputs)
    keypoints[:, 2], truth[:, 2] = torch.nan, torch.inf
    truth[:, 3] = -50.0  # outside
    leaves = replace(inputs, keypoints=keypoints).requiring(*NEEDS)
    loss = smk.sparse_match_cross_entropy(
        leaves.source, leaves.target, leaves.keypoints, truth, **leaves.options, valid=valid, reduction="none",
        backend=backend,
    )  # fmt: skip
    assert (loss[:, 2:4] == 0).all() and loss.isfinite().all()
    upstream = torch.ones_like(loss)
    upstream[:, 2:4] = torch.nan
    loss.backward(upstream)
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves.leaves().values())
    assert (leaves.keypoints.grad[:, 2:4] == 0).all() and (leaves.options["temperature"].grad[:, 2:4] == 0).all()


def test_nan_stays_in_its_row(backend: str) -> None:
    inputs = BY_NAME["gaussian"].make()
    truth = truth_of(BY_NAME["gaussian"], inputs)
    x, y = inputs.keypoints[0, 1].long().tolist()
    inputs.source[0, 3, y, x] = torch.nan
    lost = (inputs.keypoints[0].long() == inputs.keypoints[0, 1].long()).all(-1)
    leaves = inputs.requiring("source", "target")
    loss = smk.sparse_match_cross_entropy(
        leaves.source, leaves.target, leaves.keypoints, truth, **leaves.options, reduction="none", backend=backend
    )
    assert torch.equal(loss.isnan()[0], lost) and loss[1].isfinite().all()
    torch.where(loss.isnan(), 0, loss).sum().backward(retain_graph=True)
    assert leaves.source.grad.isfinite().all() and leaves.target.grad.isfinite().all()
    leaves.source.grad = leaves.target.grad = None
    loss.sum().backward()
    assert leaves.target.grad[0].isnan().all() and leaves.target.grad[1].isfinite().all()


def test_a_hopeless_row_has_a_finite_loss(backend: str) -> None:
    """Where the probability of the true cell underflows, log(softmax) would be -inf."""
    source = torch.ones(1, 4, 1, 1, device=DEVICE)
    target = torch.ones(1, 4, 2, 3, device=DEVICE)
    target[..., 0, 0] = -1.0
    point = torch.zeros(1, 1, 2, device=DEVICE)
    target.requires_grad_()
    loss = smk.sparse_match_cross_entropy(source, target, point, point, temperature=0.001, backend=backend)
    assert loss.item() == pytest.approx(2 / 0.001 + math.log(5), rel=1e-5)
    loss.backward()
    assert target.grad.isfinite().all()
