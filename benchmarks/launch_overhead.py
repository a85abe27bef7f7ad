"""Measures the host's time of a call of the Triton backend, with launches that stop before the driver; needs no GPU.

    python -m benchmarks.launch_overhead [--rounds 2000] [--profile]

The operators' Python, Triton's binder and the look-up of the compiled kernel are real; the launcher does nothing, and
nothing is compiled. To compare two versions, run both in turns. `--profile` prints where a forward with its backward
spends the time.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import unittest.mock
from collections.abc import Callable
from typing import Any

import torch
import triton
from triton.runtime.jit import JITFunction

from simplematch_kernels._options import LocalizationOptions, MetricOptions, SamplingOptions
from simplematch_kernels._types import MatchGradients, MatchProblem, Rows, Upstream
from simplematch_kernels.triton import _steps, backend

from . import measure
from .stub_driver import Driver, NotCompiled

SAMPLES = {
    "floor, window 9": ("floor", "window"),
    "bilinear, window 9": ("bilinear", "window"),
    "descriptors, global": (None, "global"),
}


def stub_compilation() -> None:
    """Replace compilation for the rest of the process: kernels are compiled to nothing, and launches do nothing."""

    def compile_nothing(self: Any, key: str, signature: Any, device: int, *_: Any) -> NotCompiled:
        kernel = self.device_caches[device][0][key] = NotCompiled()
        return kernel

    triton.runtime.driver.set_active(Driver())
    JITFunction._do_compile = compile_nothing


def calls(sampling_mode: str | None, localization_mode: str, B: int = 1, N: int = 8, C: int = 64) -> dict[str, Any]:
    """A forward, and a forward with its backward, of a problem so small that the time is all overhead."""
    H = W = 16
    target = torch.zeros(B, C, H, W)
    localization = LocalizationOptions(
        localization_mode, (9, 9), target_size=(256, 256), target_coords="half_pixel"
    ).resolve(H, W)
    metric = MetricOptions().resolve()
    rows = Rows(torch.full((B,), N), None, None)
    source, keypoints, sampling = torch.zeros(B, C, 1, N), None, None
    if sampling_mode is not None:
        source, keypoints = torch.zeros(B, C, H, W), torch.zeros(B, N, 2)
        sampling = SamplingOptions((256, 256), "half_pixel", sampling_mode).resolve(H, W)
    upstream = Upstream(torch.ones(B, N, 2), None, None)
    needs = MatchGradients(True, sampling_mode == "bilinear", True, False)
    problem = MatchProblem(source, keypoints, target, rows, None, sampling, metric, localization, N)

    def forward() -> Any:
        return backend.sparse_window_match(problem)

    def both() -> None:
        backend.sparse_window_match_backward(problem, forward(), upstream, needs)

    return {"forward": forward, "forward+backward": both}


def microseconds(work: Callable[[], object], rounds: int) -> list[float]:
    return [1e6 * seconds for seconds in measure.host_seconds(work, torch.device("cpu"), rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stub_compilation()
    print("| call | median (us) | 10 % (us) | without Triton's launch, median (us) |\n|---|---|---|---|")
    for name, modes in SAMPLES.items():
        for kind, work in calls(*modes).items():
            times = microseconds(work, options.rounds)
            with unittest.mock.patch.object(_steps, "launch", lambda *_, **__: None):
                ours = statistics.median(microseconds(work, options.rounds))
            fastest = statistics.quantiles(times, n=10)[0]
            print(f"| {name}, {kind} | {statistics.median(times):.1f} | {fastest:.1f} | {ours:.1f} |")
    if options.profile:
        work = calls(*SAMPLES["bilinear, window 9"])["forward+backward"]
        with cProfile.Profile() as profile:
            for _ in range(options.rounds):
                work()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
