"""Memory of a whole training step, and of its matching stage (Table 11 of the paper).

There are two readings: `counted`, the live storages of the step on fake tensors, which needs neither data nor a GPU;
and the allocator's peaks on a GPU. Both include weights, gradients, Adam's moments, images and activations.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from simplematch.models import multi_scale_loss
from simplematch.models.config import MATCHING
from simplematch.models.matching import KeypointMatcher

from .conftest import Record
from .live_storage import counted, empty_weights, peak_of
from .training_step import Variant, build, training_step

PRESETS = ("ibot-b16-256", "dinov2-b14-252", "dinov2-b14-448")
SAVING: list[dict[str, Any]] = [
    {"checkpointing": True},
    {"precision": "bf16"},
    {"checkpointing": True, "precision": "bf16"},
]
VARIANTS: list[dict[str, Any]] = [{"matching": matching} for matching in MATCHING] + SAVING
MIB = 2**20


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: str(replace(Variant(), **changes)))
def test_whole_step(preset: str, changes: dict[str, Any], device: torch.device, record: Record) -> None:
    variant = replace(Variant(preset), **changes)
    row = {**asdict(variant), "variant": str(variant), "counted_mib": counted_step(variant) / MIB}
    if device.type == "cuda":
        row |= allocated_step(variant, device)
    record("training_memory", row)
    if "allocated_mib" in row:
        difference = abs(row["allocated_mib"] / row["counted_mib"] - 1)
        assert difference <= 0.1, f"the allocator's reading is {100 * difference:.0f} % from the count"


@pytest.mark.parametrize("side", [64, 63, 112])
@pytest.mark.parametrize("matching", MATCHING)
def test_matching_stage(side: int, matching: str, record: Record) -> None:
    """Memory beyond the stage's inputs (both maps) and results (gradients of the maps and of `proj`)."""
    with counted() as storage:
        matcher = KeypointMatcher(768, 45, 0.02, matching)
        source, target = (torch.empty(8, 768, side, side).requires_grad_() for _ in range(2))
        keypoints = torch.empty(8, 30, 2)
        before = storage.live

        def step() -> None:
            matches = matcher(source, target, keypoints, None, 4 * side)
            (loss,) = multi_scale_loss([matches], keypoints)
            loss.backward()

        peak = peak_of(step, storage)
        results = [source, target, *matcher.parameters()]
        gradients = sum(x.grad.nbytes for x in results if x.grad is not None)
    record("stage_memory", {"side": side, "matching": matching, "counted_mib": (peak - before - gradients) / MIB})


def counted_step(variant: Variant) -> int:
    """Return the peak bytes of the second step, which has Adam's moments."""
    network = build(variant, "meta")
    with counted() as storage:
        step = training_step(empty_weights(network), variant)
        step()
        return peak_of(step, storage)


def allocated_step(variant: Variant, device: torch.device) -> dict[str, float]:
    """Return the CUDA allocator's peaks in the second step."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    step = training_step(build(variant, device), variant)
    step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return {
        "allocated_mib": (torch.cuda.max_memory_allocated(device) - before) / MIB,
        "reserved_mib": torch.cuda.max_memory_reserved(device) / MIB,
    }
