"""`match_all` on every backend: against plain PyTorch in float64, and what it replaces in one line each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _resolved

from .oracle import WIDER, relative_error
from .samples import DEVICE, SIMULATED
from .set_samples import (
    FIELDS,
    SAMPLES,
    Sample,
    by_dtype,
    by_sample,
    by_spread_sample,
    eager,
    evaluate,
    scores_of,
    taking_part,
    wider,
)
from .traces import Calls, compiled


@by_sample
@by_dtype
def test_agrees_with_plain_pytorch(sample: Sample, dtype: torch.dtype, backend: str, poisoned_memory: None) -> None:
    a, b, options = sample.make(dtype)
    exact, exact_gradients = evaluate(eager, a.double(), b.double(), wider(options))
    _, rival_gradients = evaluate(eager, a, b, options)
    found, gradients = evaluate(smk.match_all, a, b, options, return_second=True, backend=backend)
    for name in ("index_a", "index_b", "mutual"):
        assert torch.equal(getattr(found, name), getattr(exact, name)), name
    accumulation = torch.float64 if dtype == torch.float64 else torch.float32
    compared = [(name, getattr(found, name), getattr(exact, name), None) for name in (*FIELDS, "second_a", "second_b")]
    assert all(value.dtype == accumulation for _, value, _, _ in compared)
    assert gradients.keys() == exact_gradients.keys()
    compared += [(k, g, exact_gradients[k], rival_gradients[k]) for k, g in gradients.items()]
    for name, value, truth, theirs in compared:
        infinite = truth.isinf()
        assert torch.equal(value.isinf(), infinite), name
        error = relative_error(value.masked_fill(infinite, 0), truth.masked_fill(infinite, 0))
        allowed = WIDER[dtype if theirs is not None else accumulation]
        if name in options:  # a sum over all pairs, of both signs
            allowed = max(allowed, 1e-5 if accumulation == torch.float32 else 1e-10)
        if theirs is not None:
            allowed = max(allowed, 2 * relative_error(theirs, truth))
        assert error <= allowed, f"{name}: {error:.2e}, allowed {allowed:.2e}"


@by_spread_sample
def test_without_sums_and_seconds(sample: Sample, backend: str) -> None:
    """What isn't asked for is None and changes nothing else."""
    a, b, options = sample.make(torch.float64)
    exact = eager(a, b, **options)
    a, b = a.requires_grad_(), b.requires_grad_()
    found = smk.match_all(a, b, **options, return_log_sum_exp=False, backend=backend)
    assert found.log_sum_exp_a is None and found.log_sum_exp_b is None
    assert found.second_a is None and found.second_b is None
    for name in ("index_a", "index_b", "mutual"):
        assert torch.equal(getattr(found, name), getattr(exact, name)), name
    (found.score_a.sum() + 2 * found.score_b.sum()).backward()
    other = a.detach().requires_grad_(), b.detach().requires_grad_()
    plain = eager(*other, **options)
    (plain.score_a.sum() + 2 * plain.score_b.sum()).backward()
    for leaf, expected in zip((a, b), other, strict=True):
        assert leaf.grad is not None and expected.grad is not None
        assert relative_error(leaf.grad, expected.grad) < 1e-10


@pytest.mark.parametrize("need", ["a", "b", "temperature", "bin_score"])
def test_a_gradient_alone_is_that_among_all(need: str, backend: str, poisoned_memory: None) -> None:
    a, b, options = Sample("x", numbers=("temperature", "bin_score")).make(torch.float64)
    leaves = {"a": a, "b": b, "temperature": options["temperature"], "bin_score": options["bin_score"]}

    def gradient(*names: str) -> Tensor:
        given = {k: x.detach().clone().requires_grad_(k in names) for k, x in leaves.items()}
        m = smk.match_all(**given, backend=backend)
        (m.score_a.sum() + 2 * m.log_sum_exp_a.sum() + 3 * m.log_sum_exp_b.sum()).backward()
        assert given[need].grad is not None
        return given[need].grad

    assert relative_error(gradient(need), gradient(*leaves)) < 1e-12


@by_spread_sample
def test_repeats_bitwise(sample: Sample, backend: str) -> None:
    first, second = (evaluate(smk.match_all, *sample.make(), return_second=True, backend=backend) for _ in range(2))
    for x, y in zip(first[0], second[0], strict=True):
        assert torch.equal(x, y)
    for name, gradient in first[1].items():
        assert torch.equal(gradient, second[1][name]), name


@pytest.mark.parametrize("rows", [(), ("num_a", "valid_a", "valid_b")])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_small_budgets_change_nothing(
    dtype: torch.dtype, layout: str, rows: tuple[str, ...], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of rows, whose scores are made one after the other."""
    if _backends.interpreting() and (dtype, layout, bool(rows)) != (torch.float64, "transposed", True):
        pytest.skip("hundreds of interpreted launches")
    more = {"temperature": 0.1, "bin_score": 0.2}
    sample = Sample("x", more, channels=7, of_a=(9, 9), of_b=(19,), rows=rows, layout=layout)
    a, b, options = sample.make(dtype)
    whole, gradients = evaluate(smk.match_all, a, b, options, return_second=True, backend=backend)
    monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 2 * 2 * 19 * (8 if dtype == torch.float64 else 4) * 20)
    found, of_blocks = evaluate(smk.match_all, a, b, options, return_second=True, backend=backend)
    for name, x, y in zip(found._fields, found, whole, strict=True):
        assert relative_error(x, y) < 1e-6, name
    for name, gradient in gradients.items():
        assert relative_error(of_blocks[name], gradient) < (1e-11 if dtype == torch.float64 else 4e-3), name


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
def test_gradcheck(metric: str, backend: str) -> None:
    if _backends.interpreting():
        pytest.skip("hundreds of interpreted launches; the gradients are compared with plain PyTorch")
    a, b, options = Sample("x", channels=4, of_a=(5,), of_b=(2, 3), rows=("num_a", "valid_b")).make(torch.float64)
    numbers = [torch.tensor([x, x + 0.3], dtype=torch.float64, device=DEVICE) for x in (0.5, 0.2)]

    def run(a: Tensor, b: Tensor, temperature: Tensor, bin_score: Tensor) -> tuple[Tensor, ...]:
        more = {"temperature": temperature, "bin_score": bin_score, "metric": metric, "eps": 0.1}
        matches = smk.match_all(a, b, **options, **more, backend=backend)
        return tuple(getattr(matches, name) for name in FIELDS)

    leaves = [x.requires_grad_() for x in (a, b, *numbers)]
    assert torch.autograd.gradcheck(run, leaves, check_forward_ad=True, check_batched_grad=True, atol=1e-5)


@pytest.mark.skipif(SIMULATED, reason="the same registration, at seconds a launch")
@pytest.mark.parametrize("name", ["numbers", "sliced", "expanded", "no-b", "no-images", "all-restrictions"])
@pytest.mark.parametrize("wanted", [True, False])
def test_opcheck(name: str, wanted: bool, backend: str) -> None:
    a, b, options = next(s for s in SAMPLES if s.name == name).make()
    with Calls() as calls:
        evaluate(smk.match_all, a, b, options, return_log_sum_exp=wanted, return_second=wanted, backend=backend)
    assert len(calls.made) == 2
    calls.check(backend)


def test_compiles_whole(backend: str) -> None:
    """torch.compile(fullgraph=True): no graph break, same values and gradients."""
    a, b, options = Sample("x", rows=("num_a", "valid_b"), numbers=("temperature", "bin_score")).make(torch.float64)
    plain, gradients = evaluate(smk.match_all, a, b, options, backend=backend)
    found, of_compiled = evaluate(compiled(smk.match_all, backend), a, b, options, backend=backend)
    for name in FIELDS:
        assert relative_error(getattr(found, name), getattr(plain, name)) < 1e-12
    for name, gradient in gradients.items():
        assert relative_error(of_compiled[name], gradient) < 1e-12


def test_vmap_is_a_loop(backend: str) -> None:
    """Over sets, restrictions and temperatures alike."""
    a, b, options = Sample("x", rows=("num_a", "valid_b")).make(torch.float64)
    temperature = torch.tensor([0.3, 0.7], dtype=torch.float64, device=DEVICE)
    rows = [torch.stack((x, x.flip(0))) for x in options.values()]

    def run(a: Tensor, num_a: Tensor, valid_b: Tensor, temperature: Tensor) -> tuple[Tensor, ...]:
        m = smk.match_all(a, b, num_a=num_a, valid_b=valid_b, temperature=temperature, bin_score=0.1, backend=backend)
        return m.index_a, m.score_a, m.log_sum_exp_b, m.mutual

    several = torch.stack((a, a.flip(0)))
    found = torch.vmap(run)(several, *rows, temperature)
    for i in range(2):
        expected = run(several[i], *(x[i] for x in rows), temperature[i])
        assert all(torch.equal(x[i], y) for x, y in zip(found, expected, strict=True))
    slope = torch.vmap(torch.func.grad(lambda t: run(a, rows[0][0], rows[1][0], t)[2].sum()))(temperature)
    torch.testing.assert_close(
        slope[0], torch.func.grad(lambda t: run(a, rows[0][0], rows[1][0], t)[2].sum())(temperature[0])
    )


# ---- padding, NaN, ties ---------------------------------------------------------------------------------------------


def test_padding_may_hold_anything(backend: str) -> None:
    """Its results are constants, its gradient is zero, and nothing else changes, whatever arrives."""
    a, b, options = Sample("x", {"bin_score": 0.2}, rows=("num_a", "valid_b"), of_b=(20,)).make(torch.float64)
    clean, _ = evaluate(smk.match_all, a, b, options, backend=backend)
    part_a, part_b = taking_part(a, options, "a"), taking_part(b, options, "b")
    a = torch.where(part_a[..., None], a, torch.nan).requires_grad_()
    b = torch.where(part_b[..., None], b, torch.inf).requires_grad_()
    found = smk.match_all(a, b, **options, backend=backend)
    for name in ("index_a", "index_b", "mutual", *FIELDS):
        assert torch.equal(getattr(found, name), getattr(clean, name)), name
    assert (found.index_a[~part_a] == -1).all() and (found.log_sum_exp_a[~part_a] == 0).all()
    upstream = [torch.where(part, 1.0, torch.nan).double() for part in (part_a, part_a, part_b, part_b)]
    for leaf, part in zip((a, b), (part_a, part_b), strict=True):
        (gradient,) = torch.autograd.grad([getattr(found, name) for name in FIELDS], leaf, upstream, retain_graph=True)
        assert gradient.isfinite().all() and (gradient[~part] == 0).all() and (gradient[part] != 0).any()


def test_counts_equal_the_unpadded_call(backend: str) -> None:
    a, b, _ = Sample("x", batch=1, of_a=(70,), of_b=(90,)).make()
    whole = smk.match_all(a[:, :41], b[:, :67], backend=backend)
    counts = {"num_a": torch.tensor([41], device=DEVICE), "num_b": torch.tensor([67], device=DEVICE)}
    padded = smk.match_all(a, b, **counts, backend=backend)
    for name in ("index_a", "mutual"):
        assert torch.equal(getattr(padded, name)[:, :41], getattr(whole, name)), name
    if backend == "reference":  # a product of another size, which may round otherwise
        torch.testing.assert_close(padded.score_a[:, :41], whole.score_a)
    else:
        assert torch.equal(padded.score_a[:, :41], whole.score_a)
    torch.testing.assert_close(padded.log_sum_exp_b[:, :67], whole.log_sum_exp_b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("some", [True, False], ids=["some", "whole-panels"])
def test_infinite_distances_beside_finite_ones(some: bool, dtype: torch.dtype, backend: str) -> None:
    """An infinitely far vector adds nothing to a sum, whose greatest term may be its neighbour."""
    a, b, _ = Sample("x", batch=1, of_a=(9,), of_b=(3200 if some else 260,), channels=5).make(dtype)
    a, b = 9 * a, 9 * b
    if some:
        for i, at in enumerate(range(40, 3100, 97)):  # each has neighbours that are the best so far
            b[:, at], b[:, at + 1 : at + 10] = torch.inf, a + 3 - i / 11
    else:
        b[:, :200] = torch.inf
    m = smk.match_all(a, b, metric="l2", return_second=True, backend=backend)
    scores = -(a.double()[:, :, None] - b.double()[:, None]).square().sum(-1)
    torch.testing.assert_close(m.log_sum_exp_a.double(), scores.logsumexp(2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(m.log_sum_exp_b.double(), scores.logsumexp(1), rtol=1e-5, atol=1e-5)
    assert torch.equal(m.index_a, scores.argmax(2))


def test_nan_is_above_all_and_stays_in_its_pairs(backend: str) -> None:
    a, b, _ = Sample("x", batch=1, of_a=(9,), of_b=(11,)).make(torch.float64)
    a[0, 4], b[0, 7, 3] = torch.nan, torch.nan
    a, b = a.requires_grad_(), b.requires_grad_()
    m = smk.match_all(a, b, return_second=True, backend=backend)
    assert m.index_a[0].tolist() == [7, 7, 7, 7, 0, 7, 7, 7, 7]
    assert m.index_b[0].tolist() == [4, 4, 4, 4, 4, 4, 4, 0, 4, 4, 4]
    for x in (m.score_a, m.log_sum_exp_a, m.score_b, m.log_sum_exp_b):
        assert x.isnan().all()
    assert m.second_a[0, 4].isnan() and m.second_a[0, :4].isfinite().all()
    chosen = torch.zeros_like(m.score_a)
    (g,) = torch.autograd.grad(m.score_a, a, chosen, retain_graph=True)
    assert (g == 0).all()  # nothing arrives
    chosen[0, 2] = 1.0
    g, h = torch.autograd.grad(m.score_a, (a, b), chosen, retain_graph=True)
    assert g[0, 2].isnan().all() and (g[0, [0, 1, 3, 4]] == 0).all()
    assert h[0, 7].isnan().all() and (h[0, :7] == 0).all()
    g, h = torch.autograd.grad(m.log_sum_exp_a, (a, b), chosen)
    assert g[0, 2].isnan().all() and (g[0, [0, 1, 3, 4]] == 0).all() and h.isnan().all()


def test_infinite_dot_products(backend: str) -> None:
    a = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], device=DEVICE)
    b = torch.tensor([[[torch.inf, 1.0], [2.0, 3.0]]], device=DEVICE)
    m = smk.match_all(a, b, metric="dot", backend=backend)
    assert m.index_a.tolist() == [[0, 0]]
    assert m.log_sum_exp_a[0, 0] == torch.inf and m.log_sum_exp_a[0, 1].isnan()
    assert m.index_b.tolist() == [[1, 1]] and m.log_sum_exp_b[0, 1].isfinite()


def test_ties_go_to_the_lowest_index(backend: str) -> None:
    a, b, _ = Sample("x", batch=1, of_a=(40,), of_b=(50,), channels=33).make()
    a[:, 20:] = a[:, :20]
    b = torch.cat((b, b), 1)
    m = smk.match_all(a, b, return_second=True, backend=backend)
    assert (m.index_a < 50).all() and (m.index_b < 20).all()
    assert torch.equal(m.index_a[:, :20], m.index_a[:, 20:]) and not m.mutual[:, 20:].any()
    torch.testing.assert_close(m.second_a, m.score_a)
    zeros = smk.match_all(torch.zeros(1, 5, 3, device=DEVICE), b[..., :3], backend=backend)
    assert (zeros.index_a == 0).all() and (zeros.index_b == 0).all() and (zeros.score_a == 0).all()


def test_magnitudes_beyond_float32_squares(backend: str) -> None:
    a, b, _ = Sample("x", of_b=(20,)).make(torch.float64)
    scale = 10.0 ** torch.linspace(-28, 28, 13, dtype=torch.float64, device=DEVICE)[:, None]
    a = (a * scale).float()
    exact = eager(a.double(), b.double(), eps=0.0)
    found = smk.match_all(a, b.float(), eps=0.0, backend=backend)
    assert torch.equal(found.index_a, exact.index_a) and relative_error(found.score_a, exact.score_a) < 1e-5


# ---- one line each --------------------------------------------------------------------------------------------------


def test_dual_softmax(backend: str) -> None:
    """LoFTR's: the product of the softmax over a and that over b."""
    a, b, _ = Sample("x", of_b=(17,)).make(torch.float64)
    s = scores_of(a, b, {})
    expected = (s / 0.1).softmax(1).mul((s / 0.1).softmax(2)).log()
    m = smk.match_all(a, b, temperature=0.1, backend=backend)
    found = 2 * s / 0.1 - m.log_sum_exp_a[:, :, None] - m.log_sum_exp_b[:, None, :]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
def test_symmetric_cross_entropy(metric: str, backend: str) -> None:
    """InfoNCE both ways over given pairs, against torch's cross entropy of the score matrix."""
    leaves = [x.requires_grad_() for x in Sample("x", of_b=(13,)).make(torch.float64)[:2]]
    temperature = torch.tensor(0.3, dtype=torch.float64, device=DEVICE, requires_grad=True)
    labels = torch.arange(13, device=DEVICE).expand(2, 13)
    logits = scores_of(*leaves, {"metric": metric}) / temperature
    expected = F.cross_entropy(logits.mT, labels) + F.cross_entropy(logits, labels)
    m = smk.match_all(*leaves, metric=metric, temperature=temperature, backend=backend)
    positive = smk.pair_scores(*leaves, None, labels, metric=metric, backend=backend)
    loss = (m.log_sum_exp_a + m.log_sum_exp_b - 2 * positive / temperature).mean()
    torch.testing.assert_close(loss, expected)
    for x, y in zip(*(torch.autograd.grad(v, (*leaves, temperature)) for v in (loss, expected)), strict=True):
        torch.testing.assert_close(x, y)


def test_mutual_nearest_neighbours(backend: str) -> None:
    """XFeat's and kornia's: pairs that are each other's best."""
    a, b, _ = Sample("x", batch=1, of_a=(60,), of_b=(50,), channels=8).make()
    s = scores_of(a.double(), b.double(), {})[0]
    forward, back = s.argmax(1), s.argmax(0)
    expected = [(n, int(m)) for n, m in enumerate(forward) if back[m] == n]
    m = smk.match_all(a, b, return_log_sum_exp=False, backend=backend)
    found = m.mutual[0].nonzero()[:, 0]
    assert [(int(n), int(m.index_a[0, n])) for n in found] == expected and 0 < len(expected) < 50


def test_lowe_ratio(backend: str) -> None:
    """The nearest distance below `ratio` times the second nearest."""
    a, b, _ = Sample("x", batch=1, of_a=(60,), of_b=(50,), channels=8).make()
    nearest = torch.cdist(a.double(), b.double()).topk(2, largest=False).values
    m = smk.match_all(a, b, metric="l2", return_log_sum_exp=False, return_second=True, backend=backend)
    keep = m.score_a > 0.8**2 * m.second_a
    assert torch.equal(keep, nearest[..., 0] < 0.8 * nearest[..., 1]) and 0 < keep.sum() < 60


# ---- memory and errors ----------------------------------------------------------------------------------------------


def test_keeps_no_scores(backend: str) -> None:
    a, b, _ = Sample("x", of_a=(100,), of_b=(120,), channels=4).make()
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    a, b = a.requires_grad_(), b.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        smk.match_all(a, b, backend=backend)
    for given in (a, b):
        kept.pop(given.untyped_storage().data_ptr())
    assert 0 < sum(kept.values()) <= 2 * (100 + 120) * (8 + 4 + 4 + 4) + 2 * 100


SETS = torch.zeros(2, 5, 4), torch.zeros(2, 6, 4)
FAULTS: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"a": [1.0]}, TypeError, r"a must be a tensor of shape \(B, N, C\) or \(B, C, H, W\), got list"),
    ({"a": torch.zeros(5, 4)}, ValueError, r"a must have shape \(B, N, C\) or \(B, C, H, W\), got \(5, 4\)"),
    ({"b": torch.zeros(2, 6, 4, dtype=torch.int64)}, TypeError, r"b must be float32, .* got torch.int64"),
    ({"b": torch.zeros(2, 6, 4).double()}, TypeError, "a and b must have one dtype"),
    ({"b": torch.zeros(3, 6, 4)}, ValueError, "a must have the same batch size as b, got 2 and 3"),
    ({"b": torch.zeros(2, 6, 3)}, ValueError, "a must have the same number of channels as b, got 4 and 3"),
    ({"a": torch.zeros(2, 5, 0), "b": torch.zeros(2, 6, 0)}, ValueError, "a must have at least one channel"),
    ({"num_a": torch.tensor([5, 6])}, ValueError, r"num_a must lie between 0 and .* of a, 5, got \[5, 6\]"),
    ({"num_b": torch.tensor([-1, 6])}, ValueError, r"num_b must lie between 0 and .* of b, 6, got \[-1, 6\]"),
    ({"num_b": torch.tensor([1.0, 6])}, TypeError, "num_b must hold integers"),
    ({"num_b": torch.tensor([1])}, ValueError, "num_b must have the same batch size as b, got 1 and 2"),
    ({"valid_a": torch.ones(2, 6, dtype=torch.bool)}, ValueError, r"valid_a must have shape \(B, N\) = \(2, 5\)"),
    ({"valid_b": torch.ones(2, 6)}, TypeError, "valid_b must be bool"),
    ({"metric": "cos"}, ValueError, "metric must be one of"),
    ({"eps": -1.0}, ValueError, "eps must be a finite number of at least 0"),
    ({"temperature": 0.0}, ValueError, "temperature must be a finite number above 0"),
    ({"temperature": torch.tensor(-1.0)}, ValueError, "temperature must be above zero, got -1.0"),
    ({"temperature": torch.ones(3)}, ValueError, r"temperature must be a number, a 0-d tensor or of shape \(B,\)"),
    ({"bin_score": torch.tensor(True)}, TypeError, "bin_score must be a floating-point tensor or a number"),
    ({"bin_score": math.inf}, ValueError, "bin_score must be a finite number"),
    ({"return_second": 1}, TypeError, "return_second must be True or False"),
    ({"backend": "gpu"}, ValueError, "backend must be one of"),
)


@pytest.mark.parametrize(("change", "error", "sentence"), FAULTS, ids=[str(i) for i in range(len(FAULTS))])
def test_faults_in_one_sentence(change: dict[str, Any], error: type[Exception], sentence: str) -> None:
    arguments: dict[str, Any] = {"a": SETS[0], "b": SETS[1], **change}
    with pytest.raises(error, match=sentence):
        smk.match_all(arguments.pop("a"), arguments.pop("b"), **arguments)
