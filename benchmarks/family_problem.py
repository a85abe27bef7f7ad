"""What a problem of the operators beside `sparse_window_match` consists of, and what several of its rivals do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Provider = Callable[..., Tensors]

TEMPERATURE = 0.05
SAME_PRODUCTS = "both make the same products, which take more than half of the rival's time: docs/performance.md"


@dataclass(frozen=True)
class Problem:
    """Inputs and the providers that take them.

    Attributes:
        operator: the name of ours.
        sizes: of the problem, by name.
        inputs: makes the tensors, float32 ones differentiable.
        providers: by name, ours first, the one that defines the result second.
        modes: "forward" or "forward+backward".
        tolerance: of results and gradients, relative to their largest value.
        bars: required speedups over rivals, by mode.
        known_misses: why a mode misses its bars, for those that do.
        heavy: whether only scope "full" runs it.
        compiled: whether torch.compile of the defining provider competes too.
    """

    operator: str
    sizes: dict[str, Any]
    inputs: Callable[[torch.Generator], Tensors]
    providers: dict[str, Provider]
    modes: tuple[str, ...] = ("forward",)
    tolerance: float = 1e-4
    bars: dict[str, dict[str, float]] = field(default_factory=dict)
    heavy: bool = False
    compiled: bool = False
    rounds: int | None = field(default=None)
    known_misses: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.operator, *(f"{name}={value}" for name, value in self.sizes.items())])


def xy_of(height: int, width: int, like: Tensor) -> Tensor:
    """(x, y) of the cells of a map (M, 2), in the dtype of `like`."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y), -1).flatten(0, 1).to(like)


def soft_argmax(queries: Tensor, cells: Tensor, xy: Tensor) -> Tensor:
    return (queries @ cells / TEMPERATURE).softmax(-1) @ xy


def soft_argmax_in_window(queries: Tensor, cells: Tensor, xy: Tensor, window: int = 15) -> Tensor:
    scores = queries @ cells
    side = math.isqrt(scores.shape[2])
    peak = scores.argmax(-1)
    corner = torch.stack((peak % side, peak // side), -1) - window // 2
    x, y = (corner.clamp(0, side - window)[..., None] + torch.arange(window)).unbind(-2)
    inside = (y[..., :, None] * side + x[..., None, :]).flatten(2)
    probability = (scores.gather(2, inside) / TEMPERATURE).softmax(-1)
    return torch.einsum("bnk,bnkd->bnd", probability, xy[inside])
