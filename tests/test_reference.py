"""The reference is what the formulas say: a literal loop over queries and cells agrees with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from .oracle import relative_error, run_reference
from .samples import SAMPLES, Inputs, Sample

SMALL = [s for s in SAMPLES if s.batch * s.queries * s.target_map[0] * s.target_map[1] <= 2000]


@pytest.mark.parametrize("sample", SMALL, ids=str)
def test_agrees_with_the_literal_loop(sample: Sample) -> None:
    inputs = sample.make(torch.float64)
    matches = run_reference(inputs, torch.float64).matches
    for b in range(sample.batch):
        for n in range(sample.queries):
            expected = match_one(inputs, b, n)
            found = (*matches.keypoints[b, n].tolist(), matches.score[b, n].item(), matches.log_sum_exp[b, n].item())
            assert matches.peak[b, n] == expected[0]
            assert found == pytest.approx(expected[1:], rel=1e-9, abs=1e-9)


def match_one(inputs: Inputs, b: int, n: int) -> tuple[int, float, float, float, float]:
    """(peak, x, y, score, log_sum_exp) of one query, straight from the specification."""
    o: dict[str, Any] = inputs.options
    height, width = inputs.target.shape[2:]
    if not is_valid(o, b, n):
        return -1, -1.0, -1.0, 0.0, 0.0
    q = descriptor(inputs, b, n)
    mask = mask_of(o, b, n)
    cells = [(y, x) for y in range(height) for x in range(width) if mask is None or mask[y, x]]
    score = {(y, x): similarity(q, inputs.target[b, :, y, x], o) for y, x in cells}
    peak = max(cells, key=lambda cell: (score[cell], -cell[0], -cell[1]))
    temperature = o.get("temperature", 0.02)
    if isinstance(temperature, Tensor):
        temperature = float(temperature if temperature.dim() == 0 else temperature[b, n])

    logits = {}
    for cell in cells:
        if in_support(cell, peak, (height, width), o):
            weight = 1.0
            if o.get("localization") == "gaussian":
                weight = math.exp(-((cell[0] - peak[0]) ** 2 + (cell[1] - peak[1]) ** 2) / (2 * o["sigma"] ** 2))
            logits[cell] = score[cell] * weight / temperature
        elif o.get("localization", "window") == "window" and o.get("outside_value", -math.inf) != -math.inf:
            logits[cell] = o["outside_value"] / temperature
    total = sum(math.exp(v) for v in logits.values())
    x = sum(math.exp(v) * cell[1] for cell, v in logits.items()) / total
    y = sum(math.exp(v) * cell[0] for cell, v in logits.items()) / total
    size, coords = image_size(o, "target_size", b), o.get("target_coords", "corner")
    offset = o.get("output_offset", 0.0)
    x = x if size is None else to_pixel(x, coords, width, size[1])
    y = y if size is None else to_pixel(y, coords, height, size[0])
    return peak[0] * width + peak[1], x + offset, y + offset, score[peak], math.log(total)


def image_size(o: dict[str, Any], name: str, b: int) -> tuple[int, int] | None:
    size = o.get(name)
    return tuple(size[b].tolist()) if isinstance(size, Tensor) else size


def is_valid(o: dict[str, Any], b: int, n: int) -> bool:
    if "num_keypoints" in o and n >= o["num_keypoints"][b]:
        return False
    if "valid" in o and not o["valid"][b, n]:
        return False
    mask = mask_of(o, b, n)
    return mask is None or bool(mask.any())


def mask_of(o: dict[str, Any], b: int, n: int) -> Tensor | None:
    mask = o.get("target_mask")
    if mask is None:
        return None
    return mask[b, n] if mask.dim() == 4 else mask[b]


def in_support(cell: tuple[int, int], peak: tuple[int, int], size: tuple[int, int], o: dict[str, Any]) -> bool:
    localization = o.get("localization", "window")
    if localization == "argmax":
        return cell == peak
    if localization in ("global", "gaussian"):
        return True
    k = o.get("window_size", 45)
    k = k if isinstance(k, tuple) else (k, k)
    dy, dx = cell[0] - peak[0], cell[1] - peak[1]
    if o.get("window_shape") == "disc":
        distance = (2 * dy / k[0]) ** 2 + (2 * dx / k[1]) ** 2
        return distance < 1 - 1e-12 if o.get("disc_edge", "open") == "open" else distance < 1 + 1e-12
    if o.get("window_shape") == "plus":
        below, right = (-(side // 2) <= d < side - side // 2 for d, side in zip((dy, dx), k, strict=True))
        return below and right and 0 in (dy, dx)
    for at, best, side, window in zip(cell, peak, size, k, strict=True):
        first = best - window // 2
        if o.get("border", "shift") == "shift":
            first = min(max(first, 0), max(side - window, 0))
        if not first <= at < first + window:
            return False
    return True


def similarity(q: Tensor, f: Tensor, o: dict[str, Any]) -> float:
    metric, eps = o.get("metric", "cosine"), o.get("eps", 1e-8)
    if metric == "dot":
        return float(q @ f)
    if metric == "l2":
        return -float(((q - f) ** 2).sum())
    if metric == "l1":
        return -float((q - f).abs().sum())
    if o.get("eps_mode", "add") == "add":
        return float(q @ f / ((q.norm() + eps) * (f.norm() + eps)))
    return float(q @ f / (max(float(q.norm()), eps) * max(float(f.norm()), eps)))


def descriptor(inputs: Inputs, b: int, n: int) -> Tensor:
    o, features = inputs.options, inputs.source[b]
    height, width = features.shape[1:]
    x, y = inputs.keypoints[b, n].tolist()
    size, coords = image_size(o, "source_size", b), o.get("source_coords", "corner")
    if size is not None:
        x, y = to_cell(x, coords, width, size[1]), to_cell(y, coords, height, size[0])
    sampling = o.get("sampling", "floor")
    if sampling != "bilinear":
        nearest = math.trunc if sampling == "floor" else round
        return features[:, min(max(nearest(y), 0), height - 1), min(max(nearest(x), 0), width - 1)]
    if o.get("sampling_padding", "zeros") == "border":
        x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    total = torch.zeros_like(features[:, 0, 0])
    for i in range(width):
        for j in range(height):
            total = total + max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j)) * features[:, j, i]
    return total


def to_cell(pixel: float, coords: str, cells: int, pixels: int) -> float:
    if coords == "corner":
        return pixel * cells / pixels
    if coords == "half_pixel":
        return (pixel + 0.5) * cells / pixels - 0.5
    return pixel * (cells - 1) / (pixels - 1)


def to_pixel(cell: float, coords: str, cells: int, pixels: int) -> float:
    if coords == "align_corners" and cells == 1:
        return 0.0
    return to_cell(cell, coords, pixels, cells)


def test_the_oracle_notices_a_wrong_result() -> None:
    """The comparison that all backends pass can fail."""
    inputs = SAMPLES[0].make(torch.float64)
    matches = run_reference(inputs, torch.float64).matches
    assert relative_error(matches.keypoints + 1e-6, matches.keypoints) > 1e-8
    assert math.isnan(relative_error(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 1.0])))
