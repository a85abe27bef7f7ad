"""torch.func and forward-mode differentiation: every operator under grad, vjp, jacrev, vmap, jvp and jacfwd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import simplematch_kernels as smk
from simplematch_kernels import _backends

from .samples import DEVICE

POINTS = torch.tensor([[[1.3, 2.6], [3.2, 0.7], [2.4, 2.2]]], dtype=torch.float64, device=DEVICE)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE)


Function = Callable[..., Tensor]


def flat(matches: smk.Matches) -> Tensor:
    """The differentiable results, (B, N, 4)."""
    return torch.cat((matches.keypoints, matches.score[..., None], matches.log_sum_exp[..., None]), -1)


def match(backend: str) -> Function:
    def run(source: Tensor, target: Tensor, keypoints: Tensor, temperature: Tensor) -> Tensor:
        return flat(
            smk.sparse_window_match(
                source,
                target,
                keypoints,
                sampling="bilinear",
                window_size=3,
                temperature=temperature,
                target_size=(40, 50),
                backend=backend,
            )
        )

    return run


def descriptors(backend: str) -> Function:
    return lambda q, target: flat(
        smk.match_descriptors(q, target, localization="gaussian", sigma=2.0, temperature=0.7, backend=backend)
    )


def upsampled(backend: str) -> Function:
    return lambda q, target: flat(
        smk.match_descriptors(q, target, upsample=(9, 11), window_size=5, temperature=0.7, eps=0.1, backend=backend)
    )


def localize(backend: str) -> Function:
    return lambda scores, temperature: flat(
        smk.localize(scores, window_size=3, outside_value=0.1, temperature=temperature, backend=backend)
    )


def gather(backend: str) -> Function:
    return lambda features, keypoints: smk.gather_keypoints(features, keypoints, sampling="bilinear", backend=backend)


def similarity(metric: str) -> Callable[[str], Function]:
    return lambda backend: lambda q, target: smk.cosine_similarity(q, target, metric=metric, eps=0.1, backend=backend)


def cross_entropy(backend: str) -> Function:
    truth = POINTS.flip(1) + 0.4
    return lambda source, target, keypoints, temperature: smk.sparse_match_cross_entropy(
        source, target, keypoints, truth.expand(len(keypoints), -1, -1), sampling="bilinear", kernel_size=3,
        temperature=temperature, reduction="none", backend=backend,
    )  # fmt: skip


def match_all(backend: str) -> Function:
    def run(a: Tensor, b: Tensor, temperature: Tensor) -> Tensor:
        numbers = {"temperature": temperature[:, 0], "bin_score": temperature[:, 1]}
        m = smk.match_all(a, b, metric="dot", **numbers, backend=backend)
        return torch.cat([m.score_a, m.score_b, *(x for x in (m.log_sum_exp_a, m.log_sum_exp_b) if x is not None)], 1)

    return run


CASES: dict[str, tuple[Callable[[str], Function], tuple[Tensor, ...]]] = {
    "match": (match, (draw(1, 4, 4, 5), draw(1, 4, 5, 6, seed=1), POINTS, draw(1, 3, seed=2).abs() + 0.5)),
    "cross entropy": (
        cross_entropy,
        (draw(1, 4, 4, 5), draw(1, 4, 5, 6, seed=1), POINTS, draw(1, 3, seed=2).abs() + 0.5),
    ),
    "descriptors": (descriptors, (draw(1, 3, 4), draw(1, 4, 5, 6, seed=1))),
    "localize": (localize, (draw(1, 3, 5, 6), draw(1, 3, seed=2).abs() + 0.5)),
    "upsampled": (upsampled, (draw(1, 3, 4), draw(1, 4, 5, 6, seed=1))),
    "gather": (gather, (draw(1, 4, 4, 5), POINTS)),
    "cosine": (similarity("cosine"), (draw(1, 3, 4), draw(1, 4, 5, 6, seed=1))),
    "dot": (similarity("dot"), (draw(1, 3, 4), draw(1, 4, 5, 6, seed=1))),
    "l2": (similarity("l2"), (draw(1, 3, 4), draw(1, 4, 5, 6, seed=1))),
    "l1": (similarity("l1"), (draw(1, 3, 4), draw(1, 4, 5, 6, seed=1))),
    "match_all": (match_all, (draw(1, 3, 4), draw(1, 4, 2, 3, seed=1), draw(1, 2, seed=2).abs() + 0.5)),
}
operators = pytest.mark.parametrize("name", CASES)


def case(name: str, backend: str) -> tuple[Function, tuple[Tensor, ...], tuple[int, ...]]:
    make, inputs = CASES[name]
    return make(backend), inputs, tuple(range(len(inputs)))


def weighted(function: Function) -> Function:
    """A scalar of the results that tells them apart."""

    def run(*inputs: Tensor) -> Tensor:
        found = function(*inputs)
        return (
            found * torch.linspace(1, 2, found.numel(), dtype=found.dtype, device=found.device).view_as(found)
        ).sum()

    return run


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@operators
def test_grad_and_vjp(name: str, backend: str) -> None:
    function, inputs, places = case(name, backend)
    leaves = [x.clone().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(weighted(function)(*leaves), leaves)
    close(torch.func.grad(weighted(function), places)(*inputs), expected)
    value, pull = torch.func.vjp(weighted(function), *inputs)
    close(pull(torch.ones_like(value)), expected)


@operators
def test_vmap_is_a_loop(name: str, backend: str) -> None:
    """Mapped over any dimension of some inputs, the others shared."""
    function, inputs, _ = case(name, backend)
    several = torch.stack([inputs[0] + 0.1 * i for i in range(3)], dim=1)
    found = torch.vmap(function, in_dims=(1, *(None for _ in inputs[1:])))(several, *inputs[1:])
    close(found, torch.stack([function(several.select(1, i), *inputs[1:]) for i in range(3)]))
    together = [torch.stack([x, x.flip(1)]) for x in inputs]
    found = torch.vmap(function)(*together)
    close(found, torch.stack([function(*(x[i] for x in together)) for i in range(2)]))


@operators
def test_gradients_of_every_sample(name: str, backend: str) -> None:
    function, inputs, places = case(name, backend)
    several = [torch.stack([x, x.flip(1)]) for x in inputs]
    found = torch.vmap(torch.func.grad(weighted(function), places))(*several)
    for i in range(2):
        close([g[i] for g in found], list(torch.func.grad(weighted(function), places)(*(x[i] for x in several))))


@operators
def test_jacobians_agree(name: str, backend: str) -> None:
    function, inputs, places = case(name, backend)
    close(torch.func.jacfwd(function, places)(*inputs), torch.func.jacrev(function, places)(*inputs))


@operators
def test_forward_mode_is_exact(name: str, backend: str) -> None:
    if _backends.interpreting():
        pytest.skip("hundreds of interpreted launches; tangents come from the reference")
    function, inputs, _ = case(name, backend)
    leaves = [x.clone().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=True, atol=1e-5)


@operators
def test_tangents_are_the_slope(name: str, backend: str) -> None:
    function, inputs, _ = case(name, backend)
    tangents = tuple(1e-6 * draw(*x.shape, seed=9) for x in inputs)
    value, moved = torch.func.jvp(function, inputs, tangents)
    close(value, function(*inputs))
    ahead, behind = (function(*(x + sign * t for x, t in zip(inputs, tangents, strict=True))) for sign in (1, -1))
    torch.testing.assert_close(moved, (ahead - behind) / 2, rtol=1e-4, atol=1e-12)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(inputs, tangents, strict=True)]
        close(forward_ad.unpack_dual(function(*duals)).tangent, moved)
    value, slope = torch.func.linearize(function, *inputs)
    close((value, slope(*tangents)), (function(*inputs), moved))


def test_restrictions_hold_under_vmap_and_jvp(backend: str) -> None:
    """Padding and masked cells have no tangent."""
    q, target, valid = draw(2, 3, 4), draw(2, 4, 5, 6, seed=1), torch.ones(2, 3, dtype=torch.bool, device=DEVICE)
    valid[:, 1] = False
    mask = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0)).to(DEVICE) > 0.4

    def run(q: Tensor, target: Tensor, valid: Tensor, mask: Tensor) -> Tensor:
        options: dict[str, Any] = {"valid": valid, "target_mask": mask, "window_size": 3, "eps_mode": "clamp"}
        return flat(smk.match_descriptors(q, target, **options, backend=backend))

    several = [torch.stack([x, x.flip(0)]) for x in (q, target, valid, mask)]
    close(torch.vmap(run)(*several), torch.stack([run(*(x[i] for x in several)) for i in range(2)]))
    _, moved = torch.func.jvp(lambda q, t: run(q, t, valid, mask), (q, target), (q.clone(), target.clone()))
    assert (moved[:, 1] == 0).all() and moved[:, 0].isfinite().all()


@operators
def test_second_derivatives_are_refused_by_name(name: str, backend: str) -> None:
    function, inputs, places = case(name, backend)
    message = r"simplematch::\w+ has no second derivative"
    with pytest.raises(RuntimeError, match=message):
        torch.func.jacfwd(torch.func.grad(weighted(function), places), places)(*inputs)
    with pytest.raises(RuntimeError, match=message):
        torch.func.grad(lambda *x: torch.func.jvp(function, x, inputs)[1].sum(), places)(*inputs)
    with pytest.raises(RuntimeError, match=message):
        torch.func.grad(lambda *x: torch.func.grad(weighted(function))(*x).sum(), places)(*inputs)
