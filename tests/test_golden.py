"""Every backend reproduces, by the presets, what other codebases' own functions answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import presets

from .oracle import relative_error

PRESETS: dict[str, Mapping[str, Any]] = {
    "cats_scores_global": presets.cats(),
    "dift_upsampled_argmax": presets.dift(source_size=(150, 114), upsample=(150, 114)),
    "geoaware_argmax": presets.geoaware("argmax"),
    "geoaware_gaussian": presets.geoaware("gaussian"),
    "geoaware_global": presets.geoaware("global"),
    "geoaware_window15": presets.geoaware("window"),
    "geoaware_window15_weak": presets.geoaware("window"),
    "marco_gaussian": presets.marco(),
    "sd4match_bilinear": presets.sd4match("bilinear"),
    "sd4match_kernelsoftargmax": presets.sd4match("kernelsoftargmax"),
    "sd4match_nn": presets.sd4match("nn"),
    "sd4match_softargmax": presets.sd4match("softargmax"),
    "simplematch_window15": presets.simplematch(window_size=15),
    "simplematch_window30": presets.simplematch(window_size=30),
    "simplematch_window45": presets.simplematch(),
    "simplematch_window9": presets.simplematch(window_size=9),
    "tapir_scores_disc5": presets.tapir(),
}
TOLERANCE_PIXELS = 5e-3
TOLERANCE_GRADIENT = 1e-4


def load(folder: Path, name: str, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Arrays of one vector, and the preset with the sizes of the images."""
    with np.load(folder / "vectors" / f"{name}.npz") as arrays:
        tensors = {key: torch.from_numpy(np.asarray(arrays[key])).to(device) for key in arrays.files}
    described = json.loads((folder / "vectors" / f"{name}.json").read_text())
    options = dict(PRESETS[name])
    for option in options.keys() & described.keys() - {"source_interpolation"}:  # which is told in words
        assert options[option] == described[option], option
    if "image_size" in described:
        options["source_size"] = options["target_size"] = tuple(described["image_size"])
    return tensors, options


@pytest.mark.parametrize("name", PRESETS)
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
