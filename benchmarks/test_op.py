"""The operator beside everything that does its work, at many shapes: time, launches, bytes, memory and error.

Window mode has as rivals the reference (eager and compiled), what codebases write by hand (both), and a path of two
stages with a window operator of its own, as the paper's authors have it. Global mode also has
`scaled_dot_product_attention` with coordinates as values, the closest existing fused kernel, and KeOps where it is
installed. Each is compared with float64 before it is timed. On a CPU only a few shapes run; `--full` runs all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from . import measure, peers
from .conftest import Record
from .peers import PAPER, Shape

LAYOUTS = ("contiguous", "channels_last")
MODES = {"forward": peers.forward, "forward+backward": peers.forward_backward}


def shapes() -> Iterator[Shape]:
    """The paper's four, larger images, dense matching, and ranges of B and C."""
    paper = [PAPER, replace(PAPER, side=64), replace(PAPER, side=64, channels=512, window=30), replace(PAPER, side=112)]
    dense = Shape(batch=1, queries=32 * 32, channels=256, side=32, window=15)
    batches = [replace(PAPER, batch=batch) for batch in (1, 32, 64)]
    channels = [replace(PAPER, channels=count) for count in (64, 256, 1536)]
    yield from dict.fromkeys([*paper, dense, *batches, *channels])


CASES = [
    replace(shape, dtype=dtype, layout=layout)
    for shape in shapes()
    for dtype in ("float32", "bfloat16", "float16")
    for layout in LAYOUTS
]


def on_cpu(shape: Shape) -> bool:
    """What a CPU measures in minutes: the paper's shape, and dense matching in float32."""
    few = replace(PAPER, dtype=shape.dtype, layout=shape.layout), Shape(1, 32 * 32, 256, 32, 15, layout=shape.layout)
    return shape in few and shape.dtype != "float16"


@pytest.mark.parametrize("localization", ["window", "global"])
@pytest.mark.parametrize("shape", CASES, ids=str)
def test_time_and_memory(
    shape: Shape, localization: str, device: torch.device, full: bool, rounds: int, record: Record
) -> None:
    few = on_cpu(shape) and (localization == "window" or shape.dtype == "float32")
    if device.type == "cpu" and not (full or few):
        pytest.skip("takes long on a CPU: --full runs it")
    inputs = peers.make(shape, device)
    matchers = peers.matchers(shape) if localization == "window" else peers.global_matchers(shape)
    errors = {}
    for name, match in matchers.items():  # rivals may lose what a normalised copy in 16 bits loses; it is recorded
        strict = name == "ours" or shape.dtype == "float32"
        errors[name] = peers.assert_correct(match, inputs, shape, localization, strict)
    copy = measure.copy_bandwidth(device)
    for mode, run in MODES.items():
        work = {name: run(match, inputs) for name, match in matchers.items()}
        times = {name: measure.summary(x) for name, x in measure.interleaved(work, device, rounds).items()}
        floor = shape.map_bytes * (1 if mode == "forward" else 4)  # the target read once; again, and two maps written
        row: dict[str, Any] = {**asdict(shape), "localization": localization, "mode": mode, "times": times}
        row |= {"errors": errors["ours"], "rivals_errors": errors, "floor_bytes": floor}
        row |= {"share_of_copy": floor / (times["ours"]["median_ms"] / 1e3) / copy}
        row |= {"launches": {name: measure.launches(x, device) for name, x in work.items()}}
        row |= {"peak_bytes": {name: measure.peak_bytes(x, device) for name, x in work.items()}}
        if mode == "forward":
            row |= {"kept_bytes": {name: peers.kept_bytes(match, inputs) for name, match in matchers.items()}}
        record("op", row)


@pytest.mark.parametrize("mode", list(MODES))
def test_smallest_call(mode: str, device: torch.device, rounds: int, record: Record) -> None:
    """What a call costs before any arithmetic."""
    shape = Shape(batch=1, queries=1, channels=8, side=4)
    inputs = peers.make(shape, device)
    matchers = peers.matchers(shape, compiled=False)
    work = {name: MODES[mode](match, inputs) for name, match in matchers.items()}
    times = measure.interleaved(work, device, 40 * rounds, warmup=50)
    record("overhead", {**asdict(shape), "mode": mode, "times": {k: measure.summary(v) for k, v in times.items()}})


@pytest.mark.parametrize("batch", [1, 8])
def test_cuda_graph(batch: int, device: torch.device, rounds: int, record: Record) -> None:
    """Forward and backward replayed as one graph: what is left when Python costs nothing."""
    if device.type != "cuda":
        pytest.skip("a CPU has no CUDA graphs")
    shape = replace(PAPER, batch=batch)
    inputs = peers.make(shape, device)
    run = peers.forward_backward(peers.matchers(shape, compiled=False)["ours"], inputs)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = measure.interleaved({"ours": graph.replay}, device, 10 * rounds)
    record("cuda_graph", {**asdict(shape), "times": {"ours": measure.summary(times["ours"])}})
