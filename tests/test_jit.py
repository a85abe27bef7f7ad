"""TorchScript: scripts through `simplematch_kernels.jit`, and traces of the public functions."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
import simplematch_kernels.jit  # which lets torch.jit.script compile the calls

from .samples import DEVICE

OPTIONS: dict[str, Any] = {"window_size": (5, 3), "source_size": (56, 72), "temperature": 0.1}


@pytest.fixture(autouse=True)
def _deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is
        yield


def draw(seed: int = 0, batch: int = 2, queries: int = 5, height: int = 9, width: int = 8) -> tuple[Tensor, ...]:
    """(source, target, keypoints)"""
    generator = torch.Generator().manual_seed(seed)
    source, target = (torch.randn(batch, 20, height, width, generator=generator).to(DEVICE) for _ in range(2))
    return source, target, 50 * torch.rand(batch, queries, 2, generator=generator).to(DEVICE)


def match(source: Tensor, target: Tensor, keypoints: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    found = smk.sparse_window_match(
        source, target, keypoints, num_keypoints=counts, window_size=(5, 3), source_size=(56, 72), temperature=0.1
    )
    return found.keypoints, found.score


def others(source: Tensor, target: Tensor, keypoints: Tensor) -> list[Tensor]:
    rows = smk.gather_keypoints(source, keypoints, size=(56, 72), sampling="bilinear")
    scores = smk.cosine_similarity(rows, target, metric="dot")
    both_ways = smk.match_all(source, target, temperature=0.2)
    return [
        rows,
        scores,
        smk.localize(scores, localization="global", temperature=4.0).keypoints,
        smk.match_descriptors(rows, target, window_size=3, border="shrink").log_sum_exp,
        both_ways.index_a,
        both_ways.log_sum_exp_a,
        smk.local_correlation(rows, target, keypoints, radius=(1, 2), target_size=(56, 72)),
    ]


def test_scripts_match_and_pass_gradients_on() -> None:
    source, target, keypoints = draw()
    counts = torch.tensor([5, 3], device=DEVICE)
    scripted = torch.jit.script(match)
    source.requires_grad_()
    found = scripted(source, target, keypoints, counts)
    expected = smk.sparse_window_match(source, target, keypoints, num_keypoints=counts, **OPTIONS)
    assert torch.equal(found[0], expected.keypoints) and torch.equal(found[1], expected.score)
    (ours,) = torch.autograd.grad(found[0].sum(), source)
    (theirs,) = torch.autograd.grad(expected.keypoints.sum(), source)
    assert torch.equal(ours, theirs)


def test_scripts_every_function_and_saves_it() -> None:
    saved = io.BytesIO()
    torch.jit.save(torch.jit.script(others), saved)
    saved.seek(0)
    source, target, keypoints = draw(1, 3, 4, 7, 6)
    found = torch.jit.load(saved, map_location=DEVICE)(source, target, keypoints)
    assert all(torch.equal(x, y) for x, y in zip(found, others(source, target, keypoints), strict=True))


def test_options_are_those_of_the_public_functions() -> None:
    for name in (
        "sparse_window_match",
        "match_descriptors",
        "localize",
        "cosine_similarity",
        "pair_scores",
        "match_all",
    ):
        schema = getattr(torch.ops.simplematch, f"{name}_in_script").default._schema
        public = inspect.signature(getattr(smk, name)).parameters
        assert {argument.name for argument in schema.arguments} <= public.keys(), name


def test_a_mistake_names_the_argument() -> None:
    source, target, keypoints = draw()
    with pytest.raises(Exception, match="number of channels"):
        torch.jit.script(match)(source[:, :7], target, keypoints, torch.tensor([5, 3], device=DEVICE))


@pytest.mark.parametrize(
    "function",
    [
        lambda s, t, k: tuple(smk.sparse_window_match(s, t, k, **OPTIONS)),
        lambda s, t, k: smk.gather_keypoints(s, k, size=(56, 72), sampling="bilinear"),
        lambda s, t, k: tuple(smk.localize(smk.cosine_similarity(s[:, :, 0].mT, t), window_size=3)),
        lambda s, t, k: tuple(smk.match_all(s, t)[:7]),
    ],
    ids=["sparse_window_match", "gather_keypoints", "localize", "match_all"],
)
def test_traces_at_any_size(function: Callable[..., Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of the checks, which a trace leaves out
        traced = torch.jit.trace(function, draw())
    for inputs in (draw(), draw(1, 3, 7), draw(2, 1, 4, 6, 11)):
        torch.testing.assert_close(traced(*inputs), function(*inputs), rtol=0, atol=0)
