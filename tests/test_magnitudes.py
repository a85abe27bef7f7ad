"""Scores are those of float64 arithmetic at every magnitude, in every tile of a kernel; NaN stays where it is."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends

from .samples import DEVICE

MAGNITUDES = ((1.0, 1.0), (1e-30, 1e-30), (1e-22, 1.0), (1e-12, 1e-34), (1e22, 1e22), (1e30, 1e-30))


def draw(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    return (x * scale).to(DEVICE, dtype)


def errors(scores: Tensor, exact: Tensor, magnitude: Tensor) -> Tensor:
    """Relative to what the summands of a score add up to without signs, where a float32 can hold the score."""
    held = (exact.abs() < 3e38) & (exact.abs() > 1e-37)
    assert torch.equal(scores.isinf(), exact.abs() > 3.5e38)
    return ((scores.double() - exact).abs() / magnitude)[held]


@pytest.mark.parametrize("queries", [5, 70])  # kernels take tiles of 32 and of 64 queries
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
def test_scores_of_any_magnitude_are_those_of_float64(metric: str, queries: int, backend: str) -> None:
    cases = list(product((torch.float32, torch.bfloat16), MAGNITUDES, (1e-8, 0.0)))
    if _backends.interpreting() and queries > 5:
        cases = cases[::5]  # of each kind; all of them take minutes
    for dtype, (of_query, of_target), eps in cases:
        q = draw(1, queries, 70, dtype=dtype, scale=of_query)
        f = draw(1, 70, 9, 9, dtype=dtype, scale=of_target)
        f[..., :2, :] = 0
        f[..., 4, 4] = q[:, 3]  # a distance of 0
        options: dict[str, Any] = {"metric": metric, "eps": eps}
        scores = smk.cosine_similarity(q, f, **options, backend=backend)
        exact, magnitude = (
            smk.cosine_similarity(x, y, **options, backend="reference")
            for x, y in ((q.double(), f.double()), (q.double().abs(), f.double().abs()))
        )
        if metric in ("l2", "l1"):
            assert scores.amax() == 0 and scores[0, 3, 4, 4] == 0
            magnitude = exact.abs()
        found = errors(scores, exact, magnitude.clamp(min=1e-15))  # less is nothing beside eps
        assert found.numel() == 0 or found.max() < 1e-5, (dtype, of_query, of_target, eps)


def test_small_distances_keep_their_digits(backend: str) -> None:
    q = draw(1, 8, 768)
    target = torch.stack([q[0] * (1 + 2.0**-k) for k in range(18)], 0).permute(2, 0, 1)[None]  # (1, C, 18, 8)
    scores = smk.cosine_similarity(q, target.contiguous(), metric="l2", backend=backend)
    own = scores.diagonal(dim1=1, dim2=3)[0]  # of every query with its copies
    exact = -(target[0].permute(1, 2, 0).double() - q[0].double()).square().sum(-1)
    assert ((own - exact).abs() / exact.abs()).max() < 1e-5


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_samples_of_float16_features_are_matched_in_float32(scale: float, backend: str) -> None:
    source, target = draw(1, 40, 6, 6, scale=scale).half(), draw(1, 40, 7, 7).half()
    points = torch.tensor([[[1.3, 2.6], [0.1, 4.9], [3.7, 0.2]]], device=DEVICE)
    options: dict[str, Any] = {"sampling": "bilinear", "localization": "argmax"}
    matches = smk.sparse_window_match(source, target, points, **options, backend=backend)
    exact = smk.sparse_window_match(source.double(), target.double(), points, **options, backend="reference")
    assert ((matches.score - exact.score).abs() / exact.score.abs()).max() < 1e-5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_nan_outside_every_window_reaches_no_gradient(layout: torch.memory_format, backend: str) -> None:
    target = draw(1, 8, 6, 6, scale=0.1)
    target[0, :, 1, 1] = 1.0  # the peak of every query: windows of rows 0 to 2
    target[0, :, 3] = float("nan")
    mask = torch.ones(1, 6, 6, dtype=torch.bool, device=DEVICE)
    mask[:, 3] = False
    source = draw(1, 8, 4, 4).abs().requires_grad_()
    target = target.to(memory_format=layout).requires_grad_()
    points = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]], device=DEVICE)
    options: dict[str, Any] = {"window_size": 3, "temperature": 1.0, "target_mask": mask}
    matches = smk.sparse_window_match(source, target, points, **options, backend=backend)
    matches.keypoints.square().sum().backward()
    assert source.grad is not None and target.grad is not None
    assert source.grad.isfinite().all() and source.grad.count_nonzero() > 0
    assert target.grad.isfinite().all() and target.grad[0, :, 3:].count_nonzero() == 0
