"""A whole training step in float32: its gradients, and the time of recomputation."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from . import measure
from .conftest import Record
from .timings import Timings
from .training_step import Variant, build, random_batch, step_loss, training_step

PRESETS = ("ibot-b16-256", "dinov2-b14-252")
CHANGES: list[dict[str, Any]] = [
    {"matching": "fused"},
    {"checkpointing": True},
    {"matching": "dense"},
    {"matching": "sparse"},
]
GRADIENTS_DIFFER_BY = 1e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_gradients_are_those_of_dense_matching(preset: str, device: torch.device, record: Record) -> None:
    """Gradients of all parameters, with fused matching and all recomputation enabled."""
    dense = Variant(preset, matching="dense", batch=_batch(device))
    fused = replace(dense, matching="fused", checkpointing=True)
    torch.manual_seed(0)
    state = build(dense, device).state_dict()
    expected, found = (gradients(variant, state, device) for variant in (dense, fused))
    difference = float((found - expected).norm() / expected.norm())
    record("gradients", {"preset": preset, "batch": dense.batch, "difference": difference})
    assert difference <= GRADIENTS_DIFFER_BY


def gradients(variant: Variant, state: dict[str, torch.Tensor], device: torch.device) -> torch.Tensor:
    network = build(variant, device)
    network.load_state_dict(state)
    batch = random_batch(network, variant)
    torch.manual_seed(1)  # for dropout
    step_loss(network, variant, batch).backward()
    return torch.cat([p.grad.double().flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("preset", PRESETS)
def test_time(preset: str, device: torch.device, scope: str, rounds: int, timings: Timings, record: Record) -> None:
    """Time of a step; on a CPU with a single pair, and dense matching, which is slow there, only in full scope."""
    chosen = CHANGES[:2] if device.type == "cpu" and scope != "full" else CHANGES
    variants = [replace(Variant(preset, batch=_batch(device)), **changes) for changes in chosen]
    work = {str(variant): training_step(build(variant, device), variant) for variant in variants}
    seconds = timings.interleaved(work, max(2, rounds // 3), warmup=1, settle=False)
    times = {name: measure.summary(x) for name, x in seconds.items()}
    record("step_time", {**asdict(Variant(preset, batch=_batch(device))), "times": times})


def _batch(device: torch.device) -> int:
    return 8 if device.type == "cuda" else 1
