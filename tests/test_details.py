"""`return_covariance` and `return_second`: values, gradients, and what they leave as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _resolved
from simplematch_kernels.reference import functional as reference

from .oracle import WIDER, relative_error
from .samples import DEVICE, DTYPES, SAMPLES, SPREAD, Inputs, Sample
from .test_gradients import LOCALIZATIONS, differentiates, small
from .test_operators import BY_NAME, OPCHECKED
from .traces import Calls, compiled

DETAILS: dict[str, Any] = {"return_covariance": True, "return_second": True}
NEEDS = ("source", "target", "keypoints", "temperature")
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def run(inputs: Inputs, backend: str | None, dtype: torch.dtype | None = None, **options: Any) -> smk.DetailedMatches:
    """Of a backend, or of plain PyTorch without one."""
    given = {**inputs.options, **DETAILS, **options}
    if backend is None:
        found = reference.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, dtype=dtype, **given)
    else:
        found = smk.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, **given, backend=backend)
    assert isinstance(found, smk.DetailedMatches)
    return found


def gradients(found: smk.DetailedMatches, inputs: Inputs) -> dict[str, Tensor]:
    """Of a random linear function of keypoints, score, log_sum_exp and covariance."""
    outputs = [x for x in (found.keypoints, found.score, found.log_sum_exp, found.covariance) if x is not None]
    leaves = inputs.leaves()
    if not leaves or not found.score.requires_grad:
        return {}
    generator = torch.Generator().manual_seed(11)
    upstream = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in outputs]
    made = torch.autograd.grad(outputs, list(leaves.values()), upstream, allow_unused=True)
    return {name: g for name, g in zip(leaves, made, strict=True) if g is not None}


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
@by_dtype
def test_agrees_with_the_oracle(sample: Sample, dtype: torch.dtype, backend: str, poisoned_memory: None) -> None:
    if _backends.interpreting() and (dtype == torch.float16 or sample not in SPREAD):
        pytest.skip("the interpreter is slow: every fifth sample")
    exact, rival, found = runs(sample, dtype, backend)
    assert torch.equal(found["peak"], exact["peak"]) and torch.equal(found["second_peak"], exact["second_peak"])
    assert torch.equal(found["second_score"].isinf(), exact["second_score"].isinf())
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    assert error(found, exact, "second_score") <= WIDER[arithmetic]
    compared = exact.keys() - {"peak", "second_peak", "second_score"}
    assert found.keys() >= exact.keys()
    for name in compared:
        rounding = error(rival, exact, name)  # NaN where PyTorch's eps vanishes in float16
        allowed = WIDER[dtype] if math.isnan(rounding) else max(2 * rounding, WIDER[dtype])
        if error(found, exact, name) > allowed and dtype == torch.float32:
            allowed = 2 * rounding_of_pytorch(sample, name)
        assert error(found, exact, name) <= allowed, name


def runs(sample: Sample, dtype: torch.dtype, *backends: str, seed: int = 0) -> list[dict[str, Tensor]]:
    """Of PyTorch in float64 and in `dtype`, and of backends: the details and all gradients, by name."""
    inputs, found = sample.make(dtype, seed=seed), []
    for backend, width in ((None, torch.float64), (None, dtype), *((backend, None) for backend in backends)):
        leaves = (inputs.to(torch.float64) if width == torch.float64 else inputs).requiring(*NEEDS)
        matches = run(leaves, backend, width)
        details = {name: getattr(matches, name) for name in ("peak", "covariance", "second_score", "second_peak")}
        found.append(details | gradients(matches, leaves))
    return found


def error(found: dict[str, Tensor], exact: dict[str, Tensor], name: str) -> float:
    """Relative, of finite numbers."""
    return relative_error(*(torch.where(x[name].isinf(), 0, x[name]) for x in (found, exact)))


def rounding_of_pytorch(sample: Sample, name: str) -> float:
    """The largest error of PyTorch in float32 in a few draws of a sample.

    What is as small as a covariance moves as exp(s / T) does with a score s, so that the rounding of a few scores
    decides: between draws PyTorch's own error differs up to tenfold.
    """
    return max(error(rival, exact, name) for exact, rival in (runs(sample, torch.float32, seed=i) for i in range(8)))


@pytest.mark.parametrize("sample", SPREAD, ids=str)
def test_changes_nothing_else(sample: Sample, backend: str) -> None:
    """Not one bit of the other results and their gradients, together or one by one."""
    inputs = sample.make().requiring(*NEEDS)
    plain = smk.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, **inputs.options, backend=backend)
    assert type(plain) is smk.Matches and plain.covariance is plain.second_score is plain.second_peak is None
    both = run(inputs, backend)
    for name in ("covariance", "second"):
        one = run(inputs, backend, return_covariance=name == "covariance", return_second=name == "second")
        for field, value in one._asdict().items():
            if value is None:
                assert not field.startswith(name)
            else:
                assert torch.equal(value, getattr(both, field)), field
    for field in plain._fields:
        assert torch.equal(getattr(plain, field), getattr(both, field)), field
    outputs = lambda m: (m.keypoints.sum() + m.score.sum() + m.log_sum_exp.sum(),)  # noqa: E731
    leaves = list(inputs.leaves().values())
    if plain.score.requires_grad:
        ours = torch.autograd.grad(outputs(both), leaves, allow_unused=True)
        for a, b in zip(ours, torch.autograd.grad(outputs(plain), leaves, allow_unused=True), strict=True):
            assert a is b is None or (a is not None and b is not None and torch.equal(a, b))


@pytest.mark.parametrize("sample", SPREAD[:: 2 if _backends.interpreting() else 1], ids=str)
def test_a_small_budget_changes_nothing(sample: Sample, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = sample.make(torch.float64).requiring(*NEEDS)
    whole = run(inputs, backend)
    expected = gradients(whole, inputs)
    monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 1)
    blocked = run(inputs, backend)
    for name in ("keypoints", "score", "peak", "log_sum_exp", "covariance", "second_score", "second_peak"):
        value = getattr(blocked, name)
        assert torch.equal(value.isinf(), getattr(whole, name).isinf()), name
        assert relative_error(value.nan_to_num(neginf=0), getattr(whole, name).nan_to_num(neginf=0)) < 1e-10, name
    for name, gradient in gradients(blocked, inputs).items():
        assert relative_error(gradient, expected[name]) < 1e-10, name


@pytest.mark.parametrize("temperature", ["number", "scalar", "rows"])
@pytest.mark.parametrize("localization", LOCALIZATIONS)
def test_the_covariance_differentiates(localization: str, temperature: str, backend: str) -> None:
    options = {**LOCALIZATIONS[localization], "sampling": "bilinear", "target_size": (30, 50)}
    options |= {"temperature": 0.3} if temperature == "number" else {}
    inputs = small(options, temperature=temperature, rows=("target_mask",)).make(torch.float64).requiring(*NEEDS)
    leaves = inputs.leaves()

    def match(*values: Tensor) -> tuple[Tensor, ...]:
        given = {"source": inputs.source, "target": inputs.target, "keypoints": inputs.keypoints, **inputs.options}
        given.update(zip(leaves, values, strict=True))
        found = smk.sparse_window_match(**given, return_covariance=True, backend=backend)
        assert found.covariance is not None
        return found.covariance, found.keypoints, found.log_sum_exp

    assert differentiates(match, tuple(leaves.values()), backend)


@pytest.mark.parametrize("localization", LOCALIZATIONS)
def test_localize_differentiates(localization: str, backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_()
    temperature = torch.full((2, 3), 0.4, dtype=torch.float64, device=DEVICE, requires_grad=True)

    def match(scores: Tensor, temperature: Tensor) -> Tensor:
        found = smk.localize(
            scores, temperature=temperature, **LOCALIZATIONS[localization], **DETAILS, backend=backend
        ).covariance
        assert found is not None
        return found

    assert differentiates(match, (scores, temperature), backend)


def brute(scores: Tensor, mask: Tensor | None, allowed: Any) -> tuple[list[float], list[int]]:
    """Score and cell of the best of the allowed cells, by a loop."""
    best_score, best_cell = [], []
    for n in range(scores.shape[1]):
        row = scores[0, n].flatten().tolist()
        peak = max((m for m in range(len(row)) if mask is None or mask[m]), key=lambda m: (row[m], -m))
        cells = [m for m in range(len(row)) if (mask is None or mask[m]) and allowed(m, peak)]
        found = max(cells, key=lambda m: (row[m], -m), default=-1)
        best_score.append(row[found] if cells else -float("inf"))
        best_cell.append(found)
    return best_score, best_cell


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("radius", [None, 0, 2, 20])
@pytest.mark.parametrize("options", [*LOCALIZATIONS.values(), {"window_size": 4, "border": "shrink"}], ids=str)
def test_second_is_the_best_of_the_other_cells(
    options: dict[str, Any], radius: int | None, masked: bool, backend: str
) -> None:
    """Against a loop over all cells, with many ties."""
    height, width = 9, 11
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(-3, 4, (1, 8, height, width), generator=generator).float()
    mask = torch.rand(height * width, generator=generator) < 0.5 if masked else None
    rows, columns = 3, 3
    if options.get("localization") is None:
        size = options["window_size"]
        rows, columns = size if isinstance(size, tuple) else (size, size)

    def allowed(m: int, peak: int) -> bool:
        y, x, peak_y, peak_x = m // width, m % width, peak // width, peak % width
        if radius is not None:
            return max(abs(y - peak_y), abs(x - peak_x)) > radius
        if options.get("localization") is not None:
            return max(abs(y - peak_y), abs(x - peak_x)) > 1
        if options.get("window_shape") == "disc":
            assert options["disc_edge"] == "closed"
            return (2 * (y - peak_y)) ** 2 + (2 * (x - peak_x)) ** 2 > options["window_size"] ** 2
        top, left = peak_y - rows // 2, peak_x - columns // 2
        if options.get("border") != "shrink" and "window_shape" not in options:
            top, left = min(max(top, 0), height - rows), min(max(left, 0), width - columns)
        inside = top <= y < top + rows and left <= x < left + columns
        if options.get("window_shape") == "plus":
            inside = inside and (y == peak_y or x == peak_x)
        return not inside

    target_mask = None if mask is None else mask.view(1, height, width).to(DEVICE)
    found = smk.localize(
        scores.to(DEVICE), **options, target_mask=target_mask, second_radius=radius, return_second=True, backend=backend
    )
    assert found.second_score is not None and found.second_peak is not None
    expected_scores, expected_cells = brute(scores, mask, allowed)
    assert found.second_peak[0].tolist() == expected_cells
    assert found.second_score[0].tolist() == expected_scores


def test_second_of_equal_cells_is_the_lowest(backend: str) -> None:
    """A matrix product rounds by position, and the same features in several cells still tie."""
    generator = torch.Generator().manual_seed(2)
    feature = torch.randn(40, generator=generator)
    target = torch.randn(1, 40, 12, 13, generator=generator) * 0.1
    for y, x in ((1, 11), (5, 5), (5, 6), (11, 2)):
        target[0, :, y, x] = feature
    found = smk.match_descriptors(
        feature[None, None].to(DEVICE), target.to(DEVICE), window_size=3, return_second=True, backend=backend
    )
    assert found.peak.tolist() == [[1 * 13 + 11]]
    assert found.second_peak is not None and found.second_peak.tolist() == [[5 * 13 + 5]]


def test_invalid_rows_and_single_cells(backend: str) -> None:
    target = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    mask = torch.zeros(2, 5, 6, dtype=torch.bool, device=DEVICE)
    mask[1, 2, 3] = True
    found = smk.match_descriptors(target[:, :, 0, :2].mT, target, target_mask=mask, **DETAILS, backend=backend)
    assert found.covariance is not None and found.second_score is not None and found.second_peak is not None
    assert (found.covariance == 0).all()
    assert (found.second_score[0] == 0).all() and (found.second_score[1] == -torch.inf).all()
    assert (found.second_peak == -1).all()


def test_the_covariance_is_that_of_the_softmax(backend: str) -> None:
    """By numbers, in pixels: two equal cells 3 apart, as far as the others vanish."""
    scores = torch.full((1, 1, 7, 9), -100.0, device=DEVICE)
    scores[0, 0, 2, 2] = scores[0, 0, 2, 5] = 1.0
    found = smk.localize(scores, window_size=9, target_size=(70, 36), return_covariance=True, backend=backend)
    assert found.covariance is not None
    expected = torch.tensor([[1.5**2 * 4.0**2, 0.0], [0.0, 0.0]], device=DEVICE)
    torch.testing.assert_close(found.covariance[0, 0], expected)


def test_the_covariance_of_a_large_map_keeps_its_digits(backend: str) -> None:
    """Far from the origin, a narrow peak: E[c c] - E[c] E[c] would be left without a digit in float32."""
    scores = torch.zeros(1, 1, 5, 3000, device=DEVICE)
    scores[0, 0, 2, 2995:2998] = torch.tensor([0.7, 1.0, 0.71], device=DEVICE)
    options: dict[str, Any] = {"localization": "global", "temperature": 0.02, "return_covariance": True}
    found = smk.localize(scores, **options, backend=backend).covariance
    exact = smk.localize(scores.double(), **options, backend="reference").covariance
    assert found is not None and exact is not None
    torch.testing.assert_close(found.double(), exact, rtol=2e-5, atol=1e-12)


def test_nan_stays_in_its_row(backend: str) -> None:
    scores = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    scores[0, 1, 3, 3] = torch.nan
    scores[0, 2, 0, 0] = torch.inf
    leaf = scores.requires_grad_()
    found = smk.localize(leaf, window_size=3, **DETAILS, backend=backend)
    assert found.covariance is not None and found.second_peak is not None
    assert found.covariance.isnan().flatten(2).all(-1).tolist() == [[False, True, True]]
    assert (found.second_peak >= 0).all()
    (gradient,) = torch.autograd.grad(found.covariance[:, 0].sum(), leaf)
    assert gradient.isfinite().all() and (gradient[0, 0] != 0).any()


def test_argmax_has_no_spread(backend: str) -> None:
    inputs = BY_NAME["window"].make(torch.float64).requiring("source", "target")
    found = run(inputs, backend, localization="argmax")
    assert found.covariance is not None and (found.covariance == 0).all()
    for gradient in torch.autograd.grad(found.covariance.sum(), list(inputs.leaves().values())):
        assert (gradient == 0).all()


def test_second_score_is_a_constant(backend: str) -> None:
    inputs = BY_NAME["window"].make().requiring("source", "target")
    found = run(inputs, backend)
    assert found.covariance is not None and found.second_score is not None
    assert found.covariance.requires_grad and not found.second_score.requires_grad


WRONG = {
    "return_covariance": (1, TypeError, "return_covariance must be True or False, got 1"),
    "return_second": ("yes", TypeError, "return_second must be True or False, got 'yes'"),
    "second_radius": (-1, ValueError, "second_radius must be at least 0 cells, got -1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_named(name: str) -> None:
    value, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        smk.localize(torch.zeros(1, 1, 3, 3), **{name: value})
    with pytest.raises(TypeError, match=r"second_radius must be a whole number of cells or None, got 1\.5"):
        smk.localize(torch.zeros(1, 1, 3, 3), second_radius=1.5)  # type: ignore[arg-type]


@pytest.mark.skipif(_backends.interpreting(), reason="the same registration, at seconds a launch")
@pytest.mark.parametrize("name", OPCHECKED[::3])
@pytest.mark.parametrize("asked", ["covariance", "second", "both"])
def test_opcheck(name: str, asked: str, backend: str) -> None:
    with Calls() as calls:
        inputs = BY_NAME[name].make().requiring("source", "target", "keypoints")
        options = {"return_covariance": asked != "second", "return_second": asked != "covariance"}
        found = run(inputs, backend, **options)
        sum(gradient.sum() for gradient in gradients(found, inputs).values())
    assert len(calls.made) == 2
    calls.check(backend)


@pytest.mark.skipif(_backends.interpreting(), reason="the same registration, at seconds a launch")
@pytest.mark.parametrize("asked", ["covariance", "second", "both"])
def test_opcheck_of_localize(asked: str, backend: str) -> None:
    options = {"return_covariance": asked != "second", "return_second": asked != "covariance"}
    scores = torch.randn(1, 2, 4, 5, device=DEVICE, requires_grad=True)
    with Calls() as calls:
        smk.localize(scores, window_size=3, **options, backend=backend).keypoints.sum().backward()
    assert len(calls.made) == 2
    calls.check(backend)


def test_compiles_and_exports(backend: str) -> None:
    inputs = BY_NAME["window"].make(torch.float64)

    def loss(source: Tensor, target: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        found = smk.sparse_window_match(
            source, target, keypoints, window_size=5, second_radius=2, **DETAILS, backend=backend
        )
        assert found.covariance is not None and found.second_score is not None
        return found.covariance.square().sum() + found.keypoints.sum(), found.second_score

    results = []
    for function in (loss, compiled(loss, backend)):
        leaves = inputs.requiring("source", "target")
        value, second = function(leaves.source, leaves.target, leaves.keypoints)
        results.append((value, second, *torch.autograd.grad(value, [leaves.source, leaves.target])))
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-11, atol=1e-11)

    class Matcher(torch.nn.Module):
        def forward(self, source: Tensor, target: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
            return loss(source, target, keypoints)

    arguments = (inputs.source, inputs.target, inputs.keypoints)
    program = torch.export.export(Matcher(), arguments)
    for found, expected in zip(program.module()(*arguments), loss(*arguments), strict=True):
        torch.testing.assert_close(found, expected)


def spread(backend: str, **options: Any) -> Any:
    def function(scores: Tensor, temperature: Tensor) -> Tensor:
        found = smk.localize(
            scores, temperature=temperature, outside_value=0.1, window_size=3, **options, backend=backend
        ).covariance
        assert found is not None
        return found.flatten(2)

    return function


def test_transforms(backend: str) -> None:
    """vmap is a loop, forward mode agrees with reverse mode and with differences; second derivatives are refused."""
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(3, 1, 2, 4, 5, generator=generator, dtype=torch.float64).to(DEVICE)
    temperature = 0.4 + torch.rand(3, 1, 2, generator=generator, dtype=torch.float64).to(DEVICE)
    for options in ({"return_covariance": True}, DETAILS):
        function = spread(backend, **options)
        looped = torch.stack([function(*x) for x in zip(scores, temperature, strict=True)])
        torch.testing.assert_close(torch.vmap(function)(scores, temperature), looped)
        one = (scores[0], temperature[0])
        forward, reverse = torch.func.jacfwd(function, (0, 1))(*one), torch.func.jacrev(function, (0, 1))(*one)
        torch.testing.assert_close(forward, reverse, rtol=1e-9, atol=1e-9)
        tangents = tuple(1e-6 * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(DEVICE) for x in one)
        _, moved = torch.func.jvp(function, one, tangents)
        ahead, behind = (function(*(x + s * t for x, t in zip(one, tangents, strict=True))) for s in (1, -1))
        torch.testing.assert_close(moved, (ahead - behind) / 2, rtol=1e-4, atol=1e-12)
        with pytest.raises(RuntimeError, match=r"simplematch::localize_detailed has no second derivative"):
            torch.func.jacfwd(torch.func.grad(lambda *x: spread(backend, **DETAILS)(*x).sum()))(*one)
