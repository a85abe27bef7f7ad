"""The option `upsample` against the upsampled map itself: F.interpolate, then the reference in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk
import simplematch_kernels.numpy as smk_numpy
from simplematch_kernels import _backends, _resolved
from simplematch_kernels.operators import neighbour_products
from simplematch_kernels.reference import functional as reference
from simplematch_kernels.reference import upsample as definition

from .oracle import Result, assert_as_good_as, gradients, relative_error
from .samples import DEVICE, DTYPES, Inputs, Sample, lay_out
from .traces import Calls, compiled

FINE = (21, 17)
_PIXELS = {"source_size": (56, 72), "target_size": (90, 64)}

SAMPLES: tuple[Sample, ...] = (
    Sample("window", {"window_size": 5}),
    Sample("window-shrink", {"window_size": (6, 4), "border": "shrink"}),
    Sample("disc-outside", {"window_size": 7, "window_shape": "disc", "outside_value": -0.1}),
    Sample("argmax", {"localization": "argmax"}),
    Sample("global", {"localization": "global"}),
    Sample("gaussian", {"localization": "gaussian", "sigma": 3.0}),
    Sample("dot", {"metric": "dot", "window_size": 5, "temperature": 4.0}),
    Sample("l2", {"metric": "l2", "window_size": 5, "temperature": 4.0}),
    Sample("l2-global", {"metric": "l2", "localization": "global", "temperature": 4.0}),
    Sample("clamp", {"eps_mode": "clamp", "eps": 1e-6, "window_size": 5}),
    Sample("clamp-above-the-norms", {"eps_mode": "clamp", "eps": 6.0, "window_size": 5}),
    Sample("large-eps", {"eps": 0.5, "window_size": 5}),
    Sample("pixels", {**_PIXELS, "target_coords": "half_pixel", "source_coords": "align_corners", "window_size": 9}),
    Sample("bilinear", {"sampling": "bilinear", "window_size": 5, "output_offset": 0.5}),
    Sample("temperature-rows", {"localization": "global"}, temperature="rows"),
    Sample("temperature-scalar", {"window_size": 5}, temperature="scalar"),
    Sample("rows", {"window_size": 5, "sampling": "bilinear"}, rows=("num_keypoints", "valid")),
    *(Sample(layout, {"window_size": 5}, layout=layout) for layout in ("channels_last", "sliced", "tokens")),
    Sample("one-row", {"window_size": 5}, target_map=(1, 8)),
    Sample("one-cell", {"window_size": 5}, target_map=(1, 1)),
    Sample("smaller", {"window_size": 5}, target_map=(30, 25)),
    Sample("mixed", {"window_size": 5}, target_map=(30, 6)),
    Sample("same", {"window_size": 5}, target_map=FINE),
    Sample("no-queries", {"window_size": 5}, queries=0),
    Sample("no-images", {"window_size": 5}, batch=0),
    Sample("many-queries", {"window_size": 5}, queries=70, channels=3),
)
BY_NAME = {sample.name: sample for sample in SAMPLES}
SPREAD = SAMPLES[:-1:2] if _backends.interpreting() else SAMPLES
"""The interpreter is slow: every second sample, and not the one of many queries."""
each_sample = pytest.mark.parametrize("sample", SPREAD, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def run(inputs: Inputs, backend: str, *needs: str) -> Result:
    leaves = inputs.requiring(*needs)
    matches = smk.sparse_window_match(
        leaves.source, leaves.target, leaves.keypoints, upsample=FINE, **leaves.options, backend=backend
    )
    return Result(matches, gradients(matches, leaves, needs))


def run_interpolated(inputs: Inputs, *needs: str, dtype: torch.dtype = torch.float64) -> Result:
    """On the upsampled map, with arithmetic in `dtype`."""
    leaves = inputs.requiring(*needs)
    target = leaves.target.contiguous()
    if 1 in target.shape[2:]:  # F.interpolate rounds what is equal to different numbers
        target = definition.interpolate(target, FINE)
    elif target.numel():
        target = F.interpolate(target, FINE, mode="bilinear", align_corners=False)
    else:
        target = target.new_zeros((*target.shape[:2], *FINE)) + 0 * target.sum()
    matches = reference.sparse_window_match(leaves.source, target, leaves.keypoints, dtype=dtype, **leaves.options)
    return Result(matches, gradients(matches, leaves, needs))


NEEDS = ("source", "target", "keypoints", "temperature")


@each_sample
@by_dtype
def test_agrees_with_the_upsampled_map(sample: Sample, dtype: torch.dtype, backend: str, poisoned_memory: None) -> None:
    """As well as PyTorch on the map that it upsamples.

    The gradient of the target is a sum of two in its dtype, of scores and of products with neighbours.
    """
    inputs = sample.make(dtype)
    exact = run_interpolated(inputs.to(torch.float64), *NEEDS)
    rival, found = run_interpolated(inputs, *NEEDS, dtype=dtype), run(inputs, backend, *NEEDS)
    assert found.gradients.keys() == exact.gradients.keys()
    assert all(g.dtype == inputs.leaf(name).dtype for name, g in found.gradients.items())
    assert_as_good_as(found, rival, exact, dtype, roundings={"gradient of target": 3})


def test_target_mask_is_one_of_fine_cells(backend: str) -> None:
    inputs = BY_NAME["window"].make(torch.float64)
    mask = torch.rand(2, *FINE, generator=torch.Generator().manual_seed(3)).to(DEVICE) < 0.5
    mask[1] = False
    inputs = replace(inputs, options={**inputs.options, "target_mask": mask})
    found, exact = run(inputs, backend, "source", "target"), run_interpolated(inputs, "source", "target")
    assert relative_error(found.matches.keypoints, exact.matches.keypoints) < 1e-9
    assert (found.matches.peak[1] == -1).all()
    for name, gradient in found.gradients.items():
        assert relative_error(gradient, exact.gradients[name]) < 1e-8, name
        assert not gradient[1].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "expanded"])
@pytest.mark.parametrize("options", [{"window_size": 5}, {"localization": "global"}], ids=["window", "global"])
def test_localize(options: dict[str, Any], layout: str, dtype: torch.dtype, backend: str) -> None:
    scores = lay_out(torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype), layout)
    found = {}
    for name in ("ours", "theirs"):
        leaf = scores.detach().requires_grad_()
        if name == "ours":
            matches = smk.localize(leaf, upsample=FINE, temperature=0.7, **options, backend=backend)
        else:
            fine = F.interpolate(leaf.double(), FINE, mode="bilinear", align_corners=False)
            matches = smk.localize(fine, temperature=0.7, **options, backend="reference")
        (gradient,) = torch.autograd.grad(matches.keypoints.square().sum() + matches.log_sum_exp.sum(), leaf)
        found[name] = (matches, gradient)
    bound = 1e-10 if dtype == torch.float64 else 1e-2
    assert torch.equal(found["ours"][0].peak, found["theirs"][0].peak)
    for a, b in zip(found["ours"][0], found["theirs"][0], strict=True):
        assert relative_error(a, b) < bound
    assert found["ours"][1].stride() == torch.empty_like(scores).stride()
    assert relative_error(found["ours"][1], found["theirs"][1]) < bound


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "expanded", "tokens"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(5, 7), (1, 9), (6, 1), (1, 1), (17, 70)])
def test_neighbour_products(size: tuple[int, int], dtype: torch.dtype, layout: str, backend: str) -> None:
    features = lay_out(torch.randn(2, 37, *size, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype), layout)
    results = {}
    for name in {backend, "reference"}:
        leaf = features.detach().requires_grad_()
        products = neighbour_products.run(neighbour_products.Arguments(leaf, name)).products
        upstream = torch.randn(products.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(
            DEVICE
        )
        (gradient,) = torch.autograd.grad(products, leaf, upstream)
        results[name] = (products, gradient)
    assert results[backend][0].dtype == torch.float64
    assert relative_error(results[backend][0], results["reference"][0]) < 1e-14
    assert results[backend][1].stride() == torch.empty_like(features).stride()
    bound = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
    if dtype == torch.bfloat16 and _backends.interpreting():
        bound *= 2  # Triton's interpreter truncates to bfloat16
    assert relative_error(results[backend][1], results["reference"][1]) < bound


@pytest.mark.parametrize("name", ["window", "l2", "dot", "rows", "argmax", "temperature-rows"])
def test_in_blocks_of_queries(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = BY_NAME[name].make()
    whole = run(inputs, backend, "source", "target")
    plain = run(inputs, backend).matches
    monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 1)
    budgets = []
    if backend in ("cpu", "cuda"):  # they take the budget with each call
        from simplematch_kernels.native import _records

        for operator in ("localize_upsampled", "localize_upsampled_backward"):
            call = getattr(_records._C, operator)

            def spy(problem: Any, *rest: Any, call: Any = call) -> None:
                budgets.append(problem["score_budget"])
                call(problem, *rest)

            monkeypatch.setattr(_records._C, operator, spy)
    blocks = run(inputs, backend, "source", "target")
    assert set(budgets) == ({1} if backend in ("cpu", "cuda") else set()) and len(budgets) in (0, 2)
    for a, b, c in zip(plain, run(inputs, backend).matches, whole.matches, strict=True):
        if backend == "reference":  # a matrix product rounds by its size
            assert relative_error(a, b) < 1e-5 and relative_error(a, c) < 1e-5
        else:
            assert torch.equal(a, b) and torch.equal(a, c)
    for key, gradient in blocks.gradients.items():
        assert relative_error(gradient, whole.gradients[key]) < 1e-6, key


@pytest.mark.parametrize("name", ["window", "many-queries", "l2-global"])
def test_repeats_bitwise_for_any_number_of_threads(name: str, backend: str) -> None:
    inputs, threads = BY_NAME[name].make(), torch.get_num_threads()
    found = []
    for count in (threads, 1, 2, 3):
        torch.set_num_threads(count)
        found.append(run(inputs, backend, "source", "target"))
    torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0].matches, other.matches, strict=True))
        if backend != "reference":
            assert all(torch.equal(g, other.gradients[key]) for key, g in found[0].gradients.items())


def test_padded_rows_equal_unpadded_ones(backend: str) -> None:
    inputs = BY_NAME["window"].make()
    padded = replace(
        inputs,
        keypoints=torch.cat((inputs.keypoints, torch.full((2, 3, 2), torch.nan, device=DEVICE)), 1),
        options={**inputs.options, "num_keypoints": torch.tensor([5, 5], device=DEVICE)},
    )
    whole, short = run(padded, backend, "source", "target"), run(inputs, backend)
    for a, b in zip(whole.matches, short.matches, strict=True):
        assert torch.equal(a[:, :5], b)
    assert (whole.matches.keypoints[:, 5:] == -1).all() and (whole.matches.peak[:, 5:] == -1).all()
    assert all(g.isfinite().all() for g in whole.gradients.values())


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_nan_in_a_cell_reaches_the_fine_cells_that_read_it(metric: str, backend: str) -> None:
    inputs = BY_NAME["window"].make()
    inputs.target[0, 3, 4, 4] = torch.nan
    inputs = replace(inputs, options={**inputs.options, "metric": metric})
    found = run(inputs, backend, "source", "target")
    rows, columns = (definition.axis(n, m, DEVICE) for n, m in zip((9, 8), FINE, strict=True))
    reads = [((a.low == 4) | ((a.high == 4) & (a.weight > 0))).nonzero()[0].item() for a in (rows, columns)]
    assert (found.matches.peak[0] == reads[0] * FINE[1] + reads[1]).all()
    assert found.matches.keypoints[0].isnan().all() and found.matches.keypoints[1].isfinite().all()
    assert found.gradients["source"][0].isnan().any() and found.gradients["source"][1].isfinite().all()
    assert found.gradients["target"][1].isfinite().all()
    expected = run(inputs, "reference", "source", "target")
    for key, gradient in found.gradients.items():
        assert torch.equal(gradient.isnan(), expected.gradients[key].isnan()), key


def test_nan_in_a_descriptor_stays_in_its_row(backend: str) -> None:
    descriptors = torch.randn(1, 3, 8, device=DEVICE)
    descriptors[0, 1] = torch.nan
    matches = smk.match_descriptors(descriptors, torch.randn(1, 8, 4, 5, device=DEVICE), upsample=FINE, backend=backend)
    assert matches.keypoints[0].isnan().all(-1).tolist() == [False, True, False] and matches.peak[0, 1] == 0


def test_ties_go_to_the_lowest_cell(backend: str) -> None:
    """Fine cells beyond the outermost coarse centres equal each other."""
    target = torch.randn(1, 8, 4, 4, device=DEVICE)
    target[0, :, 3, 3] *= 20
    query = target[:, :, 3, 3][:, None]
    matches = smk.match_descriptors(
        query, target, upsample=(16, 16), localization="argmax", metric="dot", backend=backend
    )
    assert matches.peak.item() == 14 * 16 + 14


def test_zero_vectors(backend: str) -> None:
    target = torch.zeros(1, 4, 3, 3, device=DEVICE, requires_grad=True)
    queries = torch.randn(1, 2, 4, device=DEVICE)
    for eps in (0.0, 1e-8):
        matches = smk.match_descriptors(queries, target, upsample=FINE, eps=eps, window_size=3, backend=backend)
        assert not matches.score.any() and matches.keypoints.isfinite().all()


@pytest.mark.skipif(_backends.interpreting(), reason="the same registration, at seconds a launch")
@pytest.mark.parametrize("name", ["window", "dot", "l2", "rows", "temperature-rows", "no-queries", "sliced"])
def test_opcheck(name: str, backend: str) -> None:
    with Calls() as calls:
        run(BY_NAME[name].make(), backend, *NEEDS)
    assert len(calls.made) == (6 if name == "dot" else 8)
    calls.check(backend)


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_gradcheck(metric: str, backend: str) -> None:
    queries, target = _draw(1, 2, 3, seed=0).requires_grad_(), _draw(1, 3, 3, 4, seed=1).requires_grad_()
    temperature = torch.tensor(0.9, dtype=torch.float64, device=DEVICE, requires_grad=True)

    def function(q: Tensor, f: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        options = {"localization": "gaussian", "sigma": 2.5, "temperature": t, "metric": metric, "eps": 0.1}
        matches = smk.match_descriptors(q, f, upsample=(6, 7), **options, backend=backend)
        return matches.keypoints, matches.score, matches.log_sum_exp

    assert torch.autograd.gradcheck(
        function, (queries, target, temperature), check_forward_ad=not _backends.interpreting()
    )


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_transforms(metric: str, backend: str) -> None:
    """vmap, jvp and jacrev agree with a loop and with each other."""
    queries, target = _draw(3, 1, 2, 3, seed=0), _draw(3, 1, 3, 3, 4, seed=1)

    def function(q: Tensor, f: Tensor) -> Tensor:
        matches = smk.match_descriptors(
            q, f, upsample=(6, 7), window_size=3, temperature=0.7, metric=metric, backend=backend
        )
        return torch.cat((matches.keypoints, matches.score[..., None], matches.log_sum_exp[..., None]), -1)

    mapped = torch.func.vmap(function)(queries, target)
    assert torch.equal(mapped, torch.stack([function(q, f) for q, f in zip(queries, target, strict=True)]))
    assert torch.func.vmap(function, in_dims=(0, None))(queries, target[0]).shape == mapped.shape
    reverse = torch.func.jacrev(function, argnums=(0, 1))(queries[0], target[0])
    forward = torch.func.jacfwd(function, argnums=(0, 1))(queries[0], target[0])
    for a, b in zip(reverse, forward, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_compiles_whole(backend: str) -> None:
    inputs = BY_NAME["rows"].make(torch.float64)

    def value(leaves: Inputs) -> Tensor:
        matches = smk.sparse_window_match(
            leaves.source, leaves.target, leaves.keypoints, upsample=FINE, **leaves.options, backend=backend
        )
        return (matches.keypoints.sum(-1) * matches.score).sum() + matches.log_sum_exp.sum()

    found = []
    for function in (value, compiled(value, backend)):
        leaves = inputs.requiring("source", "target")
        total = function(leaves)
        found.append((total, *torch.autograd.grad(total, (leaves.source, leaves.target))))
    for plain, fast in zip(*found, strict=True):
        assert relative_error(fast, plain) < 1e-12


def test_errors() -> None:
    features, points = torch.randn(1, 3, 4, 4), torch.zeros(1, 2, 2)
    with pytest.raises(TypeError, match=r"upsample must be \(height, width\) in whole pixels, or None, got 8"):
        smk.sparse_window_match(features, features, points, upsample=8)
    with pytest.raises(ValueError, match=r"upsample must be at least 1 x 1 pixel, got \(0, 4\)"):
        smk.localize(features, upsample=(0, 4))
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"target_mask must have shape \(B, H, W\) = \(1, 8, 9\)"):
        smk.sparse_window_match(features, features, points, upsample=(8, 9), target_mask=mask)
    with pytest.raises(ValueError, match="keypoints must be finite"):
        smk.sparse_window_match(features, features, points + torch.nan, upsample=(8, 9))


def test_absolute_differences_are_refused() -> None:
    features, points = torch.randn(1, 3, 4, 4), torch.zeros(1, 2, 2)
    refusal = r"metric must be 'cosine', 'dot' or 'l2' with upsample, .* upsample the map yourself, got 'l1'"
    for module, (maps, keypoints) in [(smk, (features, points)), (smk_numpy, (features.numpy(), points.numpy()))]:
        with pytest.raises(ValueError, match=refusal):
            module.sparse_window_match(maps, maps, keypoints, upsample=(8, 9), metric="l1")
        with pytest.raises(ValueError, match=refusal):
            module.match_descriptors(maps[:, :, 0].swapaxes(1, 2), maps, upsample=(8, 9), metric="l1")


@pytest.mark.parametrize("detail", ["return_covariance", "return_second"])
def test_details_are_refused(detail: str) -> None:
    features, points = torch.randn(1, 3, 4, 4), torch.zeros(1, 2, 2)
    functions = [(smk, (features, points)), (smk_numpy, (features.numpy(), points.numpy()))]
    for module, (maps, keypoints) in functions:
        with pytest.raises(ValueError, match="return_second must be False with upsample"):
            module.sparse_window_match(maps, maps, keypoints, upsample=(8, 9), **{detail: True})
        with pytest.raises(ValueError, match="return_second must be False with upsample"):
            module.localize(maps, upsample=(8, 9), **{detail: True})
        with pytest.raises(TypeError, match=f"{detail} must be True or False, got 3"):
            module.localize(maps, upsample=(8, 9), **{detail: 3})
        with pytest.raises(ValueError, match="return_second must be False with source_interpolation 'matches'"):
            module.sparse_window_match(maps, maps, keypoints, source_interpolation="matches", **{detail: True})


def test_interpolation_is_that_of_torch() -> None:
    for size, fine in (((5, 7), (21, 17)), ((9, 1), (4, 6)), ((3, 4), (3, 4)), ((48, 48), (375, 500))):
        x = _draw(1, 2, *size, seed=4)
        expected = F.interpolate(x, fine, mode="bilinear", align_corners=False)
        torch.testing.assert_close(definition.interpolate(x, fine), expected, atol=1e-12, rtol=1e-12)
