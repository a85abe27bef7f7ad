"""A mask of the target's cells for each query: every query answers as if it were alone with its mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _native, _resolved

from .samples import DEVICE

BATCH, QUERIES, SIZE = 2, 5, (6, 7)
OPTIONS: list[dict[str, Any]] = [
    {"window_size": 5},
    {"localization": "global"},
    {"localization": "gaussian", "sigma": 2.0},
    {"window_size": 3, "outside_value": 0.1},
    {"window_size": 4.5, "window_shape": "disc", "outside_value": -0.1},
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE)


def masks(*size: int, batch: int = BATCH, queries: int = QUERIES) -> Tensor:
    """Of which one selects a single cell, and one none."""
    size = size or SIZE
    chosen = torch.rand(batch, queries, *size, generator=torch.Generator().manual_seed(1)) < 0.5
    chosen[0, 1] = False
    chosen[1, 2] = False
    chosen[1, 2, size[0] // 2, 1] = True
    return chosen.to(DEVICE)


def results(found: smk.Matches) -> list[Tensor]:
    return [x for x in found if x is not None]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_query_is_alone_with_its_mask(options: dict[str, Any], backend: str) -> None:
    scores, mask = draw(BATCH, QUERIES, *SIZE), masks()
    options = {**options, "temperature": 0.5, "return_covariance": True, "return_second": True, "backend": backend}
    together = smk.localize(scores, target_mask=mask, **options)
    for n in range(QUERIES):
        alone = smk.localize(scores[:, n : n + 1], target_mask=mask[:, n], **options)
        for one, other in zip(results(together), results(alone), strict=True):
            assert torch.equal(one[:, n : n + 1], other)
    assert together.peak[0, 1] == -1 and together.score[0, 1] == 0 and together.log_sum_exp[0, 1] == 0
    assert (together.keypoints[0, 1] == -1).all()
    assert together.second_peak is not None and together.second_score is not None
    assert together.peak[1, 2] == SIZE[0] // 2 * SIZE[1] + 1
    assert together.second_peak[1, 2] == -1 and together.second_score[1, 2] == -torch.inf


@pytest.mark.parametrize("budget", [None, 1], ids=["at once", "in blocks"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_those_of_queries_alone(
    options: dict[str, Any], budget: int | None, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if budget is not None:
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", budget)
    mask = masks()
    queries, target = draw(BATCH, QUERIES, 4), draw(BATCH, 4, *SIZE, seed=1)
    temperature = draw(BATCH, QUERIES, seed=2).abs() + 0.5
    found: list[list[Tensor]] = []
    for alone in (False, True):
        leaves = [x.clone().requires_grad_() for x in (queries, target, temperature)]
        q, f, t = leaves
        rows = [slice(n, n + 1) for n in range(QUERIES)] if alone else [slice(0, QUERIES)]
        total = torch.zeros((), dtype=torch.float64, device=DEVICE)
        for n in rows:
            of_rows = mask[:, n.start] if alone else mask
            m = smk.match_descriptors(
                q[:, n], f, temperature=t[:, n], target_mask=of_rows, return_covariance=True, **options, backend=backend
            )
            assert m.covariance is not None
            total = total + m.keypoints.sin().sum() + m.score.sum() + m.log_sum_exp.cos().sum() + m.covariance.sum()
        found.append([total.detach(), *torch.autograd.grad(total, leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    assert not found[0][1][0, 1].any() and not found[0][3][0, 1].any()  # of the row without a cell


def test_one_mask_expanded_is_one_mask(backend: str) -> None:
    queries, target, mask = draw(BATCH, QUERIES, 4), draw(BATCH, 4, *SIZE, seed=1), masks()[:, 0]
    expected = smk.match_descriptors(queries, target, target_mask=mask, backend=backend)
    several = mask[:, None].expand(-1, QUERIES, -1, -1)
    for given in (several, several.contiguous(), several.transpose(2, 3).contiguous().transpose(2, 3)):
        found = smk.match_descriptors(queries, target, target_mask=given, backend=backend)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("worst", [torch.nan, torch.inf])
def test_a_cell_that_is_not_finite_spoils_only_the_queries_that_may_see_it(
    worst: float, metric: str, backend: str
) -> None:
    queries, target = draw(1, 3, 4).requires_grad_(), draw(1, 4, *SIZE, seed=1)
    target[0, 2, 3, 3] = worst
    target.requires_grad_()
    mask = torch.ones(1, 3, *SIZE, dtype=torch.bool, device=DEVICE)
    mask[0, ::2, 3, 3] = False
    options = {"metric": metric, "localization": "global", "temperature": 1.0, "target_mask": mask, "backend": backend}
    found = smk.match_descriptors(queries, target, **options)
    assert found.keypoints[0, ::2].isfinite().all()
    assert found.keypoints[0, 1].isnan().all() or worst == torch.inf  # which may be the best score, or the worst
    of_queries, of_target = torch.autograd.grad(found.keypoints[:, ::2].sum(), (queries, target))
    assert of_queries.isfinite().all() and of_queries[0, ::2].any()
    assert of_target.isfinite().all() and not of_target[0, :, 3, 3].any()


def test_interpolated_matches(backend: str) -> None:
    """The four cells around a keypoint share its mask."""
    source, target, mask = draw(BATCH, 4, 5, 6), draw(BATCH, 4, *SIZE, seed=1), masks()
    keypoints = draw(BATCH, QUERIES, 2, seed=2).abs() + 0.3
    options = {"source_interpolation": "matches", "window_size": 3, "temperature": 0.5, "backend": backend}
    together = smk.sparse_window_match(source, target, keypoints, target_mask=mask, **options)
    for n in range(QUERIES):
        alone = smk.sparse_window_match(source, target, keypoints[:, n : n + 1], target_mask=mask[:, n], **options)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[:, n : n + 1], other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("budget", [None, 1], ids=["at once", "in blocks"])
def test_masks_of_an_upsampled_map(budget: int | None, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if budget is not None:
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", budget)
    fine = (11, 13)
    mask, found = masks(*fine), []
    for alone in (False, True):
        q, f = draw(BATCH, QUERIES, 4).requires_grad_(), draw(BATCH, 4, *SIZE, seed=1).requires_grad_()
        rows = [slice(n, n + 1) for n in range(QUERIES)] if alone else [slice(0, QUERIES)]
        parts = [
            smk.match_descriptors(
                q[:, n], f, upsample=fine, window_size=5.5, window_shape="disc", outside_value=0.1, temperature=0.5,
                target_mask=mask[:, n.start] if alone else mask, backend=backend,
            )
            for n in rows
        ]  # fmt: skip
        keypoints, peak = torch.cat([m.keypoints for m in parts], 1), torch.cat([m.peak for m in parts], 1)
        found.append([keypoints.detach(), peak, *torch.autograd.grad(keypoints.sin().sum(), (q, f))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    assert found[0][1][0, 1] == -1


@pytest.mark.parametrize("budget", [None, 1], ids=["at once", "in blocks"])
def test_cross_entropy(budget: int | None, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if budget is not None:
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", budget)
    mask, found = masks(), []
    points = (draw(BATCH, QUERIES, 2, seed=3).abs() + 1).clamp(max=4)
    for alone in (False, True):
        q, f = draw(BATCH, QUERIES, 4).requires_grad_(), draw(BATCH, 4, *SIZE, seed=1).requires_grad_()
        rows = [slice(n, n + 1) for n in range(QUERIES)] if alone else [slice(0, QUERIES)]
        loss = torch.cat(
            [
                smk.match_descriptors_cross_entropy(
                    q[:, n], f, points[:, n], kernel_size=3, temperature=0.5, reduction="none", backend=backend,
                    target_mask=mask[:, n.start] if alone else mask,
                )
                for n in rows
            ],
            1,
        )  # fmt: skip
        found.append([loss.detach(), *torch.autograd.grad(loss.sum(), (q, f))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    assert found[0][0][0, 1] == 0 and found[0][0][0, 0] > 0


@pytest.mark.parametrize("budget", [None, 1], ids=["at once", "in blocks"])
@pytest.mark.parametrize(
    "options",
    [
        {"center": "cells", "window_size": 3},
        {"center": "points", "window_size": 4.5, "window_shape": "disc"},
        {"top_k": 3, "top_radius": 1},
        {"return_scores": True},
    ],
    ids=lambda o: next(iter(o)) + " " + str(next(iter(o.values()))),
)
def test_given_windows_and_ranks(
    options: dict[str, Any], budget: int | None, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if budget is not None:
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", budget)
    queries, target, mask = draw(BATCH, QUERIES, 4), draw(BATCH, 4, *SIZE, seed=1), masks()
    centers = {
        "cells": torch.arange(BATCH * QUERIES, device=DEVICE).view(BATCH, QUERIES) * 4,
        "points": draw(BATCH, QUERIES, 2, seed=2).abs() + 1.3,
    }
    together = dict(options)
    if "center" in options:
        together["center"] = centers[options["center"]]
    found = smk.match_descriptors(queries, target, target_mask=mask, **together, backend=backend)
    for n in range(QUERIES):
        alone = {name: x[:, n : n + 1] if name == "center" else x for name, x in together.items()}
        expected = smk.match_descriptors(
            queries[:, n : n + 1], target, target_mask=mask[:, n], **alone, backend=backend
        )
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one[:, n : n + 1], other, rtol=1e-12, atol=1e-12)
    assert found.peak[0, 1] == -1


def test_vmap_maps_masks_too(backend: str) -> None:
    """Masks and scores mapped, masks alone mapped, and masks that all share."""
    scores, mask = draw(3, BATCH, QUERIES, *SIZE), torch.stack([masks(), ~masks(), masks().flip(1)], 0)

    def run(s: Tensor, m: Tensor) -> Tensor:
        return smk.localize(s, window_size=3, temperature=0.5, target_mask=m, backend=backend).keypoints

    for in_dims in ((0, 0), (None, 0), (0, None)):
        pick = lambda x, dim, i: x[i] if dim == 0 else x[0]  # noqa: E731
        expected = [run(pick(scores, in_dims[0], i), pick(mask, in_dims[1], i)) for i in range(3)]
        given = [x if dim == 0 else x[0] for x, dim in zip((scores, mask), in_dims, strict=True)]
        assert torch.equal(torch.vmap(run, in_dims)(*given), torch.stack(expected))
        jacobians = torch.vmap(torch.func.jacrev(run), in_dims)(*given)
        assert jacobians.shape[0] == 3 and jacobians.isfinite().all()


def test_forward_mode_is_that_of_reverse_mode(backend: str) -> None:
    scores, mask = draw(BATCH, QUERIES, *SIZE), masks()
    direction, weights = draw(BATCH, QUERIES, *SIZE, seed=4), draw(BATCH, QUERIES, 2, seed=5)
    options: dict[str, Any] = {"window_size": 3, "window_shape": "plus", "temperature": 0.5, "target_mask": mask}

    def run(s: Tensor) -> Tensor:
        return smk.localize(s, **options, backend=backend).keypoints

    _, forward = torch.func.jvp(run, (scores,), (direction,))
    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((run(leaf) * weights).sum(), leaf)
    torch.testing.assert_close((forward * weights).sum(), (gradient * direction).sum(), rtol=1e-9, atol=1e-10)


@pytest.mark.skipif(_native.why_not() is not None or DEVICE.type != "cpu", reason="there is no compiled module")
@pytest.mark.parametrize("options", OPTIONS[::2], ids=str)
def test_arrays(options: dict[str, Any]) -> None:
    """The NumPy functions give the bits of the CPU backend: matched, upsampled, interpolated, and the loss."""
    np = pytest.importorskip("numpy")
    from simplematch_kernels import numpy as smn

    source, target = draw(BATCH, 4, 5, 6).float(), draw(BATCH, 4, *SIZE, seed=1).float()
    keypoints = draw(BATCH, QUERIES, 2, seed=2).abs().float()
    variants: list[tuple[dict[str, Any], tuple[int, int]]] = [
        ({}, SIZE), ({"upsample": (9, 8)}, (9, 8)), ({"source_interpolation": "matches"}, SIZE), ({"top_k": 2}, SIZE),
    ]  # fmt: skip
    for more, size in variants:
        mask = masks(*size)
        ours = smn.sparse_window_match(
            *(x.numpy() for x in (source, target, keypoints)), target_mask=mask.numpy(), **options, **more
        )
        theirs = smk.sparse_window_match(source, target, keypoints, target_mask=mask, **options, **more, backend="cpu")
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                np.testing.assert_array_equal(one, other.numpy())
    center = draw(BATCH, QUERIES, 2, seed=4).abs() + 1
    for shape in (
        {"window_size": 3},
        {"window_size": 3.5, "window_shape": "disc"},
        {"window_size": 3, "window_shape": "plus"},
    ):
        of_center = {**shape, "temperature": 0.5}
        given = smn.sparse_window_match(
            *(x.numpy() for x in (source, target, keypoints)),
            center=center.numpy(), target_mask=masks().numpy(), **of_center,
        )  # fmt: skip
        theirs = smk.sparse_window_match(
            source, target, keypoints, center=center, target_mask=masks(), **of_center, backend="cpu"
        )
        for one, other in zip(given[:4], theirs[:4], strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-5)
    loss = {"target_mask": masks(), "reduction": "none", "kernel_size": 3}
    expected = smk.sparse_match_cross_entropy(source, target, keypoints, keypoints, **loss, backend="cpu")
    arrays = [x.numpy() for x in (source, target, keypoints, keypoints)]
    found = smn.sparse_match_cross_entropy(*arrays, **{**loss, "target_mask": masks().numpy()})
    np.testing.assert_array_equal(found, expected.numpy())


def test_a_flow_has_one_mask_an_image() -> None:
    target = draw(1, 4, 3, 4)
    mask = torch.ones(1, 12, 3, 4, dtype=torch.bool, device=DEVICE)
    with pytest.raises(ValueError, match=r"target_mask must have shape \(B, H, W\), got \(1, 12, 3, 4\)"):
        smk.dense_match(target, target, target_mask=mask)
