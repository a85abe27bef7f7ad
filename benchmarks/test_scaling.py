"""Scaling with the number of keypoints, cells, channels, pairs, window size and threads; speed of an evaluation."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simplematch.data import PairDataset
from simplematch.data.records import PairInfo
from simplematch.data.table import PairTable
from simplematch.evaluation import PCKProtocol, evaluate
from simplematch.models import SimpleMatch

from . import measure, peers, problem
from .conftest import Record
from .problem import PAPER, Shape
from .timings import Timings

BASE = Shape(batch=1, queries=64, channels=256, side=64, window=15)
AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "keypoints": ("queries", (1, 4, 16, 64, 256, 1024, 4096)),
    "cells": ("side", (16, 32, 64, 128)),
    "channels": ("channels", (32, 64, 128, 256, 512, 1024)),
    "batch": ("batch", (1, 2, 4, 8, 16)),
    "window": ("window", (3, 7, 15, 31, 63)),
}
MODES = {"forward": problem.forward, "forward+backward": problem.forward_backward}


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("axis", list(AXES))
def test_cost(axis: str, mode: str, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    """The exponent is fitted to the three largest sizes; for cells and windows, in the number of cells."""
    field, sizes = AXES[axis]
    medians = []
    for size in sizes:
        changes: dict[str, Any] = {field: size}
        shape = replace(BASE, **changes)
        run = MODES[mode](peers.ours(shape, device)["ours"], problem.make(shape, device))
        seconds = timings.interleaved({"ours": run}, rounds, f"{field}={size}", **asdict(shape))["ours"]
        medians.append(statistics.median(seconds) * 1e3)
    measures = [float(size) ** (2 if axis in ("cells", "window") else 1) for size in sizes]
    row: dict[str, Any] = {"axis": axis, "mode": mode, "sizes": list(sizes), "median_ms": medians}
    record("cost", row | {"exponent": exponent(measures[-3:], medians[-3:])})


@pytest.mark.parametrize("mode", list(MODES))
def test_threads(mode: str, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    if device.type != "cpu":
        pytest.skip("threads need a CPU")
    run = MODES[mode](peers.ours(PAPER, device)["ours"], problem.make(PAPER, device))
    before, times = torch.get_num_threads(), {}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            seconds = timings.interleaved({"ours": run}, rounds, f"threads={threads}", **asdict(PAPER))["ours"]
            times[str(threads)] = measure.summary(seconds)
    finally:
        torch.set_num_threads(before)
    record("threads", {**asdict(PAPER), "mode": mode, "threads": times})


@pytest.mark.parametrize("pairs_per_image", [1, 4, 16])
def test_evaluation(pairs_per_image: int, device: torch.device, timings: Timings, record: Record) -> None:
    """Pairs per second of an evaluation; they increase with the pairs per image, as each image is encoded once."""
    dataset = NoiseImages(images=17, pairs_per_image=pairs_per_image)
    torch.manual_seed(0)
    model = SimpleMatch.from_preset("efficientnet-lite0-256", pretrained=False).eval().to(device)
    start = time.perf_counter()
    found = evaluate(model, dataset, [PCKProtocol("image")], keep_predictions=False)
    seconds = time.perf_counter() - start
    timings.add({"ours": [seconds]}, pairs=len(dataset))
    assert found.encoded == found.images == 17
    record("evaluation", {"pairs_per_image": pairs_per_image, "pairs_per_s": len(dataset) / seconds, **found.seconds})


class NoiseImages(PairDataset):
    """Images of noise in a ring, each paired with its successors."""

    def __init__(self, images: int, pairs_per_image: int) -> None:
        draw = np.random.default_rng(0)
        points = draw.uniform(1, 255, (images, 30, 2))
        pairs = [(i, (i + 1 + j) % images) for i in range(images) for j in range(pairs_per_image)]
        infos = [
            PairInfo(f"{a}-{b}", "noise", Path(f"{a}.png"), Path(f"{b}.png"), (256, 256), (256, 256), None, None,
                     points[a], points[b])
            for a, b in pairs
        ]  # fmt: skip
        super().__init__(Path(), "test", PairTable.of(infos, Path()))

    def load_image(self, path: Path, size: tuple[int, int], variant: str = "") -> torch.Tensor:
        generator = torch.Generator().manual_seed(int(path.stem))
        return torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)


def exponent(sizes: list[float], times: list[float]) -> float:
    """Return the slope of log time over log size; 1 is linear."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(x) for x in times]).slope
