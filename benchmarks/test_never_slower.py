"""Cases in which an operator competes with a few fast calls of PyTorch: it must not be slower than they are.

`localize` turns given score maps into coordinates. Plain PyTorch does that in a softmax and a matrix product, so little
can be saved, and the operator's own overhead counts: the maps are tiny, or few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk

from . import measure
from .conftest import Record
from .timings import Timings

TEMPERATURE = 0.05
Localize = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Maps:
    """Score maps (batch, queries, height, width)."""

    batch: int
    queries: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.queries}x{self.height}x{self.width}"

    def make(self, device: torch.device) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.queries, self.height, self.width)
        return (0.3 * torch.randn(shape, generator=generator)).to(device)


def cases(kind: str, scope: str) -> list[Maps]:
    """Heads of pose estimators, cost volumes, refinement windows, and single maps."""
    maps = [Maps(16, 17, 64, 48), Maps(1, 3000, 3, 3), Maps(1, 2000, 8, 8), Maps(1, 1, 64, 64)]
    if scope == "quick":
        return maps
    return [*maps, Maps(4, 256, 16, 16), Maps(32, 1, 20, 20), Maps(1, 30, 64, 64), Maps(1, 1024, 32, 32)]


def ours(scores: Tensor) -> Tensor:
    return smk.localize(scores, localization="global", temperature=TEMPERATURE).keypoints


def plain(scores: Tensor, cells: Tensor) -> Tensor:
    """The usual soft-argmax; `cells` (M, 2) are prepared once."""
    return (scores.flatten(2) / TEMPERATURE).softmax(-1) @ cells


def coordinates(scores: Tensor) -> Tensor:
    """(x, y) of the cells of a map, in its dtype."""
    y, x = torch.meshgrid(*(torch.arange(side) for side in scores.shape[2:]), indexing="ij")
    return torch.stack((x, y), -1).flatten(0, 1).to(scores)


@pytest.mark.parametrize("mode", ["forward", "forward+backward"])
def test_localize(case: Maps, mode: str, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    scores = case.make(device)
    cells = coordinates(scores)
    upstream = torch.randn(*scores.shape[:2], 2, generator=torch.Generator().manual_seed(1)).to(device)
    providers: dict[str, Localize] = {"ours": ours, "plain": lambda s: plain(s, cells)}
    exact = scores.double()
    wanted = with_gradient(lambda s: plain(s, coordinates(exact)), exact, upstream.double())
    for localize in providers.values():
        for found, expected in zip(with_gradient(localize, scores, upstream), wanted, strict=True):
            bound = 1e-5 * float(expected.abs().max())
            torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound)
    leaf = scores.requires_grad_(mode != "forward")
    work = {name: step(localize, leaf, upstream) for name, localize in providers.items()}
    seconds = timings.interleaved(work, 3 * rounds, mode, **asdict(case))
    times = {name: measure.summary(x) for name, x in seconds.items()}
    speedup = measure.ratio(seconds["ours"], seconds["plain"])
    threads = torch.get_num_threads()
    record("never_slower", {**asdict(case), "mode": mode, "threads": threads, "times": times, "speedup": speedup})


def with_gradient(localize: Localize, scores: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    leaf = scores.detach().requires_grad_()
    found = localize(leaf)
    return found.detach(), torch.autograd.grad(found, leaf, upstream)[0]


def step(localize: Localize, scores: Tensor, upstream: Tensor) -> measure.Work:
    """A forward, and a backward where the scores require a gradient."""
    if not scores.requires_grad:
        return lambda: localize(scores)
    return lambda: torch.autograd.grad(localize(scores), scores, upstream)
