"""The metric "l1": scores and gradients that are known exactly, where numbers are equal, and what isn't finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels.numpy import functional as smk_numpy

from .samples import DEVICE, DTYPES, LAYOUTS, SIMULATED, lay_out

NAN, INF = float("nan"), float("inf")


def integers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Small whole numbers, whose sums are exact in every type; many are equal."""
    x = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed))
    return x.to(DEVICE, dtype)


def differences(q: Tensor, f: Tensor) -> Tensor:
    """(B, N, M, C) in float64."""
    return q.double()[:, :, None] - f.double().flatten(2).mT[:, None]


@pytest.mark.parametrize("layout", LAYOUTS[:2] if SIMULATED else LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("queries", "channels"), [(7, 67)] if SIMULATED else [(1, 1), (7, 67), (70, 20)])
def test_whole_numbers_are_exact(queries: int, channels: int, dtype: torch.dtype, layout: str, backend: str) -> None:
    """Scores are; and so are gradients, of which sign(0) = 0 takes a part."""
    q = integers(2, queries, channels, dtype=dtype).requires_grad_()
    f = lay_out(integers(2, channels, 9, 10, seed=1, dtype=dtype), layout).detach().requires_grad_()
    scores = smk.cosine_similarity(q, f, metric="l1", backend=backend)
    d = differences(q.detach(), f.detach())
    assert torch.equal(scores.flatten(2).double(), -d.abs().sum(3))
    assert (d == 0).any()
    upstream = integers(*scores.shape, seed=2).to(scores)
    of_q, of_f = torch.autograd.grad(scores, (q, f), upstream)
    weights = upstream.double().flatten(2)[..., None] * d.sign()
    assert torch.equal(of_q.double(), -weights.sum(2).to(dtype).double())
    assert torch.equal(of_f.flatten(2).mT.double(), weights.sum(1).to(dtype).double())


def test_equal_vectors_have_score_and_gradient_zero(backend: str) -> None:
    target = torch.randn(1, 40, 5, 6, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    q = target.flatten(2).mT.contiguous().requires_grad_()
    scores = smk.cosine_similarity(q, target, metric="l1", backend=backend)
    assert (scores <= 0).all() and (scores.flatten(2).diagonal(dim1=1, dim2=2) == 0).all()
    assert torch.equal(scores.flatten(2), scores.flatten(2).mT)
    (gradient,) = torch.autograd.grad(scores.flatten(2).diagonal(dim1=1, dim2=2).sum(), q)
    assert (gradient == 0).all()
    found = smk.match_all(q, target, metric="l1", return_second=True, backend=backend)
    assert torch.equal(found.index_a[0], torch.arange(30, device=DEVICE)) and found.mutual.all()
    assert (found.score_a == 0).all() and (found.second_a is not None and (found.second_a < 0).all())


@pytest.mark.parametrize("count", [1, 6, 31])
def test_ties_go_to_the_lowest_index(count: int, backend: str) -> None:
    """Of cells that are equal, and of cells that are only equally far: one above, one below in another channel."""
    q = integers(1, count, 33)
    target = torch.full((1, 33, 8, 9), 40.0, device=DEVICE)
    target[..., 2, 3] = target[..., 5, 1] = 9.0
    target[:, :, 7, 7] = 9.0
    assert (smk.match_descriptors(q, target, metric="l1", backend=backend).peak == 2 * 9 + 3).all()
    zero = torch.zeros(1, 2, 33, device=DEVICE)
    target = torch.full((1, 33, 4, 5), 9.0, device=DEVICE)
    target[:, :, 1, 2], target[:, :, 3, 0] = 0, 0
    target[:, 5, 1, 2], target[:, 20, 3, 0] = 3, -3
    assert (smk.match_descriptors(zero, target, metric="l1", backend=backend).peak == 7).all()
    found = smk.match_all(zero, target, metric="l1", backend=backend)
    assert (found.index_a == 7).all() and (found.index_b == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_float32_keeps_the_digits_of_any_magnitude(dtype: torch.dtype, backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    for scale in (1e-42, 1e-30, 1e-3, 1e15, 1e36):
        q, f = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((1, 7, 50), (1, 50, 5, 7)))
        q, f = (q * scale).to(DEVICE, dtype), (f * scale).to(DEVICE, dtype)
        scores = smk.cosine_similarity(q, f, metric="l1", backend=backend).flatten(2).double()
        exact = -differences(q, f).abs().sum(3)
        held = exact.abs() < 3e38
        assert ((scores - exact).abs() <= 1e-6 * exact.abs() + 1e-44)[held].all(), scale
        assert (scores == -INF)[exact.abs() > 3.5e38].all()
        index = smk.match_all(q, f, metric="l1", backend=backend).index_a
        chosen = exact.gather(2, index[..., None])[..., 0]
        assert (chosen >= exact.amax(2) * (1 + 1e-6)).all(), scale


def test_what_is_not_finite_stays_in_its_row(backend: str) -> None:
    q, f = integers(1, 9, 12), integers(1, 12, 3, 30, seed=1)
    q[0, 2, 3], q[0, 4, 0], f[0, 5, 1, 1], f[0, 0, 2, 2] = NAN, INF, -INF, INF
    q.requires_grad_()
    f.requires_grad_()
    scores = smk.cosine_similarity(q, f, metric="l1", backend=backend)
    d = differences(q.detach(), f.detach())
    expected = -d.abs().sum(3).view(scores.shape)
    torch.testing.assert_close(scores.double(), expected, equal_nan=True, rtol=0, atol=0)
    assert scores[0, 4, 2, 2].isnan() and scores[0, 2].isnan().all()
    upstream = torch.ones_like(scores)
    upstream[0, 2], upstream[0, 4], upstream[:, :, 1, 1], upstream[:, :, 2, 2] = 0, 0, 0, 0
    gradients = torch.autograd.grad(scores, (q, f), upstream, retain_graph=True)
    assert all(g.isfinite().all() for g in gradients)
    assert (gradients[0][0, 2] == 0).all() and (gradients[1][..., 1, 1] == 0).all()
    upstream[0, 4, 0, 0] = 1
    of_q, of_f = torch.autograd.grad(scores, (q, f), upstream)
    assert of_q[0, 4].isnan().all() and of_f[0, :, 0, 0].isnan().all()
    assert of_q.isnan().sum() == 12 and of_f.isnan().sum() == 12


def test_sets_with_what_is_not_finite(backend: str) -> None:
    """NaN is above every number; a vector with an infinity is infinitely far."""
    a, b = integers(1, 8, 10), integers(1, 70, 10, seed=1)
    a[0, 3, 2], b[0, 40, 1], b[0, 5, 0] = INF, NAN, 1e30
    a.requires_grad_()
    b.requires_grad_()
    found = smk.match_all(a, b, metric="l1", return_second=True, backend=backend)
    exact = -(a.detach().double()[:, :, None] - b.detach().double()[:, None]).abs().sum(3)
    assert (found.index_a == 40).all() and found.score_a.isnan().all()
    assert found.second_a is not None
    others = exact[:, :, torch.arange(70, device=DEVICE) != 40].amax(2)
    torch.testing.assert_close(found.second_a.double(), others, rtol=1e-6, atol=0)
    assert float(found.score_b[0, 5].detach()) == pytest.approx(float(exact[0, :, 5].amax()), rel=1e-6)
    (gradient,) = torch.autograd.grad(found.score_b[0, :40].sum(), b)
    chosen = found.index_b[0, :40]
    signs = (a.detach()[0, chosen] - b.detach()[0, :40]).sign()
    assert torch.equal(gradient[0, :40], signs) and (gradient[0, 40:] == 0).all()


def test_a_map_against_a_map_of_large_numbers(backend: str) -> None:
    """Of which the squares leave float32: their distances, and the signs, don't."""
    generator = torch.Generator().manual_seed(5)
    a, b = (1e25 * torch.randn(1, n, 6, generator=generator).to(DEVICE) for n in (9, 11))
    leaves = a.requires_grad_(), b.requires_grad_()
    found = smk.match_all(*leaves, metric="l1", temperature=1e25, backend=backend)
    gradients = torch.autograd.grad((found.log_sum_exp_a.sum(), found.log_sum_exp_b.sum()), leaves)
    wide = a.detach().double().requires_grad_(), b.detach().double().requires_grad_()
    scores = -(wide[0][:, :, None] - wide[1][:, None]).abs().sum(3) / 1e25
    expected = torch.autograd.grad(scores.logsumexp(2).sum() + scores.logsumexp(1).sum(), wide)
    for gradient, exact in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_queries_in_blocks_give_what_one_block_does(layout: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, f = integers(2, 23, 30).requires_grad_(), lay_out(integers(2, 30, 8, 9, seed=1), layout).requires_grad_()
    options: dict[str, Any] = {"metric": "l1", "window_size": 5, "temperature": 8.0, "backend": backend}

    def run() -> list[Tensor]:
        matches = smk.match_descriptors(q, f, **options)
        upstream = integers(2, 23, 2, seed=4).to(matches.keypoints)
        return [matches.keypoints, matches.score, *torch.autograd.grad(matches.keypoints, (q, f), upstream)]

    whole = run()
    monkeypatch.setattr("simplematch_kernels._resolved.SCORE_BUDGET_BYTES", 4000)
    for x, y in zip(run(), whole, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_numpy_scores_are_those_of_torch() -> None:
    q, f = integers(2, 7, 19).cpu(), integers(2, 19, 4, 5, seed=1).cpu()
    expected = smk.cosine_similarity(q, f, metric="l1", backend="reference")
    found = smk_numpy.cosine_similarity(q.numpy(), f.numpy(), metric="l1")
    assert torch.equal(torch.from_numpy(found), expected)


@pytest.mark.parametrize("needs", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1)], ids=str)
def test_any_subset_of_the_gradients(needs: tuple[int, ...], backend: str) -> None:
    inputs = integers(1, 9, 5), integers(1, 11, 5, seed=1), torch.tensor(4.0, device=DEVICE)

    def gradients(wanted: tuple[int, ...]) -> list[Tensor]:
        leaves = [x.detach().requires_grad_(i in wanted) for i, x in enumerate(inputs)]
        found = smk.match_all(*leaves[:2], temperature=leaves[2], metric="l1", backend=backend)
        assert found.log_sum_exp_a is not None and found.log_sum_exp_b is not None
        total = found.log_sum_exp_a.sum() + 2 * found.log_sum_exp_b.sum() + found.score_a.sum()
        return list(torch.autograd.grad(total, [leaves[i] for i in wanted]))

    of_all = gradients((0, 1, 2))
    for i, gradient in zip(needs, gradients(needs), strict=True):
        assert torch.equal(gradient, of_all[i])
