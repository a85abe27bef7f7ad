"""What is measured. Every suite returns rows of plain numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import torch

from . import measure, peers
from .peers import PAPER, Shape

Row = dict[str, Any]
MODES = {"forward": peers.forward, "forward+backward": peers.forward_backward}


def operator(device: torch.device, rounds: int, dtypes: tuple[str, ...], layouts: tuple[str, ...]) -> list[Row]:
    """The paper's shape beside eager PyTorch and torch.compile, correctness first."""
    rows = []
    for dtype in dtypes:
        for layout in layouts:
            shape = replace(PAPER, dtype=dtype, layout=layout)
            inputs = peers.make(shape, device)
            matchers = peers.matchers(shape)
            errors = peers.assert_correct(matchers["ours"], inputs, shape)
            for mode, run in MODES.items():
                times = measure.interleaved({name: run(m, inputs) for name, m in matchers.items()}, device, rounds)
                times = {name: measure.summary(seconds) for name, seconds in times.items()}
                rows.append({**asdict(shape), "mode": mode, "times": times, "errors": errors})
    return rows


def overhead(device: torch.device, rounds: int) -> list[Row]:
    """The smallest call: what the operator costs before any arithmetic."""
    shape = Shape(batch=1, queries=1, channels=8, side=4)
    inputs = peers.make(shape, device)
    matchers = peers.matchers(shape, compiled=False)
    rows = []
    for mode, run in MODES.items():
        work = {name: run(m, inputs) for name, m in matchers.items()}
        times = measure.interleaved(work, device, rounds, warmup=50)
        rows.append({**asdict(shape), "mode": mode, "times": {k: measure.summary(v) for k, v in times.items()}})
    return rows


def scaling(device: torch.device, rounds: int) -> list[Row]:
    """Cost against the number of queries and against the number of cells."""
    by_queries = [Shape(batch=1, queries=n, channels=256, side=64, window=15) for n in (1, 4, 16, 64, 256, 1024, 4096)]
    by_cells = [Shape(batch=1, queries=64, channels=256, side=side, window=15) for side in (16, 32, 64, 128)]
    rows = []
    for axis, shapes in (("queries", by_queries), ("cells", by_cells)):
        for shape in shapes:
            inputs = peers.make(shape, device)
            ours = peers.matchers(shape, compiled=False)["ours"]
            for mode, run in MODES.items():
                seconds = measure.interleaved({"ours": run(ours, inputs)}, device, rounds)["ours"]
                rows.append({**asdict(shape), "axis": axis, "mode": mode, "times": {"ours": measure.summary(seconds)}})
    return rows


def memory(device: torch.device) -> list[Row]:
    """Bytes kept for the backward and transient bytes, as shares of one feature map, at the paper's shape."""
    rows = []
    for layout in ("contiguous", "channels_last"):
        shape = replace(PAPER, layout=layout)
        inputs = peers.make(shape, device)
        for name, match in peers.matchers(shape, compiled=False).items():
            source, target, keypoints = inputs[0].detach(), inputs[1].detach(), inputs[2]
            source.requires_grad_(), target.requires_grad_()
            given = [source, target, keypoints]
            kept = measure.kept_bytes(lambda m=match, g=given: m(*g), given)
            forward_peak = measure.peak_bytes(peers.forward(match, inputs), device)
            loss = (match(*given).keypoints - keypoints).square().sum()
            backward_peak = measure.peak_bytes(lambda x=loss, g=given: torch.autograd.grad(x, g[:2]), device)
            rows.append(
                {
                    **asdict(shape),
                    "provider": name,
                    "kept_share": kept / shape.map_bytes,
                    "forward_transient_share": forward_peak / shape.map_bytes,
                    "backward_transient_share": backward_peak / shape.map_bytes - 2,  # the two gradients are results
                }
            )
    return rows


def import_time() -> dict[str, float]:
    """Seconds that the package's import adds to torch's, and that the first call takes; the best of five processes."""
    code = (
        "import time, torch; a = time.perf_counter(); import simplematch_kernels as smk; b = time.perf_counter();"
        "m = torch.randn(1, 8, 4, 4); k = torch.zeros(1, 1, 2); c = time.perf_counter();"
        "smk.sparse_window_match(m, m, k); print(b - a, time.perf_counter() - c)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    seconds = [tuple(map(float, run.stdout.split())) for run in runs]
    return {"import_s": min(s for s, _ in seconds), "first_call_s": min(s for _, s in seconds)}


def exponent(sizes: list[float], times: list[float]) -> float:
    """Slope of log time over log size: 1 is linear."""
    x, y = [math.log(s) for s in sizes], [math.log(t) for t in times]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)
