"""Inputs of `local_correlation`, and what users write instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk

from .samples import DEVICE, LAYOUTS, lay_out


@dataclass(frozen=True)
class Case:
    """One input: sizes, layout of the target and of a map of queries, where the points lie, and the options."""

    name: str
    options: dict[str, Any] = field(default_factory=lambda: {"radius": 2})
    batch: int = 2
    queries: int = 7
    channels: int = 20
    target_map: tuple[int, int] = (9, 8)
    layout: str = "contiguous"
    query_map: tuple[int, int] | None = None
    points: str = (
        "inside"  # or "outside": up to twice the map beside it; "whole": on cells; "flow": a dense grid, moved
    )
    rows: str | None = None  # "num_keypoints" or "valid"

    def __str__(self) -> str:
        return self.name

    def make(self, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], dict[str, Any]]:
        """[queries, target, coords], options"""
        generator = torch.Generator().manual_seed(3)
        count = self.queries if self.query_map is None else self.query_map[0] * self.query_map[1]
        queries = torch.randn(self.batch, self.channels, *(self.query_map or (1, count)), generator=generator)
        target = torch.randn(self.batch, self.channels, *self.target_map, generator=generator)
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        coords = self._points(count, generator).to(DEVICE, exact)
        queries, target = (lay_out(x.to(DEVICE, dtype), self.layout) for x in (queries, target))
        if self.query_map is None:
            queries = queries[:, :, 0].transpose(1, 2)
        options = {k: v.to(DEVICE) if isinstance(v, Tensor) else v for k, v in self.options.items()}
        if self.rows == "num_keypoints":
            options["num_keypoints"] = (torch.arange(self.batch) * 3 + 1).clamp(max=count).to(DEVICE)
        if self.rows == "valid":
            options["valid"] = (torch.rand(self.batch, count, generator=generator) < 0.6).to(DEVICE)
        return [queries, target, coords], options

    def _points(self, count: int, generator: torch.Generator) -> Tensor:
        """Multiples of 1/16, which float32 and its conversion to cells keep exactly."""
        height, width = self.options.get("target_size") or self.target_map
        size = torch.tensor([width, height], dtype=torch.float64)
        points = torch.rand(self.batch, count, 2, generator=generator, dtype=torch.float64)
        if self.points == "outside":
            return ((5 * points - 2) * size * 8).floor() / 8 + 1 / 16
        if self.points == "whole":
            return (points * size).floor()
        if self.points == "flow":
            assert self.query_map is not None
            y, x = torch.meshgrid(*(torch.arange(n) for n in self.query_map), indexing="ij")
            return torch.stack((x, y), -1).flatten(0, 1) + (points * 16).floor() / 8 + 1 / 16
        return ((points * (size - 1)) * 8).floor() / 8 + 1 / 16


GRID = torch.tensor([[-1.5, 0.25], [0.0, 0.0], [2.125, -0.75], [0.5, 0.5], [40.0, 3.0]])
DILATED = 5.0 * torch.stack(torch.meshgrid(torch.arange(-1, 2), torch.arange(-1, 2), indexing="xy"), -1).flatten(0, 1)
_PIXELS = {"target_size": (36, 64), "radius": 1}
CASES = (
    Case("window"),
    Case("cosine", {"radius": 2, "metric": "cosine"}),
    Case("clamp", {"radius": 1, "metric": "cosine", "eps_mode": "clamp", "eps": 4.5}),
    Case("large-eps", {"radius": 1, "metric": "cosine", "eps": 0.5}),
    Case("border", {"radius": 2, "padding": "border"}),
    Case("border-cosine", {"radius": 3, "padding": "border", "metric": "cosine"}, points="outside"),
    Case("outside", {"radius": 3}, points="outside"),
    Case("outside-border", {"radius": 3, "padding": "border"}, points="outside"),
    Case("whole", {"radius": 2}, points="whole"),
    Case("whole-border", {"radius": 2, "padding": "border"}, points="whole"),
    Case("nearest", {"radius": 2, "sampling": "nearest"}, points="outside"),
    Case("nearest-border", {"radius": 2, "sampling": "nearest", "padding": "border"}, points="outside"),
    Case("one-sample", {"radius": 0, "scale": 0.25}),
    Case("row", {"radius": (0, 4)}),
    Case("larger-than-map", {"radius": (11, 9)}),
    Case("larger-than-map-border", {"radius": (5, 9), "padding": "border"}),
    Case("offsets", {"offsets": GRID}),
    Case("offsets-border", {"offsets": GRID, "padding": "border", "metric": "cosine"}),
    Case("offsets-nearest", {"offsets": GRID[:4], "sampling": "nearest", "padding": "border"}, points="outside"),
    Case("offsets-dilated", {"offsets": DILATED, "metric": "cosine"}, target_map=(33, 31), queries=20),
    Case("offsets-of-images", {"offsets": torch.stack((GRID, -GRID))}),
    Case("corner", _PIXELS),
    Case("half-pixel", {**_PIXELS, "target_coords": "half_pixel"}),
    Case("align-corners", {"target_size": (33, 57), "radius": 1, "target_coords": "align_corners"}),
    Case("num-keypoints", {"radius": 2, "metric": "cosine"}, rows="num_keypoints"),
    Case("valid", rows="valid"),
    *(Case(layout, layout=layout) for layout in LAYOUTS[1:]),
    *(Case(f"map-{layout}", layout=layout, query_map=(3, 4)) for layout in LAYOUTS),
    Case("flow", {"radius": 3}, channels=64, query_map=(16, 20), target_map=(16, 20), points="flow"),
    Case("flow-channels-last", {"radius": 3, "metric": "cosine"}, channels=64, query_map=(12, 20), target_map=(12, 20),
         points="flow", layout="channels_last"),
    Case("many", {"radius": 4, "metric": "cosine"}, queries=150, channels=37, target_map=(17, 37)),
    Case("one-of-each", {"radius": 1}, batch=1, queries=1, channels=1, target_map=(1, 1)),
    Case("no-queries", queries=0),
    Case("no-images", batch=0),
    Case("wide-channels", {"radius": 2}, batch=1, queries=3, channels=300),
)  # fmt: skip
NAMED = {case.name: case for case in CASES}


def eager(queries: Tensor, target: Tensor, coords: Tensor, **o: Any) -> Tensor:
    """As users write it: windows of a (normalised) map by grid_sample, then their products."""
    if queries.dim() == 4:
        queries = queries.flatten(2).mT
    x, y = coords.unbind(-1)
    height, width = target.shape[2:]
    if "target_size" in o:
        rows, columns = o["target_size"]
        kind = o.get("target_coords", "corner")
        if kind == "corner":
            x, y = x * width / columns, y * height / rows
        elif kind == "half_pixel":
            x, y = (x + 0.5) * width / columns - 0.5, (y + 0.5) * height / rows - 0.5
        else:
            x, y = x * (width - 1) / (columns - 1), y * (height - 1) / (rows - 1)
    if o.get("metric") == "cosine":
        queries, target = (units(v, dim, o) for v, dim in ((queries, 2), (target, 1)))
    if "offsets" in o:
        shift, window = o["offsets"].to(coords.dtype).expand(len(coords), -1, 2), None
    else:
        ry, rx = o["radius"] if isinstance(o["radius"], tuple) else (o["radius"], o["radius"])
        window = (2 * ry + 1, 2 * rx + 1)
        dy, dx = torch.meshgrid(torch.arange(-ry, ry + 1), torch.arange(-rx, rx + 1), indexing="ij")
        shift = torch.stack((dx, dy), -1).flatten(0, 1).to(coords)[None]
    px, py = (p[..., None] + shift[:, None, :, i] for i, p in enumerate((x, y)))
    grid = torch.stack(((2 * px + 1) / width - 1, (2 * py + 1) / height - 1), -1).to(target.dtype)
    sampled = F.grid_sample(
        target, grid, mode=o.get("sampling", "bilinear"), padding_mode=o.get("padding", "zeros"), align_corners=False
    )  # (B, C, N, K)
    found = o.get("scale", 1.0) * torch.einsum("bnc,bcnk->bnk", queries, sampled)
    restricted = torch.ones(found.shape[:2], dtype=torch.bool, device=found.device)
    if "num_keypoints" in o:
        restricted = torch.arange(found.shape[1], device=found.device) < o["num_keypoints"][:, None]
    if "valid" in o:
        restricted = o["valid"]
    found = torch.where(restricted[..., None], found, 0)
    return found if window is None else found.unflatten(2, window)


def units(x: Tensor, dim: int, o: dict[str, Any]) -> Tensor:
    norm, eps = x.norm(dim=dim, keepdim=True), o.get("eps", 1e-8)
    return x / (norm.clamp(min=eps) if o.get("eps_mode") == "clamp" else norm + eps)


def run(function: Callable[..., Tensor], inputs: list[Tensor], options: dict[str, Any]) -> list[Tensor]:
    """The result, and the gradients of a random linear function of it."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    found = function(*leaves, **options)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(found)
    gradients = torch.autograd.grad(found, leaves, upstream, allow_unused=True)
    return [found, *(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True))]


def on(backend: str) -> Callable[..., Tensor]:
    return lambda *inputs, **options: smk.local_correlation(*inputs, **options, backend=backend)
