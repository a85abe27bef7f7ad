"""Images a second and memory of inference (the paper's Table 3): the whole model, and its matching step's share.

Rivals in every row: the same network with plain PyTorch in the place of the operators, `sparse` and `dense`. On a CPU
only the small presets run, one pair at a time; `--full` runs them all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from simplematch.models import PRESETS, SimpleMatch
from simplematch_kernels import Matches

from . import measure
from .conftest import Record

SMALL = ("efficientnet-lite0-256", "dinov2-s14-252")
MATCHING = ("fused", "sparse", "dense")
KEYPOINTS = 30


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_inference(
    preset: str, batch: int, precision: str, compiled: bool, device: torch.device, full: bool, record: Record
) -> None:
    if device.type == "cpu" and not full and (preset not in SMALL or batch > 1 or precision != "fp32" or compiled):
        pytest.skip("takes long on a CPU: --full runs it")
    models = networks(preset, device)
    inputs = pairs(models["fused"].image_size, batch, device)
    mixed = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    with torch.inference_mode(), mixed:
        assert_agree({name: model(*inputs) for name, model in models.items()}, precision)
    work = {
        name: inference(torch.compile(model) if compiled else model, inputs, mixed) for name, model in models.items()
    }
    work["encoding"] = inference(encoding(models["fused"], compiled), inputs, mixed)
    times = measure.interleaved(work, device, rounds=5 if device.type == "cpu" else 20)
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    row = {"preset": preset, "batch": batch, "precision": precision, "compiled": compiled}
    row |= {f"{name}_images_per_s": 2 * batch / middle[name] for name in MATCHING}
    row |= {"matching_share": 1 - middle["encoding"] / middle["fused"]}
    row |= {f"{name}_peak_mib": measure.peak_bytes(work[name], device) / 2**20 for name in MATCHING}
    record("throughput", row)


def networks(preset: str, device: torch.device) -> dict[str, SimpleMatch]:
    """One network for each way of matching, of equal weights, which are random: time doesn't depend on them."""
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


def encoding(model: SimpleMatch, compiled: bool) -> Callable[..., object]:
    """The network without its matching step: encoder and decoder on both images."""
    decode = torch.compile(model._decode_pair) if compiled else model._decode_pair
    return lambda source, target, keypoints: decode(source, target)


def assert_agree(found: dict[str, Matches], precision: str) -> None:
    """Before anything is timed: the same matches, but for the few points whose best two cells nearly tie."""
    expected = found["sparse"].keypoints.float()
    for name, matches in found.items():
        distance = (matches.keypoints.float() - expected).norm(dim=-1)
        close = distance < (0.05 if precision == "fp32" else 4.0)
        assert close.float().mean() > (0.98 if precision == "fp32" else 0.8), f"{name} finds other points than sparse"
