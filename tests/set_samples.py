"""Two sets of descriptors as inputs of `match_all`, and its definition in plain PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends

from .samples import DEVICE, DTYPES, lay_out

FIELDS = ("score_a", "log_sum_exp_a", "score_b", "log_sum_exp_b")


@dataclass(frozen=True)
class Sample:
    """Sizes, layouts, restrictions and options of one input."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 2
    channels: int = 20
    of_a: tuple[int, ...] = (13,)  # N, or (H, W)
    of_b: tuple[int, ...] = (4, 5)
    layout: str = "contiguous"
    rows: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()  # those of "temperature", "bin_score" that are tensors

    def __str__(self) -> str:
        return self.name

    def make(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Any]]:
        draw = torch.Generator().manual_seed(seed)
        n, m = math.prod(self.of_a), math.prod(self.of_b)
        a = torch.randn(self.batch, self.channels, n, generator=draw)
        mixed = torch.randint(0, max(1, n), (self.batch, 1, m), generator=draw).expand(-1, self.channels, -1)
        b = 0.5 * torch.randn(self.batch, self.channels, m, generator=draw)
        b = b + a.gather(2, mixed) if n else b
        options = dict(self.options)
        for name, size, counts in (("a", self.of_a, n), ("b", self.of_b, m)):
            if f"num_{name}" in self.rows:
                options[f"num_{name}"] = (torch.arange(self.batch) * 7 + counts // 2).clamp(max=counts).to(DEVICE)
            if f"valid_{name}" in self.rows:
                options[f"valid_{name}"] = (torch.rand(self.batch, *size, generator=draw) < 0.6).to(DEVICE)
            if f"none_{name}" in self.rows:
                options[f"num_{name}"] = torch.tensor([0] + [counts] * (self.batch - 1)).to(DEVICE)
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        for name, value in (("temperature", 0.2), ("bin_score", 0.3)):
            if name in self.numbers:
                options[name] = torch.tensor(value, dtype=exact, device=DEVICE)
        return self._shaped(a, self.of_a).to(dtype), self._shaped(b, self.of_b).to(dtype), options

    def _shaped(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        x = x.to(DEVICE)
        if len(size) == 2:
            return lay_out(x.unflatten(2, size), self.layout)
        return lay_out(x[:, :, None, :], self.layout)[:, :, 0, :].transpose(1, 2)


SAMPLES = (
    Sample("plain", {"temperature": 0.1}),
    Sample("map-and-map", {"temperature": 0.1}, of_a=(3, 7), of_b=(5, 6)),
    Sample("bin", {"temperature": 0.3, "bin_score": 0.4}),
    Sample("numbers", numbers=("temperature", "bin_score"), rows=("valid_a", "num_b")),
    Sample("temperature", numbers=("temperature",)),
    Sample("bin-tensor", {"metric": "dot"}, numbers=("bin_score",)),
    Sample("dot", {"metric": "dot", "temperature": 4.0}),
    Sample("l2", {"metric": "l2", "temperature": 4.0}),
    Sample("l1", {"metric": "l1", "temperature": 2.0}, rows=("valid_a", "num_b")),
    Sample("clamp", {"eps_mode": "clamp", "eps": 4.0, "temperature": 0.1}),
    Sample("large-eps", {"eps": 0.5}),
    Sample("counts", {"temperature": 0.1}, rows=("num_a", "num_b")),
    Sample("masks", {"temperature": 0.1}, rows=("valid_a", "valid_b")),
    Sample("all-restrictions", {"bin_score": 0.1}, rows=("num_a", "valid_a", "num_b", "valid_b")),
    Sample("none-of-b", rows=("none_b",)),
    Sample("none-of-a", {"bin_score": 0.0}, rows=("none_a",), numbers=("temperature",)),
    *(
        Sample(layout, {"temperature": 0.1}, of_a=(3, 5), layout=layout)
        for layout in ("channels_last", "transposed", "sliced", "expanded")
    ),
    Sample("one-of-each", {"metric": "dot"}, batch=1, channels=1, of_a=(1,), of_b=(1,)),
    Sample("no-a", {"bin_score": 0.5}, of_a=(0,)),
    Sample("no-b", numbers=("bin_score",), of_b=(0,)),
    Sample("none", of_a=(0,), of_b=(0,)),
    Sample("no-images", {"bin_score": 0.5}, batch=0),
    Sample("primes", {"temperature": 0.2}, batch=3, channels=53, of_a=(37,), of_b=(11, 19)),
    Sample("wide-l1", {"metric": "l1", "temperature": 5.0}, batch=1, channels=300, of_a=(150,), of_b=(131,)),
    Sample("wide", {"temperature": 0.05}, batch=1, channels=300, of_a=(150,), of_b=(131,), rows=("num_a", "valid_b")),
)
SPREAD = SAMPLES[::4] if _backends.interpreting() else SAMPLES
by_sample = pytest.mark.parametrize("sample", SAMPLES[::2] if _backends.interpreting() else SAMPLES, ids=str)
by_spread_sample = pytest.mark.parametrize("sample", SPREAD, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def listed(x: Tensor) -> Tensor:
    """(B, N, C) of a list or a map."""
    return x if x.dim() == 3 else x.flatten(2).transpose(1, 2)


def scores_of(a: Tensor, b: Tensor, o: dict[str, Any]) -> Tensor:
    metric, eps = o.get("metric", "cosine"), o.get("eps", 1e-8)
    if metric == "dot":
        return a @ b.mT
    if metric == "l2":
        return -(a[:, :, None] - b[:, None]).square().sum(-1)
    if metric == "l1":
        return -(a[:, :, None] - b[:, None]).abs().sum(-1)
    guard = (lambda x: x.clamp(min=eps)) if o.get("eps_mode") == "clamp" else (lambda x: x + eps)
    return (a / guard(a.norm(dim=2, keepdim=True))) @ (b / guard(b.norm(dim=2, keepdim=True))).mT


def taking_part(x: Tensor, o: dict[str, Any], name: str) -> Tensor:
    part = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if f"num_{name}" in o:
        part &= torch.arange(x.shape[1], device=x.device) < o[f"num_{name}"][:, None]
    return part & o[f"valid_{name}"].flatten(1) if f"valid_{name}" in o else part


def eager(a: Tensor, b: Tensor, **o: Any) -> smk.AllMatches:
    """The definition with all scores in memory, differentiated by autograd."""
    a, b = listed(a), listed(b)
    part_a, part_b = taking_part(a, o, "a"), taking_part(b, o, "b")
    a, b = torch.where(part_a[..., None], a, 0), torch.where(part_b[..., None], b, 0)
    scores = scores_of(a, b, o)
    temperature, bin_score = o.get("temperature", 1.0), o.get("bin_score")

    def one_way(s: Tensor, rows: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s = torch.where(candidates[:, None], s, -torch.inf)
        s = torch.cat((s, s.new_full((*s.shape[:2], 2), -torch.inf)), 2)  # none: lowest, and twice for the second
        found = rows & candidates.any(1, keepdim=True)
        second = s.detach().topk(2, 2).values[..., 1]
        index = s.argmax(2)
        score = torch.where(found, s.gather(2, index[..., None])[..., 0], 0)
        there = found[..., None] & (s != -torch.inf)  # before the division: no gradient of 0 * inf
        logits = torch.where(there, torch.where(there, s, 0) / temperature, -torch.inf)
        if bin_score is not None:
            value = torch.as_tensor(bin_score, dtype=s.dtype, device=s.device) / temperature
            logits = torch.cat((logits, value.expand(*s.shape[:2], 1)), 2)
        counts = rows & (found | (bin_score is not None))
        logits = torch.where(counts[..., None], logits, 0)
        return (
            torch.where(found, index, -1),
            score,
            torch.where(counts, logits.logsumexp(2), 0),
            torch.where(found, second, 0),
        )

    index_a, score_a, sum_a, second_a = one_way(scores, part_a, part_b)
    index_b, score_b, sum_b, second_b = one_way(scores.mT, part_b, part_a)
    partner = torch.cat((index_b, index_b.new_full((len(b), 1), -2)), 1).gather(1, index_a % (b.shape[1] + 1))
    mutual = partner == torch.arange(a.shape[1], device=a.device)
    return smk.AllMatches(index_a, score_a, sum_a, index_b, score_b, sum_b, mutual, second_a, second_b)


Outcome = tuple[smk.AllMatches, dict[str, Tensor]]


def evaluate(function: Any, a: Tensor, b: Tensor, options: dict[str, Any], **more: Any) -> Outcome:
    """Results, and gradients of a random linear function of scores and log_sum_exps."""
    a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
    numbers = {
        name: x.detach().requires_grad_()
        for name, x in options.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    matches = function(a, b, **{**options, **numbers}, **more)
    leaves = {"a": a, "b": b, **numbers}
    draw = torch.Generator().manual_seed(7)
    outputs = [x for x in (getattr(matches, name) for name in FIELDS) if x is not None]
    upstream = [torch.randn(x.shape, generator=draw, dtype=torch.float64).to(x) for x in outputs]
    found = torch.autograd.grad(outputs, list(leaves.values()), upstream, allow_unused=True)
    return matches, {name: g for name, g in zip(leaves, found, strict=True) if g is not None}


def wider(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in options.items()}
