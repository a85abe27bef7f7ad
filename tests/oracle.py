"""The float64 oracle, the rival in the tested dtype, and how results are compared with both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import Matches
from simplematch_kernels.reference import functional as reference

from .samples import Inputs, Sample

WIDER = {torch.float64: 1e-11, torch.float32: 2e-6, torch.bfloat16: 2e-3, torch.float16: 3e-4}
"""Relative error allowed in any case: what one rounding of the result costs, times a small constant."""


NEEDS = ("source", "target", "keypoints", "temperature")
"""What has a gradient."""


@dataclass
class Result:
    matches: Matches
    gradients: dict[str, Tensor]


def run_backend(inputs: Inputs, backend: str, *needs: str, poison: bool = False) -> Result:
    """The public function on a backend, and gradients for random upstream gradients (the same for every caller)."""
    inputs = inputs.requiring(*needs)
    matches = smk.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, **inputs.options, backend=backend)
    return Result(matches, gradients(matches, inputs, needs))


def run_reference(inputs: Inputs, dtype: torch.dtype, *needs: str) -> Result:
    """Plain PyTorch, differentiated by autograd, with arithmetic in `dtype`."""
    inputs = inputs.requiring(*needs)
    matches = reference.sparse_window_match(
        inputs.source, inputs.target, inputs.keypoints, dtype=dtype, **inputs.options
    )
    return Result(matches, gradients(matches, inputs, needs))


def gradients(matches: Matches, inputs: Inputs, needs: tuple[str, ...]) -> dict[str, Tensor]:
    """Gradients of a random linear function of keypoints, score and log_sum_exp."""
    leaves = inputs.leaves()
    if not leaves or not matches.score.requires_grad:
        return {}
    generator = torch.Generator().manual_seed(7)
    outputs = [matches.keypoints, matches.score, matches.log_sum_exp]
    upstream = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
    found = torch.autograd.grad(outputs, list(leaves.values()), upstream, allow_unused=True)
    return {name: g for name, g in zip(leaves, found, strict=True) if g is not None}


def relative_error(value: Tensor, exact: Tensor) -> float:
    """|value - exact| / |exact|, Euclidean, in float64; NaN where the NaNs of the two differ."""
    value, exact = value.detach().double(), exact.detach().double()
    if not torch.equal(value.isnan(), exact.isnan()):
        return float("nan")
    difference = (value - exact).nan_to_num().norm()
    return float(difference / exact.nan_to_num().norm().clamp(min=1e-12)) if exact.numel() else 0.0


def assert_as_good_as(
    result: Result,
    rival: Result,
    exact: Result,
    dtype: torch.dtype,
    roundings: Mapping[str, int] | None = None,
    sample: Sample | None = None,
) -> None:
    """Same peaks as the oracle; every error at most twice that of plain PyTorch in this dtype.

    roundings: how often a result is rounded to the dtype, by name, if more than once; their squares add.
    sample: whose draws tell PyTorch's own error in float32 where the first draw is exceeded. What moves as exp(s / T)
        does with a score s hangs on the rounding of a few scores: between draws that error differs up to tenfold.
    """
    assert torch.equal(result.matches.peak, exact.matches.peak)
    ours, theirs = errors(result, exact), errors(rival, exact)
    assert ours.keys() >= theirs.keys()
    for name, error in ours.items():
        rounding = theirs[name]  # NaN where PyTorch's eps vanishes in float16
        least = WIDER[dtype] * math.sqrt((roundings or {}).get(name, 1))
        allowed = least if math.isnan(rounding) else max(2 * rounding, least)
        if error > allowed and sample is not None and dtype == torch.float32:
            allowed = 2 * rounding_of_pytorch(sample, name)
        assert error <= allowed, f"{name}: relative error {error:.2e}, PyTorch's own allows {allowed:.2e}"


def errors(result: Result, exact: Result) -> dict[str, float]:
    """By name, of keypoints, score, log_sum_exp, and each gradient."""
    found = {
        name: relative_error(getattr(result.matches, name), getattr(exact.matches, name))
        for name in ("keypoints", "score", "log_sum_exp")
    }
    return found | {
        f"gradient of {name}": relative_error(result.gradients[name], gradient)
        for name, gradient in exact.gradients.items()
    }


def rounding_of_pytorch(sample: Sample, name: str) -> float:
    """The largest error of PyTorch in float32 in a few draws of a sample."""
    worst = 0.0
    for seed in range(8):
        inputs = sample.make(torch.float32, seed=seed)
        exact = run_reference(inputs.to(torch.float64), torch.float64, *NEEDS)
        worst = max(worst, errors(run_reference(inputs, torch.float32, *NEEDS), exact)[name])
    return worst
