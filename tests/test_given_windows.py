"""The option `center`: windows round given points. Values by loops in float64, gradients, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends

from .samples import DEVICE
from .test_gradients import differentiates

BATCH, QUERIES, CHANNELS, HEIGHT, WIDTH = 2, 5, 6, 7, 9
WINDOWS: dict[str, dict[str, Any]] = {
    "odd": {"window_size": 3},
    "even": {"window_size": (4, 2)},
    "shrink": {"window_size": 5, "border": "shrink"},
    "shrink-even": {"window_size": (2, 6), "border": "shrink"},
    "larger-than-the-map": {"window_size": 20},
    "larger-shrink": {"window_size": 20, "border": "shrink"},
    "as-large-as-the-map": {"window_size": (HEIGHT, WIDTH)},
    "as-large-shrink": {"window_size": (HEIGHT, WIDTH), "border": "shrink"},
    "disc": {"window_size": 5, "window_shape": "disc"},
    "one-cell": {"window_size": 1},
}
by_window = pytest.mark.parametrize("window", WINDOWS)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)


def centers(kind: str) -> Tensor:
    """Cells (B, N) or points (B, N, 2): in the map, on its border and near it."""
    generator = torch.Generator().manual_seed(4)
    if kind == "cells":
        cells = torch.randint(0, HEIGHT * WIDTH, (BATCH, QUERIES), generator=generator)
        cells[0, 0], cells[1, 1] = 0, HEIGHT * WIDTH - 1
        return cells.to(DEVICE)
    points = (
        torch.rand(BATCH, QUERIES, 2, generator=generator, dtype=torch.float64) * torch.tensor([WIDTH, HEIGHT]) - 0.5
    )
    points[0, 0] = torch.tensor([3.0, 2.0])  # a cell
    return points.to(DEVICE)


def expected(scores: Tensor, center: Tensor, mask: Tensor | None, temperature: float, options: dict[str, Any]) -> Any:
    """(keypoint, score, log_sum_exp, covariance) of a query from its scores (H, W), by a loop; None without samples."""
    size = options["window_size"]
    rows, columns = size if isinstance(size, tuple) else (size, size)
    x, y = center.tolist()
    left, top = x - columns // 2, y - rows // 2
    if options.get("border", "shift") == "shift":
        rows, columns = min(rows, HEIGHT), min(columns, WIDTH)
        left, top = min(max(left, 0), WIDTH - columns), min(max(top, 0), HEIGHT - rows)
    found = []
    for j in range(rows):
        for i in range(columns):
            at_x, at_y = left + i, top + j
            if not (0 <= at_x <= WIDTH - 1 and 0 <= at_y <= HEIGHT - 1):
                continue
            if options.get("window_shape") == "disc" and 4 * ((at_x - x) ** 2 + (at_y - y) ** 2) >= size**2:
                continue
            score, counts = 0.0, True
            for cell_x in (math.floor(at_x), math.floor(at_x) + 1):
                for cell_y in (math.floor(at_y), math.floor(at_y) + 1):
                    weight = (1 - abs(at_x - cell_x)) * (1 - abs(at_y - cell_y))
                    if weight > 0:
                        score += weight * float(scores[cell_y, cell_x])
                        counts = counts and (mask is None or bool(mask[cell_y, cell_x]))
            if counts:
                found.append((score, at_x, at_y))
    if not found:
        return None
    s, c = (torch.tensor(x, dtype=torch.float64) for x in ([f[0] for f in found], [f[1:] for f in found]))
    p = torch.softmax(s / temperature, 0)
    mean = p @ c
    spread = (p[:, None] * (c - mean)).T @ (c - mean)
    return mean, s.max(), torch.logsumexp(s / temperature, 0), spread


def as_points(center: Tensor) -> Tensor:
    return torch.stack((center % WIDTH, center // WIDTH), -1).double() if center.dim() == 2 else center.double()


@by_window
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("kind", ["cells", "points"])
@pytest.mark.parametrize("function", ["localize", "match_descriptors"])
def test_is_the_softmax_over_the_window(function: str, kind: str, masked: bool, window: str, backend: str) -> None:
    if _backends.interpreting() and window not in ("even", "shrink", "disc"):
        pytest.skip("the interpreter is slow")
    descriptors, target = random(BATCH, QUERIES, CHANNELS), random(BATCH, CHANNELS, HEIGHT, WIDTH, seed=1)
    scores = torch.einsum("bnc,bchw->bnhw", F.normalize(descriptors, dim=2), F.normalize(target, dim=1))
    mask = random(BATCH, HEIGHT, WIDTH, seed=2) > -0.6 if masked else None
    center, options = centers(kind), WINDOWS[window]
    given: dict[str, Any] = {**options, "temperature": 0.3, "return_covariance": True, "backend": backend}
    given |= {"center": center, "target_mask": mask}
    if function == "localize":
        found = smk.localize(scores, **given)
    else:
        found = smk.match_descriptors(descriptors, target, eps=0.0, **given)
    assert found.covariance is not None and found.score.dtype == torch.float64
    points = as_points(center)
    for b in range(BATCH):
        for n in range(QUERIES):
            truth = expected(scores[b, n], points[b, n], None if mask is None else mask[b], 0.3, options)
            got = (found.keypoints[b, n], found.score[b, n], found.log_sum_exp[b, n], found.covariance[b, n])
            if truth is None:
                assert found.peak[b, n] == -1 and got[0].tolist() == [-1, -1]
                assert got[1] == got[2] == 0 and (got[3] == 0).all()
            else:
                for value, exact in zip(got, truth, strict=True):
                    torch.testing.assert_close(value.cpu(), exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", ["sparse_window_match", "match_descriptors", "localize"])
def test_the_peak_as_center_changes_nothing(function: str, backend: str) -> None:
    """Of a match in its own window: the same point, score and log_sum_exp, with any sizes and offset."""
    source, target = random(2, BATCH, CHANNELS, HEIGHT, WIDTH, dtype=torch.float32).unbind()
    options: dict[str, Any] = {
        "window_size": 5,
        "target_size": (70, 63),
        "target_coords": "half_pixel",
        "backend": backend,
    }
    options |= {"output_offset": 0.25, "temperature": 0.1}
    keypoints = torch.tensor([[1.0, 2.0], [8.0, 6.0], [4.0, 0.0]], device=DEVICE).expand(BATCH, -1, -1)

    def run(**more: Any) -> smk.Matches:
        if function == "sparse_window_match":
            return smk.sparse_window_match(source, target, keypoints, **options, **more)
        descriptors = smk.gather_keypoints(source, keypoints)
        if function == "match_descriptors":
            return smk.match_descriptors(descriptors, target, **options, **more)
        return smk.localize(smk.cosine_similarity(descriptors, target), **options, **more)

    plain = run()
    again = run(center=plain.peak)
    assert torch.equal(again.peak, plain.peak)
    cells = torch.stack((plain.peak % WIDTH, plain.peak // WIDTH), -1)
    in_pixels = (cells + 0.5) * torch.tensor([63 / WIDTH, 70 / HEIGHT], device=DEVICE) - 0.5 + 0.25
    for found in (again, run(center=in_pixels.double())):
        for name in ("keypoints", "score", "log_sum_exp"):
            torch.testing.assert_close(getattr(found, name), getattr(plain, name), rtol=2e-5, atol=2e-5)


def test_sizes_of_each_image(backend: str) -> None:
    """Every image gets what a call of its own with its size gives."""
    scores, sizes = random(BATCH, QUERIES, HEIGHT, WIDTH), ((70, 63), (35, 99))
    center = random(BATCH, QUERIES, 2, seed=3).abs() * 20
    options: dict[str, Any] = {"window_size": 3, "target_coords": "align_corners", "return_covariance": True}
    both = smk.localize(
        scores, center=center, target_size=torch.tensor(sizes, device=DEVICE), **options, backend=backend
    )
    for b, size in enumerate(sizes):
        one = smk.localize(scores[b : b + 1], center=center[b : b + 1], target_size=size, **options, backend=backend)
        for name in ("keypoints", "score", "peak", "log_sum_exp", "covariance"):
            torch.testing.assert_close(getattr(both, name)[b], getattr(one, name)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["cells", "points"])
@pytest.mark.parametrize("border", ["shift", "shrink"])
@pytest.mark.parametrize("function", ["localize", "match_descriptors"])
def test_differentiates(function: str, border: str, kind: str, backend: str) -> None:
    first = random(1, 3, 4, 5) if function == "localize" else random(1, 3, 4)
    target, temperature = random(1, 4, 4, 5, seed=1), torch.full((1, 3), 0.4, dtype=torch.float64, device=DEVICE)
    center: Tensor = torch.tensor([[[1.3, 2.2], [0.2, 0.6], [3.4, 2.9]]], dtype=torch.float64, device=DEVICE)
    if kind == "cells":
        center = torch.tensor([[11, 0, 18]], device=DEVICE)
    inputs = (
        [first, temperature] + ([target] if function != "localize" else []) + ([center] if kind == "points" else [])
    )
    leaves = tuple(x.clone().requires_grad_() for x in inputs)

    def run(first: Tensor, temperature: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        options: dict[str, Any] = {"window_size": 3, "border": border, "return_covariance": True, "backend": backend}
        options |= {"temperature": temperature, "center": rest[-1] if kind == "points" else center}
        found = (
            smk.localize(first, **options)
            if function == "localize"
            else smk.match_descriptors(first, rest[0], **options)
        )
        assert found.covariance is not None
        return found.keypoints, found.score, found.log_sum_exp, found.covariance

    assert differentiates(run, leaves, backend)


def test_padding_and_missing_cells(backend: str) -> None:
    """Rows of padding, cells of -1 (an invalid match found earlier) and windows without a cell of the mask."""
    scores = random(1, 5, 4, 6)
    scores[0, 1] = torch.nan
    mask = torch.ones(1, 4, 6, dtype=torch.bool, device=DEVICE)
    mask[0, :, 4:] = False
    valid = torch.tensor([[True, False, True, True, True]], device=DEVICE)
    found = smk.localize(
        scores, center=torch.tensor([[0, 2, -1, 11, 0]], device=DEVICE), valid=valid, target_mask=mask, window_size=1,
        num_keypoints=torch.tensor([4], device=DEVICE), backend=backend,
    )  # fmt: skip
    assert found.peak.tolist() == [[0, -1, -1, -1, -1]]
    assert (
        (found.keypoints[0, 1:] == -1).all()
        and (found.score[0, 1:] == 0).all()
        and (found.log_sum_exp[0, 1:] == 0).all()
    )


@pytest.mark.skipif(_backends.interpreting(), reason="compiles for seconds")
@pytest.mark.parametrize("kind", ["cells", "points"])
def test_compiles_and_maps(kind: str, backend: str) -> None:
    torch._dynamo.reset()
    source, target = random(BATCH, QUERIES, CHANNELS), random(BATCH, CHANNELS, HEIGHT, WIDTH)
    center = centers(kind)

    def run(source: Tensor, target: Tensor, center: Tensor) -> tuple[Tensor, ...]:
        return smk.match_descriptors(source, target, center=center, window_size=3, backend=backend)[:4]

    plain = run(source, target, center)
    compiled = torch.compile(run, fullgraph=True)(source, target, center)
    mapped = torch.func.vmap(run)(*(torch.stack((x, x)) for x in (source, target, center)))
    for a, b, c in zip(plain, compiled, mapped, strict=True):
        torch.testing.assert_close(b, a)
        torch.testing.assert_close(c[1], a)


SCORES = torch.zeros(1, 2, 3, 4)
CELLS = torch.zeros(1, 2, dtype=torch.int64)
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "kind": ({"center": 3}, TypeError, r"center must be a tensor of flat cells \(B, N\) or of points"),
    "shape": (
        {"center": torch.zeros(1, 3, 2)},
        ValueError,
        r"center must have shape .* \(1, 2, 2\) for points, got \(1, 3, 2\)",
    ),
    "reals": ({"center": torch.zeros(1, 2)}, TypeError, r"center of shape \(B, N\) must hold integers"),
    "beyond": (
        {"center": CELLS + 12},
        ValueError,
        "center must hold flat cells below H \\* W = 12 in valid rows, got 12",
    ),
    "nan": ({"center": torch.full((1, 2, 2), torch.nan)}, ValueError, "center must be finite in valid rows"),
    "global": (
        {"center": CELLS, "localization": "global"},
        ValueError,
        "center must be None with localization 'global'",
    ),
    "upsample": ({"center": CELLS, "upsample": (9, 9)}, ValueError, "center must be None with upsample"),
    "outside": (
        {"center": CELLS, "outside_value": 0.0},
        ValueError,
        "center must be None with a score of",
    ),
    "second": ({"center": CELLS, "return_second": True}, ValueError, "return_second must be False with center"),
    "top": ({"center": CELLS, "top_k": 2}, ValueError, "top_k must be None with center"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    options, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        smk.localize(SCORES, **options)


@pytest.mark.parametrize("metric", ["l2", "l1"])
def test_refuses_metrics_without_a_window(metric: str) -> None:
    with pytest.raises(ValueError, match=f"center must be None with metric '{metric}'"):
        smk.match_descriptors(torch.zeros(1, 2, 4), torch.zeros(1, 4, 3, 4), center=CELLS, metric=metric)
