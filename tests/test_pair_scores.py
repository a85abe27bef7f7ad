"""`pair_scores` on every backend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _resolved
from simplematch_kernels._options import MetricOptions
from simplematch_kernels._types import PairGradients, PairProblem, PairUpstream

from .oracle import WIDER, relative_error
from .samples import DEVICE, SIMULATED
from .set_samples import Sample, by_dtype, listed, scores_of
from .traces import Calls, compiled

SETS = torch.zeros(2, 5, 4), torch.zeros(2, 6, 4)
KINDS, LAYOUTS = ("once", "often", "mixed"), ("list", "map", "channels_last", "sliced", "transposed")
if _backends.interpreting():  # which gathers, and has no kernel of its own
    KINDS, LAYOUTS = KINDS[2:], LAYOUTS[::3]


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


def gradients_of(a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor, upstream: Tensor, **options: Any) -> list[Tensor]:
    """Scores, and the gradients of both sets."""
    leaves = [x.detach().requires_grad_() for x in (a, b)]
    scores = smk.pair_scores(*leaves, of_a, of_b, **options)
    return [scores.detach(), *torch.autograd.grad(scores, leaves, upstream.to(scores))]


def indices(kind: str, n: int, m: int) -> tuple[Tensor, Tensor]:
    """(2, K) of each set: every row once, some rows often, or some rows once and others often or never."""
    draw = torch.Generator().manual_seed(11)
    if kind == "once":
        count = min(n, m)
        of_a, of_b = (torch.stack([torch.randperm(x, generator=draw)[:count] for _ in range(2)]) for x in (n, m))
    elif kind == "often":
        of_a, of_b = (torch.randint(0, 3, (2, max(50, n)), generator=draw) for _ in range(2))
    else:
        of_a, of_b = (torch.randint(-1, x, (2, n), generator=draw) for x in (n, m))
    return of_a.to(DEVICE), of_b.to(DEVICE)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
def test_pairs_agree_with_the_definition(metric: str, kind: str, layout: str, dtype: torch.dtype, backend: str) -> None:
    """Rows of one pair, of several and of none; a zero vector; vectors shorter than an eps."""
    size = (71,) if layout == "list" else (5, 14)
    a, b, _ = Sample(
        "x", channels=37, of_a=size, of_b=(9, 8), layout="contiguous" if layout == "list" else layout
    ).make(dtype)
    a = a.clone(memory_format=torch.preserve_format)
    listed(a)[:, 2] = 0
    of_a, of_b = indices(kind, listed(a).shape[1], 72)
    upstream = torch.randn(of_a.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).to(DEVICE)
    upstream[:, ::7] = 0
    options: dict[str, Any] = {"metric": metric, "eps": 2.0 if kind == "mixed" else 1e-3, "eps_mode": "clamp"}
    found = gradients_of(a, b, of_a, of_b, upstream, **options, backend=backend)
    exact = gradients_of(a.double(), b.double(), of_a, of_b, upstream, **options, backend="reference")
    for x, y in zip(found, exact, strict=True):
        assert relative_error(x, y) < 3 * WIDER[dtype]


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
@pytest.mark.parametrize(("of_a", "of_b"), [(1e-22, 1.0), (1e-30, 1e-30), (1e18, 1e18), (1e30, 1e-30)])
def test_pairs_of_any_magnitude(metric: str, of_a: float, of_b: float, backend: str) -> None:
    """Every score and gradient that float32 holds is that of float64 arithmetic."""
    draw = torch.Generator().manual_seed(2)
    a, b = ((torch.randn(2, 6, 33, generator=draw) * scale).to(DEVICE) for scale in (of_a, of_b))
    first, second = indices("mixed", 6, 6)
    upstream = torch.ones(first.shape, device=DEVICE)
    found = gradients_of(a, b, first, second, upstream, metric=metric, eps=0.0, backend=backend)
    exact = gradients_of(a.double(), b.double(), first, second, upstream, metric=metric, eps=0.0, backend="reference")
    if metric == "l2" and of_a > 1e19:  # distances beyond float32
        assert torch.equal(found[0].isinf(), (first >= 0) & (second >= 0))
        assert torch.equal(found[1].isnan(), exact[1] != 0)
        return
    compared = 0
    for x, y in zip(found, exact, strict=True):
        held = (y.abs() < 3e38) & (y.abs() > 1e-36)
        compared += int(held.sum())
        if metric == "cosine":  # what is left of a difference of terms as large as the largest number
            assert (x - y)[held].abs().max() < 2e-6 * y[held].abs().max()
        else:
            torch.testing.assert_close(x[held], y[held].float(), rtol=2e-5, atol=0)
    assert compared


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_pair(metric: str, bad: float, backend: str) -> None:
    a, b, _ = Sample("x", of_a=(9,), of_b=(8,)).make()
    of_a = torch.tensor([[0, 3, 3, 5, 7, -1, 6], [0, 3, 3, 5, 7, -1, 6]], device=DEVICE)
    of_b = torch.tensor([[1, 2, 3, 4, 4, 5, 6], [1, 2, 3, 4, 4, 5, 6]], device=DEVICE)
    upstream = torch.ones(2, 7, device=DEVICE)
    upstream[:, 6] = bad
    upstream[1, 2] = 0  # at the pair of the row that isn't finite
    plain = gradients_of(a, b, of_a, of_b, upstream.nan_to_num(0, 0), metric=metric, backend=backend)
    a[:, 3, 5] = bad
    scores, da, db = gradients_of(a, b, of_a, of_b, upstream, metric=metric, backend=backend)
    hit = torch.zeros(2, 7, dtype=torch.bool, device=DEVICE)
    hit[:, 1:3] = True
    assert torch.equal(scores.isfinite(), ~hit) and torch.equal(scores[~hit], plain[0][~hit])
    hit_a, hit_b = torch.zeros(2, 9, dtype=torch.bool), torch.zeros(2, 8, dtype=torch.bool)
    hit_a[:, [3, 6]] = hit_b[:, [2, 6]] = True
    hit_b[0, 3] = True
    for x, y, hits in ((da, plain[1], hit_a.to(DEVICE)), (db, plain[2], hit_b.to(DEVICE))):
        assert torch.equal(x.isnan().all(2), hits) and torch.equal(x.isnan().any(2), hits)
        assert torch.equal(x[~hits], y[~hits])


def test_pairs_beyond_are_nan_and_write_no_row(backend: str) -> None:
    """Where nobody has checked the indices."""
    a, b, _ = Sample("x", of_a=(5,), of_b=(2, 3)).make()
    operators = _backends._load(backend)
    ends = torch.iinfo(torch.int64)
    of_a = torch.tensor([[5, 1, 2, ends.max], [0, 1, 2, 3]], device=DEVICE)
    of_b = torch.tensor([[0, 1, 6, ends.min], [0, 1, 2, 3]], device=DEVICE)
    problem = PairProblem(a.transpose(1, 2)[:, :, None], b, of_a, of_b, MetricOptions("cosine", 1e-8, "add").resolve())
    result = operators.pair_scores(problem)
    assert torch.equal(result.scores.isnan(), torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0]], device=DEVICE).bool())
    assert result.scores[0, 3] == 0
    arriving = PairUpstream(torch.ones_like(result.scores))
    da, db = operators.pair_scores_backward(problem, result, arriving, PairGradients(True, True))
    assert da is not None and db is not None
    hit_a = torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], device=DEVICE).bool()
    hit_b = torch.tensor([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], device=DEVICE).bool()
    assert torch.equal(da[:, :, 0].isnan().all(1), hit_a) and torch.equal(db.flatten(2).isnan().any(1), hit_b)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_repeat_to_the_bit_on_any_number_of_threads(kind: str, layout: str, backend: str) -> None:
    if backend == "reference":
        pytest.skip("plain PyTorch splits its sums among threads")
    a, b, _ = Sample("x", channels=64, of_a=(20, 25), of_b=(20, 24), layout=layout).make()
    of_a, of_b = indices(kind, 500, 480)
    upstream = torch.randn(of_a.shape, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    run = lambda: gradients_of(a, b, of_a, of_b, upstream, backend=backend)  # noqa: E731
    threads, first = torch.get_num_threads(), run()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(torch.equal(x, y) for x, y in zip(first, run(), strict=True))
    finally:
        torch.set_num_threads(threads)


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
