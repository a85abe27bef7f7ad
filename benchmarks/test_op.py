"""The operator and its rivals at many shapes: time, launches, bytes, memory and error.

The rivals in window mode are the reference and hand-written code (both eager and compiled), a two-stage path with a
separate window operator, like the authors' implementation, and FlexAttention with a window mask. In global mode they
are `scaled_dot_product_attention` with coordinates as values, the closest existing fused kernel, and KeOps if it is
installed. Each provider is compared with float64 before it is timed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

import simplematch_kernels as smk

from . import measure, peers, problem
from .conftest import Record
from .problem import PAPER, Inputs, Matcher, Shape
from .timings import Timings

DENSE = Shape(batch=1, queries=32 * 32, channels=256, side=32, window=15)
SHAPES = [  # the paper's four, of which the last is its largest images; dense matching; ranges of B and C
    PAPER,
    replace(PAPER, side=64),
    replace(PAPER, side=64, channels=512, window=30),
    replace(PAPER, side=112),
    DENSE,
    *(replace(PAPER, batch=batch) for batch in (1, 32, 64)),
    *(replace(PAPER, channels=channels) for channels in (64, 256, 1536)),
]
LAYOUTS = ("contiguous", "channels_last")
MODES_OF = {"quick": ("forward", "forward+backward"), "usual": tuple(problem.MODES), "full": tuple(problem.MODES)}


def cases(kind: str, scope: str) -> list[Shape]:
    """Quick: the paper's shape in float32 against the reference. Usual: a few minutes. Full: everything."""

    def formats(shape: Shape, *dtypes: str) -> list[Shape]:
        return [replace(shape, dtype=dtype, layout=layout) for dtype in dtypes for layout in LAYOUTS]

    if scope == "quick":
        return formats(PAPER, "float32")
    modes = [replace(shape, localization=how) for how in ("window", "global") for shape in SHAPES]
    if scope == "full":
        return [case for shape in modes for case in formats(shape, "float32", "bfloat16", "float16")]
    paper = [*formats(PAPER, "float32", "bfloat16"), replace(PAPER, localization="global")]
    if kind == "cpu":
        return [*paper, DENSE, replace(DENSE, localization="global")]
    others = [case for shape in SHAPES[1:] for case in formats(shape, "float32", "bfloat16")]
    return [*paper, *formats(PAPER, "float16"), *others]


def test_time_and_memory(
    case: Shape, device: torch.device, scope: str, rounds: int, timings: Timings, record: Record
) -> None:
    inputs = problem.make(case, device)
    compiled = scope == "full" or (case.side, case.channels, case.batch) == (PAPER.side, PAPER.channels, PAPER.batch)
    matchers = peers.ours(case, device) | peers.rivals(case, compiled or device.type == "cpu")
    if scope == "quick":  # those that claims have bars for
        matchers = {name: match for name, match in matchers.items() if name in ("ours", "eager", "compile")}
    errors, forward_only, failed = try_out(matchers, inputs, case)
    copy = measure.copy_bandwidth(device)
    kept = {name: problem.kept_bytes(matchers[name], inputs) for name in errors}
    for mode in MODES_OF[scope]:
        able = [*errors, *forward_only] if mode == "forward" else list(errors)
        if mode == "backward" and device.type == "cpu" and scope != "full":  # to save minutes
            able = [name for name in able if name.startswith(("ours", "eager", "compile"))]
        work = {name: problem.MODES[mode](matchers[name], inputs) for name in able}
        seconds = timings.interleaved(work, rounds, mode, **asdict(case))
        row = {**asdict(case), "mode": mode, **figures(work, device, seconds)}
        row |= {"errors": errors, "failed": failed if mode == "forward" else failed | forward_only}
        row |= {"kept_bytes": kept} if mode == "forward" else {}
        floor = problem.floor_bytes(case, mode)
        row |= {"floor_bytes": floor, "share_of_copy": floor / (row["times"]["ours"]["median_ms"] / 1e3) / copy}
        record("op", row)


def figures(work: dict[str, measure.Work], device: torch.device, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Measure times, launches and peak memory of every provider."""
    return {
        "times": {name: measure.summary(x) for name, x in seconds.items()},
        "launches": {name: measure.launches(x, device) for name, x in work.items()},
        "peak_bytes": {name: measure.peak_bytes(x, device) for name, x in work.items()},
    }


def try_out(
    matchers: dict[str, Matcher], inputs: Inputs, shape: Shape
) -> tuple[dict[str, dict[str, float]], dict[str, str], dict[str, str]]:
    """Return the providers' errors against float64, and the reasons why some have no backward or don't run.

    Ours must be accurate. Rivals may lose the accuracy of a normalised copy in 16 bits, which is recorded.
    """
    errors: dict[str, dict[str, float]] = {}
    forward_only: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name, match in matchers.items():
        own = name.startswith("ours")
        try:
            errors[name] = problem.assert_correct(match, inputs, shape, strict=own or shape.dtype == "float32")
        except Exception as error:  # compilers raise errors of any type
            if own or isinstance(error, AssertionError):
                raise
            (forward_only if runs_forward(match, inputs) else failed)[name] = str(error).splitlines()[0]
    return errors, forward_only, failed


def runs_forward(match: Matcher, inputs: Inputs) -> bool:
    try:
        problem.forward(match, inputs)()
    except Exception:
        return False
    return True


STEPS = ("gather_keypoints", "cosine_similarity", "localize")


@pytest.mark.parametrize("step", STEPS)
def test_step(step: str, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    """Each step as a separate operator, compared with the reference backend."""
    inputs = problem.make(PAPER, device)
    runs = {name: step_of(step, inputs, backend) for name, backend in (("ours", None), ("eager", "reference"))}
    torch.testing.assert_close(runs["ours"](), runs["eager"](), rtol=1e-4, atol=1e-4)
    times = {name: measure.summary(x) for name, x in timings.interleaved(runs, rounds, **asdict(PAPER)).items()}
    record("steps", {**asdict(PAPER), "step": step, "times": times})


def step_of(step: str, inputs: Inputs, backend: str | None) -> Callable[[], torch.Tensor]:
    source, target, keypoints = inputs
    descriptors = smk.gather_keypoints(source, keypoints)
    scores = smk.cosine_similarity(descriptors, target)
    return {
        "gather_keypoints": lambda: smk.gather_keypoints(source, keypoints, backend=backend),
        "cosine_similarity": lambda: smk.cosine_similarity(descriptors, target, backend=backend),
        "localize": lambda: smk.localize(scores, window_size=PAPER.window, backend=backend).keypoints,
    }[step]


@pytest.mark.parametrize("mode", ["forward", "forward+backward"])
def test_smallest_call(mode: str, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    """The host overhead of a call."""
    shape = Shape(batch=1, queries=1, channels=8, side=4)
    inputs = problem.make(shape, device)
    matchers = peers.ours(shape, device) | {"eager": peers.rivals(shape, compiled=False)["eager"]}
    work = {name: problem.MODES[mode](match, inputs) for name, match in matchers.items()}
    times = {name: measure.summary(x) for name, x in timings.host(work, 40 * rounds, **asdict(shape)).items()}
    record("smallest_call", {**asdict(shape), "mode": mode, "times": times})


def test_start(timings: Timings, record: Record) -> None:
    """Seconds that the import adds to torch's, and seconds of the first call on the CPU; best of five."""
    code = (
        "import time, torch; a = time.perf_counter(); import simplematch_kernels as smk; b = time.perf_counter();"
        "m = torch.randn(1, 8, 4, 4); k = torch.zeros(1, 1, 2); c = time.perf_counter();"
        "smk.sparse_window_match(m, m, k); print(b - a, time.perf_counter() - c)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    seconds = [tuple(map(float, run.stdout.split())) for run in runs]
    timings.add({"import": [s for s, _ in seconds], "first call": [s for _, s in seconds]})
    record("start", {"import_s": min(s for s, _ in seconds), "first_call_s": min(s for _, s in seconds)})


@pytest.mark.parametrize("batch", [1, 8])
def test_cuda_graph(batch: int, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    """Forward and backward replayed as one CUDA graph, without Python's overhead."""
    if device.type != "cuda":
        pytest.skip("CUDA graphs need a GPU")
    shape = replace(PAPER, batch=batch)
    run = problem.forward_backward(peers.ours(shape, device)["ours"], problem.make(shape, device))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = timings.interleaved({"ours": graph.replay}, 10 * rounds, **asdict(shape))
    record("cuda_graph", {**asdict(shape), "times": {"ours": measure.summary(times["ours"])}})
