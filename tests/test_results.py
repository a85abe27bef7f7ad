"""`return_scores`, `top_k` and normalization "sum": values by loops, what they leave as it was, gradients, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _resolved

from .samples import DEVICE
from .test_given_windows import random
from .test_gradients import LOCALIZATIONS, differentiates

BATCH, QUERIES, CHANNELS, HEIGHT, WIDTH = 2, 4, 6, 5, 7


def integers(*shape: int, low: int, high: int, seed: int = 0) -> Tensor:
    """Few different numbers, so that there are ties."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, torch.float32)


def ranked(scores: Tensor, mask: Tensor | None, count: int, radius: int) -> list[tuple[float, int]]:
    """(score, cell) of the best cells of (H, W), each farther than `radius` from those before it, by a loop."""
    width = scores.shape[1]
    left = [m for m in range(scores.numel()) if mask is None or bool(mask.flatten()[m])]
    found = []
    for _ in range(count):
        best = max(left, key=lambda m: (float(scores.flatten()[m]), -m), default=-1)
        found.append((float(scores.flatten()[best]) if left else -float("inf"), best))
        left = [m for m in left if max(abs(m // width - best // width), abs(m % width - best % width)) > radius]
    return found


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("count", "radius"), [(1, 0), (3, 0), (6, 1), (40, 0)])
def test_top_k_are_the_best_cells(count: int, radius: int, masked: bool, backend: str) -> None:
    """With ties, with a distance between them, and with fewer cells than asked for."""
    if _backends.interpreting() and count > 6:
        pytest.skip("the interpreter is slow")
    scores = integers(BATCH, QUERIES, HEIGHT, WIDTH, low=-3, high=4)
    mask = integers(BATCH, HEIGHT, WIDTH, low=0, high=2, seed=1) > 0 if masked else None
    found = smk.localize(scores, top_k=count, top_radius=radius, target_mask=mask, window_size=3, backend=backend)
    assert found.top_score is not None and found.top_peak is not None
    assert torch.equal(found.top_peak[..., 0], found.peak) and torch.equal(found.top_score[..., 0], found.score)
    for b in range(BATCH):
        for n in range(QUERIES):
            expected = ranked(scores[b, n], None if mask is None else mask[b], count, radius)
            assert list(zip(found.top_score[b, n].tolist(), found.top_peak[b, n].tolist(), strict=True)) == expected


def pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    source, target = random(2, BATCH, CHANNELS, HEIGHT, WIDTH, dtype=dtype).unbind()
    keypoints = torch.tensor([[0.0, 1.0], [6.0, 4.0], [3.0, 3.0], [5.0, 0.0]], device=DEVICE).expand(BATCH, -1, -1)
    return source, target, keypoints


def test_matches_have_the_top_cells_of_their_scores(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the same results as without, and in blocks of a query at a time."""
    source, target, keypoints = pair()
    options: dict[str, Any] = {"window_size": 3, "return_second": True, "backend": backend}
    plain = smk.sparse_window_match(source, target, keypoints, **options)
    scores = smk.cosine_similarity(smk.gather_keypoints(source, keypoints), target, backend=backend)
    expected = smk.localize(scores, top_k=3, top_radius=1, backend=backend)
    whole = smk.sparse_window_match(source, target, keypoints, top_k=3, top_radius=1, **options)
    monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 1)
    blocked = smk.sparse_window_match(source, target, keypoints, top_k=3, top_radius=1, **options)
    for found in (whole, blocked):
        assert found.top_score is not None and found.top_peak is not None and expected.top_score is not None
        assert torch.equal(found.top_peak, expected.top_peak)
        torch.testing.assert_close(found.top_score, expected.top_score)
        for name in ("keypoints", "score", "peak", "log_sum_exp", "second_score", "second_peak"):
            torch.testing.assert_close(getattr(found, name), getattr(plain, name), rtol=1e-12, atol=1e-12)


def test_ranks_change_no_gradient(backend: str) -> None:
    source, target, keypoints = pair()
    found, gradients = [], []
    for more in ({}, {"top_k": 3}):
        leaves = source.clone().requires_grad_(), target.clone().requires_grad_()
        matches = smk.sparse_window_match(*leaves, keypoints, window_size=3, **more, backend=backend)
        found.append(matches)
        gradients.append(torch.autograd.grad(matches.keypoints.sum() + matches.score.sum(), leaves))
    assert torch.equal(found[0].keypoints, found[1].keypoints)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert found[1].top_peak is not None and torch.equal(found[1].top_peak[..., 0], found[1].peak)
    assert found[1].top_score is not None and not found[1].top_score.requires_grad


def test_padding_has_no_top(backend: str) -> None:
    scores = random(1, 3, 4, 4)
    scores[0, 2] = torch.nan
    valid = torch.tensor([[True, False, True]], device=DEVICE)
    found = smk.localize(scores, top_k=2, valid=valid, num_keypoints=torch.tensor([2], device=DEVICE), backend=backend)
    assert found.top_score is not None and found.top_peak is not None
    assert (
        (found.top_peak[0, 1:] == -1).all()
        and (found.top_score[0, 1:] == 0).all()
        and (found.top_peak[0, 0] >= 0).all()
    )


@pytest.mark.parametrize("function", ["sparse_window_match", "match_descriptors"])
def test_scores_come_beside_the_match(function: str, backend: str) -> None:
    source, target, keypoints = pair()
    descriptors = smk.gather_keypoints(source, keypoints)
    options: dict[str, Any] = {"window_size": 3, "return_covariance": True, "backend": backend}
    if function == "match_descriptors":
        plain = smk.match_descriptors(descriptors, target, **options)
        found = smk.match_descriptors(descriptors, target, return_scores=True, top_k=2, **options)
    else:
        plain = smk.sparse_window_match(source, target, keypoints, **options)
        found = smk.sparse_window_match(source, target, keypoints, return_scores=True, top_k=2, **options)
    assert found.scores is not None and plain.scores is None and found.top_peak is not None
    torch.testing.assert_close(found.scores, smk.cosine_similarity(descriptors, target, backend="reference"))
    assert torch.equal(found.top_peak, found.scores.flatten(2).topk(2).indices)
    for name in ("keypoints", "score", "peak", "log_sum_exp", "covariance"):
        torch.testing.assert_close(getattr(found, name), getattr(plain, name), rtol=1e-12, atol=1e-12)


def test_scores_of_padding_are_zero_and_pass_nothing_on(backend: str) -> None:
    _, target, _ = pair()
    descriptors = random(BATCH, QUERIES, CHANNELS)
    descriptors[:, 2:] = torch.nan
    counts = torch.tensor([2, 1], device=DEVICE)
    leaves = descriptors.requires_grad_(), target.clone().requires_grad_()
    found = smk.match_descriptors(*leaves, num_keypoints=counts, return_scores=True, backend=backend)
    assert found.scores is not None
    assert (found.scores[0, 2:] == 0).all() and (found.scores[1, 1:] == 0).all()
    of_descriptors, of_target = torch.autograd.grad(found.scores.sum() + found.keypoints.sum(), leaves)
    assert (of_descriptors[0, 2:] == 0).all() and of_descriptors.isfinite().all() and of_target.isfinite().all()


def test_scores_differentiate(backend: str) -> None:
    leaves = random(1, 3, 4).requires_grad_(), random(1, 4, 3, 4, seed=1).requires_grad_()

    def run(descriptors: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        options: dict[str, Any] = {"window_size": 3, "temperature": 0.4, "return_scores": True, "backend": backend}
        found = smk.match_descriptors(descriptors, target, **options)
        assert found.scores is not None
        return found.scores, found.keypoints, found.log_sum_exp

    assert differentiates(run, leaves, backend)


SUMS: dict[str, dict[str, Any]] = {
    name: {k: v for k, v in options.items() if k != "outside_value"} for name, options in LOCALIZATIONS.items()
}
SUMS["even"] = {"window_size": 4}
SUMS["shrink"] = {"window_size": (2, 5), "border": "shrink"}
SUMS["shrink-as-large-as-the-map"] = {"window_size": (HEIGHT, WIDTH), "border": "shrink"}
by_sum = pytest.mark.parametrize("name", SUMS)


def sum_window(options: dict[str, Any], peak: int) -> list[tuple[int, int, float]]:
    """(x, y, factor) of the cells of the window round a flat cell."""
    localization, (peak_y, peak_x) = options.get("localization", "window"), divmod(peak, WIDTH)
    size = options.get("window_size", 45)
    rows, columns = size if isinstance(size, tuple) else (size, size)
    if options.get("window_shape") == "disc":
        assert options["disc_edge"] == "closed"
        rows = columns = 2 * int(size / 2) + 1
    if localization != "window":
        top, left, rows, columns = (peak_y, peak_x, 1, 1) if localization == "argmax" else (0, 0, HEIGHT, WIDTH)
    else:
        top, left = peak_y - rows // 2, peak_x - columns // 2
        if options.get("border") != "shrink" and options.get("window_shape") is None:
            top, left = min(max(top, 0), max(HEIGHT - rows, 0)), min(max(left, 0), max(WIDTH - columns, 0))
    found = []
    for y in range(max(top, 0), min(top + rows, HEIGHT)):
        for x in range(max(left, 0), min(left + columns, WIDTH)):
            distance = (x - peak_x) ** 2 + (y - peak_y) ** 2
            if options.get("window_shape") == "disc" and 4 * distance > size**2:
                continue
            if options.get("window_shape") == "plus" and peak_x != x and peak_y != y:
                continue
            factor = (
                float(torch.exp(torch.tensor(-distance / (2 * options["sigma"] ** 2))))
                if localization == "gaussian"
                else 1.0
            )
            found.append((x, y, factor))
    return found


@by_sum
def test_sums_divide_by_the_sum(name: str, backend: str) -> None:
    """Of weights with zeros, without a softmax, masked or not, in pixels."""
    options = SUMS[name]
    weights = random(BATCH, QUERIES, HEIGHT, WIDTH).clamp(min=0)
    mask = random(BATCH, HEIGHT, WIDTH, seed=1) > -0.7
    found = smk.localize(
        weights, normalization="sum", target_mask=mask, target_size=(10, 21), return_covariance=True, **options,
        backend=backend,
    )  # fmt: skip
    assert found.covariance is not None
    for b in range(BATCH):
        for n in range(QUERIES):
            masked = torch.where(mask[b], weights[b, n], -1.0).flatten()
            assert found.peak[b, n] == masked.argmax() and found.score[b, n] == masked.max()
            cells = [c for c in sum_window(options, int(found.peak[b, n])) if mask[b, c[1], c[0]]]
            w = torch.tensor([float(weights[b, n, y, x]) * f for x, y, f in cells], dtype=torch.float64)
            c = torch.tensor([(3 * x, 2 * y) for x, y, _ in cells], dtype=torch.float64)
            mean = w @ c / w.sum()
            spread = (w[:, None] * (c - mean)).T @ (c - mean) / w.sum()
            for value, exact in (
                (found.keypoints, mean),
                (found.covariance, spread),
                (found.log_sum_exp, w.sum().log()),
            ):
                torch.testing.assert_close(value[b, n].cpu(), exact, rtol=1e-6, atol=1e-6)


def test_a_map_of_zeros_gives_the_centre_of_its_support(backend: str) -> None:
    """Its gradient is 0, not NaN, and a zero beside other weights has a gradient."""
    weights = torch.zeros(1, 2, 5, 7, dtype=torch.float64, device=DEVICE)
    weights[0, 1, 2, 3] = 0.5
    leaf = weights.requires_grad_()
    found = smk.localize(leaf, normalization="sum", localization="global", backend=backend)
    assert found.keypoints.tolist() == [[[3.0, 2.0], [3.0, 2.0]]]
    assert found.log_sum_exp[0, 0] == -torch.inf
    (gradient,) = torch.autograd.grad(found.keypoints[..., 0].sum(), leaf)
    assert (gradient[0, 0] == 0).all() and gradient[0, 1, 0, 0] == (0 - 3) / 0.5


def test_sums_agree_with_a_softmax_of_logarithms(backend: str) -> None:
    weights = random(BATCH, QUERIES, HEIGHT, WIDTH, dtype=torch.float32).exp()
    for options in SUMS.values():
        if options.get("localization") != "gaussian":
            ours = smk.localize(weights, normalization="sum", return_second=True, **options, backend=backend)
            theirs = smk.localize(weights.log(), temperature=1.0, return_second=True, **options, backend=backend)
            for name in ("keypoints", "log_sum_exp"):
                torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-5)
            assert torch.equal(ours.peak, theirs.peak) and ours.second_peak is not None
            assert torch.equal(ours.second_peak, theirs.second_peak)


@by_sum
@pytest.mark.parametrize("center", [False, True], ids=["", "center"])
def test_sums_differentiate(center: bool, name: str, backend: str) -> None:
    options = SUMS[name]
    if center and options.get("localization", "window") != "window":
        pytest.skip("center has a window")
    leaf = random(1, 2, 4, 5).abs().add(0.1).requires_grad_()
    points = torch.tensor([[[1.3, 2.2], [3.6, 0.7]]], dtype=torch.float64, device=DEVICE, requires_grad=True)

    def run(weights: Tensor, *center: Tensor) -> tuple[Tensor, ...]:
        given = {"center": center[0]} if center else {}
        found = smk.localize(weights, normalization="sum", return_covariance=True, **options, **given, backend=backend)
        assert found.covariance is not None
        return found.keypoints, found.score, found.log_sum_exp, found.covariance

    assert differentiates(run, (leaf, points) if center else (leaf,), backend)


@pytest.mark.skipif(_backends.interpreting(), reason="compiles for seconds")
def test_compile_and_map(backend: str) -> None:
    torch._dynamo.reset()
    source, target, keypoints = pair()

    def run(source: Tensor, target: Tensor, keypoints: Tensor) -> tuple[Tensor | None, ...]:
        found = smk.sparse_window_match(
            source, target, keypoints, window_size=3, return_scores=True, top_k=3, top_radius=1, backend=backend
        )
        best = smk.sparse_window_match(source, target, keypoints, window_size=3, top_k=2, backend=backend)
        assert found.scores is not None
        sums = smk.localize(found.scores.exp(), normalization="sum", backend=backend)
        return found.scores, found.top_score, found.top_peak, best.top_peak, found.keypoints, sums.keypoints

    plain = run(source, target, keypoints)
    compiled = torch.compile(run, fullgraph=True)(source, target, keypoints)
    mapped = torch.func.vmap(run)(*(torch.stack((x, x)) for x in (source, target, keypoints)))
    for a, b, c in zip(plain, compiled, mapped, strict=True):
        torch.testing.assert_close(b, a)
        torch.testing.assert_close(c[1], a)


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "top-zero": ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
    "top-real": ({"top_k": 1.5}, TypeError, "top_k must be a whole number or None, got 1.5"),
    "radius": ({"top_k": 1, "top_radius": -1}, ValueError, "top_radius must be at least 0 cells, got -1"),
    "top-upsample": ({"top_k": 2, "upsample": (9, 9)}, ValueError, "top_k must be None with upsample"),
    "normalization": ({"normalization": "max"}, ValueError, "normalization must be one of 'softmax', 'sum'"),
    "temperature": (
        {"normalization": "sum", "temperature": 0.1}, ValueError, "temperature must not be given with normalization",
    ),
    "outside": (
        {"normalization": "sum", "outside_value": 0.0}, ValueError, "normalization must be 'softmax' with a score of",
    ),
    "sum-upsample": (
        {"normalization": "sum", "upsample": (9, 9)}, ValueError, "normalization must be 'softmax' with upsample",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_refuses(case: str) -> None:
    options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        smk.localize(torch.zeros(1, 1, 3, 3), **options)


def test_refuses_scores_of_what_has_none() -> None:
    source, target, keypoints = pair()
    for options, message in (
        ({"upsample": (9, 9)}, "return_scores must be False with upsample"),
        ({"source_interpolation": "matches"}, "return_scores must be False with source_interpolation 'matches'"),
        ({"center": keypoints}, "return_scores must be False with center"),
    ):
        with pytest.raises(ValueError, match=message):
            smk.sparse_window_match(source, target, keypoints, return_scores=True, **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'return_scores'"):
        smk.localize(torch.zeros(1, 1, 3, 3), return_scores=True)  # type: ignore[call-arg]
