"""The compared providers: ours on each backend, plain PyTorch, and existing fused kernels."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import Matches
from simplematch_kernels._backends import select, why_not
from simplematch_kernels.reference import functional as reference

from .attention import TEMPERATURE, match_by_attention, match_by_flex_attention, match_by_keops, unit_rows
from .problem import Matcher, Shape


def ours(shape: Shape, device: torch.device) -> dict[str, Matcher]:
    """Return the operator on the default backend and on every other available backend with kernels."""

    def by(backend: str | None) -> Matcher:
        return partial(smk.sparse_window_match, **_options(shape), backend=backend)

    others = [
        name
        for name in ("triton", "cuda", "cpu")
        if why_not(name, device) is None and select("auto", device) != select(name, device)
    ]
    return {"ours": by(None)} | {f"ours, {name}": by(name) for name in others}


def rivals(shape: Shape, compiled: bool = True) -> dict[str, Matcher]:
    """Return the reference and hand-written code, both eager and compiled, and similar fused kernels."""
    eager: Matcher = partial(reference.sparse_window_match, **_options(shape))
    plain, to_compile = _window_rivals(shape.window) if shape.localization == "window" else _global_rivals()
    found = {"eager": eager} | plain
    if compiled:
        torch._dynamo.reset()
        torch._functorch.config.donated_buffer = False  # a backward is timed many times on one graph
        found |= {name: torch.compile(match) for name, match in ({"compile": eager} | to_compile).items()}
    return found


def _window_rivals(window: int) -> tuple[dict[str, Matcher], dict[str, Matcher]]:
    """Return the eager rivals and the rivals to compile."""
    by_hand: Matcher = partial(match_by_hand, window=window)
    plain: dict[str, Matcher] = {"by hand": by_hand, "two stages": partial(match_in_two_stages, window=window)}
    return plain, {"by hand, compile": by_hand, "FlexAttention": partial(match_by_flex_attention, window=window)}


def _global_rivals() -> tuple[dict[str, Matcher], dict[str, Matcher]]:
    plain: dict[str, Matcher] = {"attention": match_by_attention}
    if importlib.util.find_spec("pykeops") is not None:
        plain["KeOps"] = match_by_keops
    return plain, {}


def match_by_hand(source: Tensor, target: Tensor, keypoints: Tensor, window: int) -> Matches:
    """Match the usual way: normalised copies of descriptors and features, score map, gathered window, soft-argmax."""
    batch, (height, width) = torch.arange(len(source), device=source.device)[:, None], target.shape[2:]
    queries = source[batch, :, keypoints[..., 1].long(), keypoints[..., 0].long()]
    queries = queries / (queries.norm(dim=2, keepdim=True) + 1e-8)
    cells = target / (target.norm(dim=1, keepdim=True) + 1e-8)
    scores = torch.einsum("bnc,bchw->bnhw", queries, cells).flatten(2)
    score, peak = scores.max(-1)
    rows, columns = min(window, height), min(window, width)
    top = (peak // width - window // 2).clamp(0, height - rows)
    left = (peak % width - window // 2).clamp(0, width - columns)
    y = top[..., None] + torch.arange(rows, device=source.device)
    x = left[..., None] + torch.arange(columns, device=source.device)
    inside = (y[..., :, None] * width + x[..., None, :]).flatten(2)
    logits = scores.gather(2, inside) / TEMPERATURE
    probability = logits.softmax(-1).unflatten(2, (rows, columns))
    found = torch.stack(((probability.sum(2) * x).sum(-1), (probability.sum(3) * y).sum(-1)), -1)
    return Matches(found, score, peak, logits.logsumexp(-1))


def match_in_two_stages(source: Tensor, target: Tensor, keypoints: Tensor, window: int) -> Matches:
    """Match with a score map, a window operator (ours) and a soft-argmax, like the authors' implementation."""
    queries, cells = unit_rows(source, target, keypoints)
    height, width = target.shape[2:]
    scores = (queries @ cells.transpose(1, 2)).unflatten(2, (height, width))
    score, peak = scores.flatten(2).max(-1)
    windows, start = smk.extract_windows(scores.float(), window_size=window)
    logits = windows / TEMPERATURE
    probability = logits.flatten(2).softmax(-1).view_as(logits)
    y = start[..., 1, None] + torch.arange(windows.shape[2], device=source.device)
    x = start[..., 0, None] + torch.arange(windows.shape[3], device=source.device)
    found = torch.stack(((probability.sum(2) * x).sum(-1), (probability.sum(3) * y).sum(-1)), -1)
    return Matches(found, score, peak, logits.logsumexp((2, 3)))


def _options(shape: Shape) -> dict[str, Any]:
    return {"window_size": shape.window, "localization": shape.localization, "temperature": TEMPERATURE}
