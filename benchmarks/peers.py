"""The providers that are compared: ours, and the strongest plain PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels.reference import functional as reference

from . import measure

Matcher = Callable[[Tensor, Tensor, Tensor], smk.Matches]


@dataclass(frozen=True)
class Shape:
    """A matching problem. `layout` is "contiguous" or "channels_last"."""

    batch: int = 8
    queries: int = 30
    channels: int = 768
    side: int = 63
    window: int = 45
    dtype: str = "float32"
    layout: str = "contiguous"

    @property
    def map_bytes(self) -> int:
        return self.batch * self.channels * self.side**2 * getattr(torch, self.dtype).itemsize

    def __str__(self) -> str:
        return (
            f"B={self.batch} N={self.queries} C={self.channels} {self.side}x{self.side} k={self.window} "
            f"{self.dtype} {self.layout}"
        )


PAPER = Shape()
TEMPERATURE = 0.02


def make(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(source, target, keypoints) of smooth maps, as networks make them; the target is the source, moved and noisy."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(shape.batch, shape.channels, *(max(2, shape.side // 4),) * 2, generator=generator)
    smooth = F.interpolate(coarse, (shape.side, shape.side), mode="bicubic", align_corners=False)
    source, target = (
        smooth_map + 0.2 * torch.randn(smooth.shape, generator=generator)
        for smooth_map in (smooth, smooth.roll((shape.side // 5, shape.side // 7), (2, 3)))
    )
    keypoints = torch.rand(shape.batch, shape.queries, 2, generator=generator) * (shape.side - 1)
    format_ = torch.channels_last if shape.layout == "channels_last" else torch.contiguous_format
    source, target = (
        x.to(device, getattr(torch, shape.dtype)).contiguous(memory_format=format_) for x in (source, target)
    )
    return source, target, keypoints.to(device)


def matchers(shape: Shape, backend: str | None = None, compiled: bool = True) -> dict[str, Matcher]:
    """Ours, the reference in eager PyTorch and compiled, and what codebases write by hand, in both."""

    def ours(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
        return smk.sparse_window_match(source, target, keypoints, window_size=shape.window, backend=backend)

    def eager(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
        return reference.sparse_window_match(source, target, keypoints, window_size=shape.window)

    def by_hand(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
        return match_by_hand(source, target, keypoints, shape.window)

    def two_stages(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
        return match_in_two_stages(source, target, keypoints, shape.window)

    found: dict[str, Matcher] = {"ours": ours, "eager": eager, "by hand": by_hand, "two stages": two_stages}
    if compiled:
        torch._dynamo.reset()
        found |= {"compile": torch.compile(eager), "by hand, compile": torch.compile(by_hand)}
    return found


def global_matchers(shape: Shape, backend: str | None = None, compiled: bool = True) -> dict[str, Matcher]:
    """The same with the softmax over all cells, and attention with coordinates as values."""

    def ours(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
        return smk.sparse_window_match(source, target, keypoints, localization="global", backend=backend)

    def eager(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
        return reference.sparse_window_match(source, target, keypoints, localization="global")

    found: dict[str, Matcher] = {"ours": ours, "eager": eager, "attention": match_by_attention}
    if importlib.util.find_spec("pykeops") is not None:
        found["keops"] = match_by_keops
    if compiled:
        torch._dynamo.reset()
        found |= {"compile": torch.compile(eager)}
    return found


def match_by_attention(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
    """Softmax over all cells by `scaled_dot_product_attention`, whose values are the cells' coordinates."""
    queries, cells = _unit_rows(source, target, keypoints)
    values = _coordinates(target).to(cells.dtype).expand(len(cells), -1, -1)
    found = F.scaled_dot_product_attention(queries, cells, values, scale=1 / TEMPERATURE)
    empty = found.new_zeros(())
    return smk.Matches(found.float(), empty, empty, empty)  # attention tells neither scores nor peaks


def match_by_keops(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
    """The same as a reduction of KeOps, which never writes the scores."""
    from pykeops.torch import LazyTensor

    queries, cells = _unit_rows(source, target, keypoints)
    values = _coordinates(target).to(cells.dtype).expand(len(cells), -1, -1).contiguous()
    scores = (LazyTensor(queries[:, :, None]) | LazyTensor(cells[:, None].contiguous())) / TEMPERATURE
    found = scores.sumsoftmaxweight(LazyTensor(values[:, None]), dim=2)
    empty = found.new_zeros(())
    return smk.Matches(found.float(), empty, empty, empty)


def match_in_two_stages(source: Tensor, target: Tensor, keypoints: Tensor, window: int) -> smk.Matches:
    """A score map, then windows by an operator of their own (ours), then a soft-argmax: the authors' division."""
    queries, cells = _unit_rows(source, target, keypoints)
    height, width = target.shape[2:]
    scores = (queries @ cells.transpose(1, 2)).unflatten(2, (height, width))
    score, peak = scores.flatten(2).max(-1)
    windows, start = smk.extract_windows(scores.float(), window_size=window)
    logits = windows / TEMPERATURE
    probability = logits.flatten(2).softmax(-1).view_as(logits)
    y = start[..., 1, None] + torch.arange(windows.shape[2], device=source.device)
    x = start[..., 0, None] + torch.arange(windows.shape[3], device=source.device)
    found = torch.stack(((probability.sum(2) * x).sum(-1), (probability.sum(3) * y).sum(-1)), -1)
    return smk.Matches(found, score, peak, logits.logsumexp((2, 3)))


def _unit_rows(source: Tensor, target: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised descriptors (B, N, C) and cells (B, M, C)."""
    batch = torch.arange(len(source), device=source.device)[:, None]
    queries = source[batch, :, keypoints[..., 1].long(), keypoints[..., 0].long()]
    cells = target.flatten(2).transpose(1, 2)
    return tuple(x / (x.norm(dim=2, keepdim=True) + 1e-8) for x in (queries, cells))  # type: ignore[return-value]


def _coordinates(target: Tensor) -> Tensor:
    """(1, M, 2): x and y of every cell."""
    y, x = torch.meshgrid(*(torch.arange(n, device=target.device) for n in target.shape[2:]), indexing="ij")
    return torch.stack((x, y), -1).reshape(1, -1, 2)


def match_by_hand(source: Tensor, target: Tensor, keypoints: Tensor, window: int) -> smk.Matches:
    """The usual way: normalised copies of descriptors and features, a score map, a gathered window, a soft-argmax."""
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
    return smk.Matches(found, score, peak, logits.logsumexp(-1))


def forward(match: Matcher, inputs: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return match(*inputs)

    return run


def forward_backward(match: Matcher, inputs: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    """A training step's share: forward, a loss on the coordinates, gradients of both maps, fresh each time."""
    source, target, keypoints = inputs
    leaves = source.detach().requires_grad_(), target.detach().requires_grad_()

    def run() -> object:
        matches = match(*leaves, keypoints)
        return torch.autograd.grad((matches.keypoints - keypoints).square().sum(), leaves)

    return run


def kept_bytes(match: Matcher, inputs: tuple[Tensor, Tensor, Tensor]) -> int:
    """What a forward keeps for its backward, beyond its inputs."""
    leaves = [inputs[0].detach().requires_grad_(), inputs[1].detach().requires_grad_(), inputs[2]]
    return measure.kept_bytes(lambda: match(*leaves), leaves)


def assert_correct(
    match: Matcher,
    inputs: tuple[Tensor, Tensor, Tensor],
    shape: Shape,
    localization: str = "window",
    strict: bool = True,
) -> dict[str, float]:
    """Errors against float64; if `strict`, raises where they exceed what the dtype allows, before anything is timed."""
    source, target, keypoints = inputs
    exact_leaves = source.detach().double().requires_grad_(), target.detach().double().requires_grad_()
    exact = reference.sparse_window_match(
        *exact_leaves, keypoints.double(), window_size=shape.window, localization=localization
    )
    exact_gradients = torch.autograd.grad((exact.keypoints - keypoints).square().sum(), exact_leaves)
    leaves = source.detach().requires_grad_(), target.detach().requires_grad_()
    matches = match(*leaves, keypoints)
    gradients = torch.autograd.grad((matches.keypoints - keypoints).square().sum(), leaves)
    errors = {"keypoints": _relative(matches.keypoints, exact.keypoints)}
    if matches.score.dim():
        errors |= {"score": _relative(matches.score, exact.score)}
    errors |= {"source_gradient": _relative(gradients[0], exact_gradients[0])}
    errors |= {"target_gradient": _relative(gradients[1], exact_gradients[1])}
    allowed = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}[shape.dtype]
    wrong = {name: error for name, error in errors.items() if not error <= allowed}
    if strict and (wrong or (matches.peak.dim() and not torch.equal(matches.peak, exact.peak))):
        raise AssertionError(f"wrong at {shape}: relative errors {wrong or errors}, allowed {allowed}")
    return errors


def _relative(value: Tensor, exact: Tensor) -> float:
    return float(((value.detach().double() - exact.detach()).norm() / exact.detach().norm()).item())
