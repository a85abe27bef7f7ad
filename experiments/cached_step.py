"""Measures a training step with kept features against one that encodes, alternately in one run.

    python -m experiments.cached_step DATA WEIGHTS RESULT.json [--precision bf16]

DATA is Landmarks-SPair, WEIGHTS the file of DINOv2-S. Both steps draw the same copies of the same images. Time of the
processor, over all threads, is independent of other load.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from simplematch.data import CopiedGroups, collate_groups
from simplematch.models import SimpleMatch
from simplematch.models.identity import digest
from simplematch.training import TrainConfig
from simplematch.training.data import training_data, training_losses
from simplematch.training.feature_cache import CachedCopies, Filling

HEADS: dict[str, dict[str, Any]] = {
    "matching on tokens": {"levels": [0], "windows": [None]},
    "decoder of width 96, maps 18 and 36": {"levels": [0, 1], "windows": [None, None], "width": 96},
    "decoder of width 128, maps 18, 36 and 63": {"levels": [0, 1, 2], "windows": [None, None, 45], "width": 128},
}
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, head in HEADS.items():
            rows.append({"head": name} | measure(options, head, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    about = {"images": 16, "size": 252, "precision": options.precision, "machine": machine(torch.device("cpu"))}
    options.result.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


def measure(options: argparse.Namespace, head: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return the medians of both kinds of step, and their ratio: by the clock, and in time of the processor."""
    config = TrainConfig(
        "dinov2-s14-252", "spair", options.data, folder, model={"encoder_training": "frozen", **head},
        weights=options.weights, cache=folder, cache_copies=2, group_size=8, contrast=10.0, batch_size=2,
        precision=options.precision, affine=0.3, hflip=0.5, workers=0,
    )  # fmt: skip
    network = SimpleMatch.from_preset(config.preset, weights=config.weights, **config.model)
    samples, *_ = training_data(config, network)
    assert isinstance(samples, CopiedGroups)
    samples._places = samples._places[:2]  # the groups of one step
    samples.categories = {name: images[:16] for name, images in samples.categories.items()}
    copies = samples.copies
    kept = {(str(x.path), x.variant) for images in samples.categories.values() for x in images}
    copies.images = {key: image for key, image in copies.images.items() if key in kept}
    cached = CachedCopies(folder, network, copies, config.precision, digest(network.encoder))
    cached.store.prepare(cached.total)
    cached.fill(network, Filling(torch.device("cpu"), lambda: autocast(config)))
    losses = training_losses(config, network).train()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], config.learning_rate)

    def step() -> tuple[float, float]:
        start, used = time.perf_counter(), time.process_time()
        batch = collate_groups([samples[0], samples[1]])
        with autocast(config):
            total = torch.stack(losses(*batch.inputs)).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start, time.process_time() - used

    times: dict[str, list[tuple[float, float]]] = {"encoding": [], "cached": []}
    for repeat in range(REPEATS + 1):
        for kind, found in times.items():
            if kind == "cached":
                cached.use()
            else:
                copies.read = copies.draw
            taken = step()
            if repeat:  # the first warms up
                found.append(taken)
    result: dict[str, float] = {}
    for i, clock in enumerate(("ms", "processor ms")):
        found = {kind: statistics.median(x[i] for x in pairs) for kind, pairs in times.items()}
        result |= {f"{kind}, {clock}": round(1e3 * x, 1) for kind, x in found.items()}
        result[f"ratio, {clock}"] = round(found["encoding"] / found["cached"], 1)
    return result


def autocast(config: TrainConfig) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if config.precision == "bf16" else contextlib.nullcontext()


if __name__ == "__main__":
    main()
