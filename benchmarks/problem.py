"""The matching problems to time, and checks of a provider's results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from simplematch_kernels import Matches
from simplematch_kernels.reference import functional as reference

from . import measure

Inputs = tuple[Tensor, Tensor, Tensor]
Matcher = Callable[[Tensor, Tensor, Tensor], Matches]
ALLOWED_ERROR = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}


@dataclass(frozen=True)
class Shape:
    """A matching problem. `layout` is "contiguous" or "channels_last", `localization` "window" or "global"."""

    batch: int = 8
    queries: int = 30
    channels: int = 768
    side: int = 63
    window: int = 45
    dtype: str = "float32"
    layout: str = "contiguous"
    localization: str = "window"

    @property
    def map_bytes(self) -> int:
        return int(self.batch * self.channels * self.side**2 * getattr(torch, self.dtype).itemsize)

    def __str__(self) -> str:
        how = f"k={self.window}" if self.localization == "window" else "global"
        return (
            f"B={self.batch} N={self.queries} C={self.channels} {self.side}x{self.side} {how} "
            f"{self.dtype} {self.layout}"
        )


PAPER = Shape()


def make(shape: Shape, device: torch.device) -> Inputs:
    """Make (source, target, keypoints) of smooth maps; the target is the shifted source plus noise."""
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


def forward(match: Matcher, inputs: Inputs) -> measure.Work:
    def run() -> object:
        with torch.no_grad():
            return match(*inputs)

    return run


def backward(match: Matcher, inputs: Inputs) -> measure.Work:
    """Return a call that computes new gradients of both maps."""
    leaves = _leaves(inputs)
    loss = _loss(match(*leaves, inputs[2]), inputs[2])
    return lambda: torch.autograd.grad(loss, leaves, retain_graph=True)


def forward_backward(match: Matcher, inputs: Inputs) -> measure.Work:
    """Return a call that runs forward, a loss on the coordinates, and the backward to new gradients of both maps."""
    leaves = _leaves(inputs)
    return lambda: torch.autograd.grad(_loss(match(*leaves, inputs[2]), inputs[2]), leaves)


MODES = {"forward": forward, "backward": backward, "forward+backward": forward_backward}


def kept_bytes(match: Matcher, inputs: Inputs) -> int:
    """Count the bytes that a forward saves for its backward, beyond its inputs."""
    given = [*_leaves(inputs), inputs[2]]
    return measure.kept_bytes(lambda: match(*given), given)


FLOOR_IN_MAPS = {"forward": 1, "backward": 3, "forward+backward": 4}
"""Maps to move at least: each pass reads the target once, and the backward writes two gradients."""


def floor_bytes(shape: Shape, mode: str) -> int:
    return shape.map_bytes * FLOOR_IN_MAPS[mode]


def assert_correct(match: Matcher, inputs: Inputs, shape: Shape, strict: bool = True) -> dict[str, float]:
    """Return errors against float64; if `strict`, raise if they exceed the dtype's tolerance."""
    source, target, keypoints = inputs
    exact_leaves = _leaves((source.double(), target.double(), keypoints))
    exact = reference.sparse_window_match(
        *exact_leaves, keypoints.double(), window_size=shape.window, localization=shape.localization
    )
    exact_gradients = torch.autograd.grad(_loss(exact, keypoints), exact_leaves)
    leaves = _leaves(inputs)
    matches = match(*leaves, keypoints)
    gradients = torch.autograd.grad(_loss(matches, keypoints), leaves)
    errors = {"keypoints": _relative(matches.keypoints, exact.keypoints)}
    if matches.score.dim():  # attention returns no scores
        errors |= {"score": _relative(matches.score, exact.score)}
    errors |= {"source_gradient": _relative(gradients[0], exact_gradients[0])}
    errors |= {"target_gradient": _relative(gradients[1], exact_gradients[1])}
    allowed = ALLOWED_ERROR[shape.dtype]
    wrong = {name: error for name, error in errors.items() if not error <= allowed}
    if strict and (wrong or (matches.peak.dim() and not torch.equal(matches.peak, exact.peak))):
        raise AssertionError(f"wrong at {shape}: relative errors {wrong or errors}, allowed {allowed}")
    return errors


def _leaves(inputs: Inputs) -> tuple[Tensor, Tensor]:
    return inputs[0].detach().requires_grad_(), inputs[1].detach().requires_grad_()


def _loss(matches: Matches, keypoints: Tensor) -> Tensor:
    return (matches.keypoints - keypoints).square().sum()


def _relative(value: Tensor, exact: Tensor) -> float:
    return float(((value.detach().double() - exact.detach()).norm() / exact.detach().norm()).item())
