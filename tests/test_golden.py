"""Every backend reproduces what other codebases' own functions answered."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk

from .oracle import relative_error

VECTORS = (
    "cats_scores_global",
    "geoaware_argmax",
    "geoaware_gaussian",
    "geoaware_global",
    "geoaware_window15",
    "geoaware_window15_weak",
    "marco_gaussian",
    "sd4match_bilinear",
    "sd4match_kernelsoftargmax",
    "sd4match_nn",
    "sd4match_softargmax",
    "simplematch_window15",
    "simplematch_window30",
    "simplematch_window45",
    "simplematch_window9",
    "tapir_scores_disc5",
)
OPTIONS = frozenset(inspect.signature(smk.sparse_window_match).parameters)
TOLERANCE_PIXELS = 5e-3
TOLERANCE_GRADIENT = 1e-4


def load(folder: Path, name: str, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Arrays and options of one vector, the options in the words of `sparse_window_match`."""
    with np.load(folder / "vectors" / f"{name}.npz") as arrays:
        tensors = {key: torch.from_numpy(np.asarray(arrays[key])).to(device) for key in arrays.files}
    described = json.loads((folder / "vectors" / f"{name}.json").read_text())
    options = {key: value for key, value in described.items() if key in OPTIONS - {"num_keypoints"}}
    if "image_size" in described:
        options["source_size"] = options["target_size"] = tuple(described["image_size"])
    if name == "sd4match_bilinear":  # its json tells the interpolation in words
        options["source_interpolation"] = "matches"
    if name == "tapir_scores_disc5":  # its json states the disc in words: d * d < 25, answers half a cell further
        options |= {"window_size": 10, "output_offset": described["output_offset_cells"]}
    return tensors, options


@pytest.mark.parametrize("name", VECTORS)
def test_reproduces(name: str, backend: str, shared_data: Path, device: torch.device) -> None:
    arrays, options = load(shared_data, name, device)
    if "scores" in arrays:
        matches = smk.localize(arrays["scores"], **options, backend=backend)
        torch.testing.assert_close(matches.keypoints, arrays["expected"], atol=TOLERANCE_PIXELS, rtol=0)
        return
    source, target = arrays["source"].requires_grad_(), arrays["target"].requires_grad_()
    counts = arrays.get("num_keypoints")
    matches = smk.sparse_window_match(
        source, target, arrays["keypoints"], num_keypoints=counts, **options, backend=backend
    )
    rows = torch.ones_like(matches.score, dtype=torch.bool)
    if counts is not None:
        rows = torch.arange(rows.shape[1], device=device) < counts[:, None]
    torch.testing.assert_close(matches.keypoints[rows], arrays["expected"][rows], atol=TOLERANCE_PIXELS, rtol=0)
    if "gt" not in arrays:
        return
    loss = (matches.keypoints - arrays["gt"])[rows].norm(dim=-1).mean()
    torch.testing.assert_close(loss, arrays["loss"], atol=TOLERANCE_PIXELS, rtol=0)
    loss.backward()
    for leaf, expected in ((source, "grad_source"), (target, "grad_target")):
        assert leaf.grad is not None
        assert relative_error(leaf.grad, arrays[expected]) < TOLERANCE_GRADIENT
