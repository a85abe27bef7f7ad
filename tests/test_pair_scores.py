"""`pair_scores` on every backend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _resolved

from .oracle import WIDER, relative_error
from .samples import DEVICE, SIMULATED
from .set_samples import Sample, by_dtype, listed, scores_of
from .traces import Calls, compiled

SETS = torch.zeros(2, 5, 4), torch.zeros(2, 6, 4)


def pairs_of(sample: Sample, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sets, and pairs some of which repeat a descriptor or are padding."""
    a, b, _ = sample.make(dtype)
    draw = torch.Generator().manual_seed(3)
    of_a, of_b = (torch.randint(-2, listed(x).shape[1], (len(a), 31), generator=draw).to(DEVICE) for x in (a, b))
    return a, b, of_a, of_b


@by_dtype
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_pairs_agree_with_plain_pytorch(metric: str, layout: str, dtype: torch.dtype, backend: str) -> None:
    a, b, of_a, of_b = pairs_of(Sample("x", of_a=(3, 7), layout=layout), dtype)
    part = (of_a >= 0) & (of_b >= 0)

    def run(a: Tensor, b: Tensor) -> Tensor:
        a, b = (
            listed(x).gather(
                1, index.clamp(min=0)[..., None].expand(-1, -1, x.shape[1] if x.dim() == 4 else x.shape[2])
            )
            for x, index in ((a, of_a), (b, of_b))
        )
        return torch.where(
            part,
            scores_of(a[:, :, None].flatten(0, 1), b[:, :, None].flatten(0, 1), {"metric": metric}).view(part.shape),
            0,
        )

    exact_leaves = [x.double().requires_grad_() for x in (a, b)]
    leaves = [x.requires_grad_() for x in (a, b)]
    exact = run(*exact_leaves)
    found = smk.pair_scores(*leaves, of_a, of_b, metric=metric, backend=backend)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert relative_error(found, exact) < (1e-11 if dtype == torch.float64 else 2e-6)
    upstream = torch.randn(part.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).to(DEVICE)
    upstream = torch.where(part, upstream, torch.nan)  # padding passes on nothing
    gradients = torch.autograd.grad(found, leaves, upstream.to(found.dtype))
    for x, y in zip(gradients, torch.autograd.grad(exact, exact_leaves, upstream.nan_to_num()), strict=True):
        assert relative_error(x, y) < 3 * WIDER[dtype]


def test_pairs_are_those_of_match_all(backend: str) -> None:
    a, b, _ = Sample("x", of_a=(40,), of_b=(5, 6)).make()
    m = smk.match_all(a, b, num_b=torch.tensor([30, 0], device=DEVICE), backend=backend)
    torch.testing.assert_close(smk.pair_scores(a, b, None, m.index_a, backend=backend), m.score_a)
    torch.testing.assert_close(smk.pair_scores(a, b, m.index_b, None, backend=backend), m.score_b)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
def test_pairs_gradcheck(metric: str, backend: str) -> None:
    if _backends.interpreting():
        pytest.skip("hundreds of interpreted launches; the gradients are compared with plain PyTorch")
    a, b, of_a, of_b = pairs_of(Sample("x", channels=3, of_a=(5,), of_b=(2, 3)), torch.float64)
    run = lambda a, b: smk.pair_scores(a, b, of_a, of_b, metric=metric, eps=0.1, backend=backend)  # noqa: E731
    leaves = [x.requires_grad_() for x in (a, b)]
    assert torch.autograd.gradcheck(run, leaves, check_forward_ad=True, check_batched_grad=True, atol=1e-5)


def test_pairs_in_blocks(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget changes nothing but the memory."""
    a, b, of_a, of_b = pairs_of(Sample("x", of_a=(40,)), torch.float32)
    leaves = [x.requires_grad_() for x in (a, b)]
    found = []
    for budget in (1, 5 * 2 * 2 * 8 * 20, _resolved.SCORE_BUDGET_BYTES):
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", budget)
        scores = smk.pair_scores(*leaves, of_a, of_b, backend=backend)
        found.append((scores, *torch.autograd.grad(scores.square().sum(), leaves)))
    for others in found[1:]:
        for x, y in zip(found[0], others, strict=True):
            assert relative_error(x, y) < 1e-7


@pytest.mark.skipif(SIMULATED, reason="the same registration, at seconds a launch")
def test_pairs_opcheck_compile_and_vmap(backend: str) -> None:
    a, b, of_a, of_b = pairs_of(Sample("x", of_a=(40,)), torch.float64)
    with Calls() as calls:
        leaves = [x.requires_grad_() for x in (a, b)]
        smk.pair_scores(*leaves, of_a, of_b, backend=backend).sum().backward()
    assert len(calls.made) == 2
    calls.check(backend)
    run = lambda a, b, i, j: smk.pair_scores(a, b, i, j, backend=backend)  # noqa: E731
    plain = run(a, b, of_a, of_b)
    torch.testing.assert_close(compiled(run, backend)(a, b, of_a, of_b), plain)
    several = [torch.stack((x.detach(), x.detach().flip(0))) for x in (a, b, of_a, of_b)]
    torch.testing.assert_close(torch.vmap(run)(*several), torch.stack((plain, plain.flip(0))))


def test_pairs_of_nothing_and_beyond(backend: str) -> None:
    none = torch.zeros(2, 0, 4, device=DEVICE, requires_grad=True)
    some = torch.ones(2, 3, 4, device=DEVICE, requires_grad=True)
    index = torch.full((2, 5), -1, device=DEVICE)
    scores = smk.pair_scores(none, some, index, index, backend=backend)
    assert (scores == 0).all() and scores.shape == (2, 5)
    scores.sum().backward()
    assert some.grad is not None and (some.grad == 0).all()
    assert smk.pair_scores(some, some, index[:, :0], index[:, :0], backend=backend).shape == (2, 0)
    if DEVICE.type == "cpu":
        with pytest.raises(ValueError, match=r"index_b must be below the number of descriptors of b, 3, .* got 3"):
            smk.pair_scores(some, some, index + 1, index + 4, backend=backend)


@pytest.mark.parametrize(
    ("of_a", "of_b", "error", "sentence"),
    [
        (None, None, ValueError, "index_a or index_b must be given"),
        (torch.zeros(2, 3), None, TypeError, "index_a must hold integers"),
        (torch.zeros(1, 3).long(), torch.zeros(2, 3).long(), ValueError, "index_a must have the same batch size as a"),
        (
            torch.zeros(2, 3).long(),
            None,
            ValueError,
            "index_a must have the same number of pairs as index_b, got 3 and 6",
        ),
    ],
)
def test_faulty_pairs_in_one_sentence(of_a: Any, of_b: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        smk.pair_scores(*SETS, of_a, of_b)
