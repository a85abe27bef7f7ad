"""Images per second and memory of inference (Table 3 of the paper): the whole model, and its matching stage.

The rivals are the same network with plain PyTorch instead of the operators, `sparse` and `dense`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import product

import torch

from simplematch.models import PRESETS, SimpleMatch
from simplematch.sizes import height_width
from simplematch_kernels import Matches

from . import measure
from .conftest import Record
from .timings import Timings

SMALL = ("efficientnet-lite0-256", "dinov2-s14-252")
MATCHING = ("fused", "sparse", "dense")
KEYPOINTS = 30


@dataclass(frozen=True)
class Case:
    """How to run a model."""

    preset: str
    batch: int = 1
    precision: str = "fp32"
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.preset}-{self.batch}-{self.precision}-{'compiled' if self.compiled else 'eager'}"


def cases(kind: str, scope: str) -> list[Case]:
    """Full: everything. Usual: on a GPU few compiled models, on a CPU two small models with one pair each."""
    if scope == "full":
        return [Case(*fields) for fields in product(PRESETS, (1, 8), ("fp32", "bf16"), (False, True))]
    if kind == "cpu" or scope == "quick":
        return [Case(preset) for preset in SMALL]
    eager = [Case(*fields) for fields in product(PRESETS, (1, 8), ("fp32", "bf16"))]
    return [
        *eager,
        *(Case(preset, 8, "bf16", compiled=True) for preset in ("dinov2-b14-252", "efficientnet-lite0-256")),
    ]


def test_inference(case: Case, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    models = networks(case.preset, device)
    side, _ = height_width(models["fused"].image_size)
    inputs = pairs(side, case.batch, device)
    mixed = torch.autocast(device.type, torch.bfloat16) if case.precision == "bf16" else nullcontext()
    with torch.inference_mode(), mixed:
        assert_agree({name: model(*inputs) for name, model in models.items()}, case.precision)
    runs = {name: torch.compile(model) if case.compiled else model for name, model in models.items()}
    work = {name: inference(run, inputs, mixed) for name, run in runs.items()}
    work |= {f"matching, {name}": matching_stage(model, inputs, mixed) for name, model in models.items()}
    seconds = timings.interleaved(work, 2 * rounds, settle=False, **asdict(case))
    times = {name: measure.summary(x) for name, x in seconds.items()}
    middle = {name: summary["median_ms"] for name, summary in times.items()}
    shared = middle["fused"] - middle["matching, fused"]
    row = asdict(case) | {"times": times}
    row["images_per_s"] = {name: 2 * case.batch / middle[name] * 1e3 for name in MATCHING}
    row["faster_than"] = {name: gain(case, seconds, shared, name) for name in MATCHING[1:]}
    row["most_to_gain"] = {name: (shared + middle[f"matching, {name}"]) / shared for name in MATCHING[1:]}
    row["matching_share"] = {name: middle[f"matching, {name}"] / middle[name] for name in MATCHING}
    row["peak_bytes"] = {name: measure.peak_bytes(work[name], device) for name in MATCHING}
    record("throughput", row)


def gain(case: Case, seconds: dict[str, list[float]], shared_ms: float, rival: str) -> float:
    """Return the speedup of fused over a rival.

    Encoder and decoder run the same code in both, and their time varies by more than the time of matching. So for eager
    models, one time of encoder and decoder is added to both matching stages. Compiled models are compared as a whole.
    """
    if case.compiled:
        return measure.ratio(seconds["fused"], seconds[rival])
    ours, other = (1e3 * statistics.median(seconds[f"matching, {name}"]) for name in ("fused", rival))
    return (shared_ms + other) / (shared_ms + ours)


def networks(preset: str, device: torch.device) -> dict[str, SimpleMatch]:
    """Return one network for each way of matching, with equal random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        models = {name: SimpleMatch.from_preset(preset, pretrained=False, matching=name).eval() for name in MATCHING}
    for model in models.values():
        model.load_state_dict(models["fused"].state_dict())
    return models


def pairs(side: int, batch: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, batch, 3, side, side, generator=generator).to(device)
    return images[0], images[1], (side * torch.rand(batch, KEYPOINTS, 2, generator=generator)).to(device)


def inference(
    run: Callable[..., object], inputs: tuple[torch.Tensor, ...], mixed: AbstractContextManager[None]
) -> measure.Work:
    def work() -> object:
        with torch.inference_mode(), mixed:
            return run(*inputs)

    return work


def matching_stage(
    model: SimpleMatch, inputs: tuple[torch.Tensor, ...], mixed: AbstractContextManager[None]
) -> measure.Work:
    """Return a call of the matching stage, eager."""
    source, target, keypoints = inputs
    with torch.inference_mode(), mixed:
        maps = model._decode_pair(source, target)
    finest = len(model.matchers) - 1
    return inference(lambda *images: model._match_maps(*maps, keypoints, None, finest), inputs, mixed)


def assert_agree(found: dict[str, Matches], precision: str) -> None:
    """Check that matches agree, except for a few points whose two best cells nearly tie."""
    expected = found["sparse"].keypoints.float()
    for name, matches in found.items():
        distance = (matches.keypoints.float() - expected).norm(dim=-1)
        close = distance < (0.05 if precision == "fp32" else 4.0)
        assert close.float().mean() > (0.98 if precision == "fp32" else 0.8), f"{name} must agree with sparse"
