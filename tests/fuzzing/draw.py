"""Draws inputs of the operators from a seed: extreme magnitudes, ties, duplicates, NaN and infinities."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor

from ..samples import DEVICE, LAYOUTS, lay_out

DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16)
OPERATORS = (
    "sparse_window_match",
    "sparse_window_match",
    "match_descriptors",
    "localize",
    "cosine_similarity",
    "gather",
)
SCALES = (1e-30, 1e-22, 1e-15, 1e-3, 1e3, 1e15, 1e22, 1e30)
CLASSES = ("normal", "normal", "scaled", "denormal", "constant", "quantised", "duplicates", "zeros", "largest")
SPECIALS = ("none", "none", "none", "zero", "nan", "inf", "-inf", "both infinities", "largest", "denormal")
UPSTREAM = ("normal", "normal", "zero rows", "nan row", "inf row", "none", "zeros")


@dataclass
class Case:
    """One call: the operator's tensors by name, its options, and the gradients that arrive at its outputs."""

    seed: int
    operator: str
    dtype: torch.dtype
    tensors: dict[str, Tensor]
    options: dict[str, Any]
    upstream: str
    tame: bool  # magnitudes at which results of different summation orders agree
    description: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        drawn = ", ".join((*self.description, f"upstream {self.upstream}"))
        return f"seed {self.seed}: {self.operator} {self.dtype} {drawn} {self.options}"


def draw(seed: int) -> Case:
    """The case of a seed; the same on every machine."""
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    operator, dtype = random.choice(OPERATORS), random.choice(DTYPES)
    batch, queries, channels = random.randint(1, 3), random.randint(1, 7), random.choice((1, 3, 8, 20, 65))
    map_size = random.choice(((3, 4), (5, 5), (1, 7), (6, 9), (9, 8)))
    source_size = random.choice(((3, 4), (5, 3), (1, 1)))
    case = Case(seed, operator, dtype, {}, {}, random.choice(UPSTREAM), True)
    metric = random.choice(("cosine", "cosine", "dot", "l2", "l1"))

    def features(name: str, *shape: int) -> Tensor:
        x = draw_features(random, generator, shape, dtype, case, name)
        return lay_out(x.to(DEVICE, dtype), random.choice(LAYOUTS)) if len(shape) == 4 else x.to(DEVICE, dtype)

    if operator in ("sparse_window_match", "gather"):
        case.tensors["source"] = features("source", batch, channels, *source_size)
        case.tensors["keypoints"] = draw_keypoints(random, generator, (batch, queries, 2), source_size).to(DEVICE)
        case.options["sampling"] = random.choice(("floor", "round", "bilinear"))
        case.options["sampling_padding"] = random.choice(("zeros", "border"))
    if operator in ("match_descriptors", "cosine_similarity"):
        case.tensors["descriptors"] = features("descriptors", batch, queries, channels)
    if operator == "localize":
        case.tensors["scores"] = features("scores", batch, queries, *map_size)
    elif operator != "gather":
        case.tensors["target"] = features("target", batch, channels, *map_size)
        _plant_matches(random, case)
        case.options |= draw_metric(random, metric)
    if operator not in ("cosine_similarity", "gather"):
        scale = float(channels) if metric != "cosine" and operator != "localize" else 1.0
        case.options |= draw_localization(random, scale)
        restrict(random, generator, case, batch, queries, map_size)
        if random.random() < 0.5:
            rows = scale * (0.2 + torch.rand(batch, queries, generator=generator, dtype=torch.float64))
            case.tensors["temperature"] = rows.to(DEVICE, torch.float64 if dtype == torch.float64 else torch.float32)
            del case.options["temperature"]
    return case


def draw_features(
    random: Random, generator: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype, case: Case, name: str
) -> Tensor:
    """Float64 values of one class, with a special number or vector here and there."""
    kind, special = random.choice(CLASSES), random.choice(SPECIALS)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    largest = largest_of(dtype)
    if kind == "scaled":
        scale = random.choice(SCALES)
        scale = math.copysign(min(abs(math.log10(scale)), math.log10(largest) - 2), math.log10(scale))
        x, kind = x * 10**scale, f"scaled 1e{scale:.0f}"
    elif kind == "denormal":
        x *= 1e-140 if dtype == torch.float64 else 1e-6 if dtype == torch.float16 else 1e-42
    elif kind == "constant":
        x = torch.full_like(x, 0.5)
    elif kind == "quantised":
        x = (2 * x).round() / 2
    elif kind == "duplicates":
        x = x[..., :1].expand(shape).clone()
    elif kind == "zeros":
        x = x.clamp(min=0) * (torch.rand(x[:, :1].shape, generator=generator) < 0.6)
    elif kind == "largest":
        x *= largest / 1000
    if special != "none" and 0 not in shape:
        for _ in range(random.randint(1, 3)):
            at = tuple(random.randrange(n) for n in shape)
            values = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "largest": largest, "zero": 0.0}
            x[at] = values.get(special, random.choice((math.inf, -math.inf)) if special != "denormal" else 1e-44)
            if special == "zero" and len(shape) == 4 and name != "scores":
                x[at[0], :, at[2], at[3]] = 0.0
    case.tame &= kind in ("normal", "quantised", "duplicates", "zeros", "constant") and special in (
        "none",
        "zero",
        "nan",
    )
    case.description.append(f"{name} {kind}, {special}")
    return x


def largest_of(dtype: torch.dtype) -> float:
    """A number so large that the norm of a vector of a few still fits the arithmetic's type, as the definition asks."""
    if dtype == torch.float64:
        return 1e140
    return torch.finfo(dtype).max / (1 if dtype == torch.float16 else 16)


def _plant_matches(random: Random, case: Case) -> None:
    """Some target cells hold a descriptor of the source, so that distances of zero and cosines of one occur."""
    target = case.tensors["target"]
    if random.random() < 0.5 or target.stride(0) == 0:
        return
    given = case.tensors.get("descriptors")
    vectors = case.tensors["source"].flatten(2).mT if given is None else given
    case.tensors["target"] = target = target.clone(memory_format=torch.preserve_format)
    for _ in range(3):
        b, y, x = (
            random.randrange(target.shape[0]),
            random.randrange(target.shape[2]),
            random.randrange(target.shape[3]),
        )
        target[b, :, y, x] = vectors[b, random.randrange(vectors.shape[1])]


def draw_keypoints(random: Random, generator: torch.Generator, shape: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    points = torch.rand(shape, generator=generator, dtype=torch.float32) * torch.tensor([size[1] - 1.0, size[0] - 1.0])
    if random.random() < 0.4:  # on cells, on borders and beyond
        points = points.round() + torch.tensor([random.choice((-1.5, -1.0, 0.0, 0.0, 1.0)), 0.0])
    return points


def draw_metric(random: Random, metric: str) -> dict[str, Any]:
    return {
        "metric": metric,
        "eps": random.choice((1e-8, 1e-8, 1e-10, 1e-30, 0.0, 0.5)),
        "eps_mode": random.choice(("add", "clamp")),
    }


def draw_localization(random: Random, scale: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "localization": random.choice(("argmax", "window", "window", "window", "global", "gaussian")),
        "window_size": random.choice((1, 3, 4, (3, 2), 5, 45)),
        "window_shape": random.choice(("square", "square", "disc", "plus")),
        "disc_edge": random.choice(("open", "closed")),
        "border": random.choice(("shift", "shrink")),
        "outside_value": random.choice((-math.inf, -math.inf, 0.0, 0.3 * scale)),
        "sigma": random.choice((0.5, 2.0, 7.0)),
        "temperature": random.choice((0.05, 0.3, 1.0)) * scale,
    }
    if options["window_shape"] == "disc":
        options["window_size"] = random.choice((1.5, 2 * math.sqrt(2), 4, (6.0, 3.3), 7.5, 1e9))
    return options


def restrict(
    random: Random, generator: torch.Generator, case: Case, batch: int, queries: int, size: tuple[int, int]
) -> None:
    if random.random() < 0.3:
        case.options["num_keypoints"] = torch.randint(0, queries + 1, (batch,), generator=generator).to(DEVICE)
    if random.random() < 0.3:
        case.options["valid"] = (torch.rand(batch, queries, generator=generator) < 0.7).to(DEVICE)
    if random.random() < 0.4:
        shape = (batch, queries, *size) if random.random() < 0.4 else (batch, *size)
        case.options["target_mask"] = (torch.rand(shape, generator=generator) < 0.6).to(DEVICE)
