"""Draws inputs of the operators beside a match, and of the options that change what a match returns."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import torch
from torch import Tensor

from ..samples import DEVICE, LAYOUTS, lay_out
from .draw import DTYPES, Case, draw_features, draw_keypoints, draw_localization, draw_metric, restrict

OPERATORS = (
    "match_all",
    "match_all",
    "pair_scores",
    "local_correlation",
    "local_correlation",
    "sparse_match_cross_entropy",
    "sparse_match_cross_entropy",
    "upsampled sparse_window_match",
    "upsampled localize",
    "detailed sparse_window_match",
    "detailed localize",
    "dense_match",
)
SIZES = ((3, 4), (5, 5), (1, 7), (6, 9))


class Drawing:
    """A case in the making."""

    def __init__(self, seed: int) -> None:
        self.random, self.generator = Random(seed), torch.Generator().manual_seed(seed)
        operator, dtype = self.random.choice(OPERATORS), self.random.choice(DTYPES)
        upstream = self.random.choice(("normal", "normal", "zero rows", "none", "zeros"))
        self.case = Case(seed, operator, dtype, {}, {}, upstream, True)
        self.batch, self.queries = self.random.randint(1, 3), self.random.randint(1, 7)
        self.channels, self.size = self.random.choice((1, 3, 8, 20, 65)), self.random.choice(SIZES)
        self.metric = self.random.choice(("cosine", "cosine", "dot", "l2"))

    @property
    def scale(self) -> float:
        """About how large a score is."""
        return 1.0 if self.metric == "cosine" else float(self.channels)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def features(self, name: str, *shape: int) -> Tensor:
        x = draw_features(self.random, self.generator, shape, self.case.dtype, self.case, name)
        x = x.to(DEVICE, self.case.dtype)
        self.case.tensors[name] = lay_out(x, self.random.choice(LAYOUTS)) if len(shape) == 4 else x
        return self.case.tensors[name]

    def set(self, name: str) -> Tensor:
        """Descriptors: a list, or a map."""
        if self.chance(0.5):
            return self.features(name, self.batch, self.channels, *self.random.choice(SIZES))
        return self.features(name, self.batch, self.random.randint(0, 40), self.channels)

    def source_and_keypoints(self) -> None:
        size = self.random.choice(((3, 4), (5, 3), (1, 1)))
        self.features("source", self.batch, self.channels, *size)
        points = draw_keypoints(self.random, self.generator, (self.batch, self.queries, 2), size)
        self.case.tensors["keypoints"] = points.to(DEVICE)
        self.case.options["sampling"] = self.random.choice(("floor", "round", "bilinear"))
        self.case.options["sampling_padding"] = self.random.choice(("zeros", "border"))

    def flag(self, probability: float, *shape: int) -> Tensor | None:
        if not self.chance(probability):
            return None
        return (torch.rand(shape, generator=self.generator) < 0.7).to(DEVICE)

    def numbers(self, name: str, value: float, *shape: int) -> None:
        """An option that is a number, or a tensor with a gradient."""
        if self.chance(0.5):
            self.case.options[name] = value
            return
        dtype = torch.float64 if self.case.dtype == torch.float64 else torch.float32
        drawn = value * (0.5 + torch.rand(shape, generator=self.generator, dtype=torch.float64))
        self.case.tensors[name] = drawn.to(DEVICE, dtype)

    def temperature(self, *shape: int) -> None:
        self.numbers("temperature", self.random.choice((0.05, 0.3, 1.0)) * self.scale, *shape)


def draw_beside(seed: int) -> Case:
    """The case of a seed; the same on every machine."""
    d = Drawing(seed)
    kind, _, operator = d.case.operator.rpartition(" ")
    {
        "match_all": _match_all,
        "pair_scores": _pair_scores,
        "local_correlation": _local_correlation,
        "sparse_match_cross_entropy": _cross_entropy,
        "dense_match": _dense_match,
        "sparse_window_match": _match,
        "localize": _localize,
    }[operator](d)
    if kind == "upsampled":
        d.case.options["upsample"] = d.random.choice(((7, 11), (4, 4), (12, 5), (3, 4)))
        if "target_mask" in d.case.options:
            size = d.case.options["upsample"]
            d.case.options["target_mask"] = (torch.rand(d.batch, *size, generator=d.generator) < 0.6).to(DEVICE)
    if kind == "detailed":
        d.case.options["return_covariance"] = d.chance(0.7)
        d.case.options["return_second"] = d.chance(0.7) or not d.case.options["return_covariance"]
        d.case.options["second_radius"] = d.random.choice((None, None, 0, 2))
    return d.case


def _match_all(d: Drawing) -> None:
    a, b = d.set("a"), d.set("b")
    d.case.options |= draw_metric(d.random, d.metric)
    d.temperature(*d.random.choice(((), (d.batch,))))
    if d.chance(0.4):
        d.numbers("bin_score", 0.4 * d.scale, *d.random.choice(((), (d.batch,))))
    for name, x in (("a", a), ("b", b)):
        count = x.shape[1] if x.dim() == 3 else x.shape[2] * x.shape[3]
        if d.chance(0.3):
            counts = torch.randint(0, count + 1, (d.batch,), generator=d.generator)
            d.case.options[f"num_{name}"] = counts.to(DEVICE)
        d.case.options[f"valid_{name}"] = d.flag(0.3, *(x.shape[:2] if x.dim() == 3 else (d.batch, *x.shape[2:])))
    d.case.options["return_log_sum_exp"] = d.chance(0.8)
    d.case.options["return_second"] = d.chance(0.5)


def _pair_scores(d: Drawing) -> None:
    a, b = d.set("a"), d.set("b")
    d.case.options |= draw_metric(d.random, d.metric)
    for name, x in (("a", a), ("b", b)):
        count = x.shape[1] if x.dim() == 3 else x.shape[2] * x.shape[3]
        index = torch.randint(-1, max(count, 1), (d.batch, 9), generator=d.generator)
        index = index if count else torch.full_like(index, -1)
        d.case.options[f"index_{name}"] = index.to(DEVICE)


def _local_correlation(d: Drawing) -> None:
    d.metric = d.random.choice(("dot", "cosine"))
    d.features("queries", d.batch, d.queries, d.channels)
    d.features("target", d.batch, d.channels, *d.size)
    points = draw_keypoints(d.random, d.generator, (d.batch, d.queries, 2), d.size)
    if d.chance(0.3):
        at = (d.random.randrange(d.batch), d.random.randrange(d.queries), d.random.randrange(2))
        points[at] = d.random.choice((math.nan, math.inf, -math.inf, 1e9, -1e30))
        d.case.description.append(f"coords with {points[at].item()}")
    d.case.tensors["coords"] = points.to(DEVICE)
    d.case.options |= draw_metric(d.random, d.metric)
    d.case.options |= {
        "sampling": d.random.choice(("bilinear", "nearest")),
        "padding": d.random.choice(("zeros", "border")),
        "scale": d.random.choice((1.0, 0.25)),
        "valid": d.flag(0.3, d.batch, d.queries),
    }
    if d.chance(0.7):
        d.case.options["radius"] = d.random.choice((0, 1, 3, (1, 2)))
    else:
        d.case.options["offsets"] = (4 * torch.randn(5, 2, generator=d.generator)).to(DEVICE)


def _cross_entropy(d: Drawing) -> None:
    d.source_and_keypoints()
    d.features("target", d.batch, d.channels, *d.size)
    points = draw_keypoints(d.random, d.generator, (d.batch, d.queries, 2), d.size)
    d.case.options |= {"target_keypoints": points.to(DEVICE), "reduction": "none"}
    d.case.options |= draw_metric(d.random, d.metric)
    d.case.options |= {
        "kernel_size": d.random.choice((1, 1, 3, 4, 45)),
        "sigma": d.random.choice((None, 0.7, 3.0, 1e-4)),
    }
    restrict(d.random, d.generator, d.case, d.batch, d.queries, d.size)
    d.temperature(d.batch, d.queries)


def _localised(d: Drawing, queries: int, *rows: int) -> None:
    d.case.options |= draw_localization(d.random, d.scale)
    del d.case.options["temperature"]
    d.temperature(d.batch, *(rows or (queries,)))


def _match(d: Drawing) -> None:
    d.source_and_keypoints()
    d.features("target", d.batch, d.channels, *d.size)
    d.case.options |= draw_metric(d.random, d.metric)
    restrict(d.random, d.generator, d.case, d.batch, d.queries, d.size)
    _localised(d, d.queries)


def _localize(d: Drawing) -> None:
    d.metric = "cosine"
    d.features("scores", d.batch, d.queries, *d.size)
    restrict(d.random, d.generator, d.case, d.batch, d.queries, d.size)
    _localised(d, d.queries)


def _dense_match(d: Drawing) -> None:
    size = d.random.choice(((3, 4), (5, 3), (1, 6)))
    d.features("source", d.batch, d.channels, *size)
    d.features("target", d.batch, d.channels, *d.size)
    d.case.options |= draw_metric(d.random, d.metric)
    _localised(d, 0, *size)
    options: dict[str, Any] = {"mask": d.flag(0.4, d.batch, *size), "target_mask": d.flag(0.4, d.batch, *d.size)}
    d.case.options |= options
