"""PCK against a slow loop in float64 for every protocol."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simplematch.data import PairInfo, open_dataset
from simplematch.evaluation import PCK, PCKProtocol, default_protocols, preset
from simplematch.evaluation.predictions import groups_of

from .models import random_pairs

SIZE = 256
PROTOCOLS = [
    PCKProtocol(threshold, space, strict)
    for threshold, space, strict in itertools.product(
        ("bbox", "image", "bbox-kp", "bbox-padded"), ("squash", "pad", "original"), (False, True)
    )
]


def slow_fraction(info: PairInfo, predicted: np.ndarray, protocol: PCKProtocol, alpha: float) -> tuple[int, int]:
    """Count (correct, all) keypoints directly from the definitions."""
    height, width = info.target_size
    if protocol.space == "squash":
        scale_x, scale_y = SIZE / width, SIZE / height
    elif protocol.space == "pad":
        scale_x = scale_y = SIZE / max(width, height)
    else:
        scale_x = scale_y = 1.0
    xs = [float(x) * scale_x for x, _ in info.target_keypoints]
    ys = [float(y) * scale_y for _, y in info.target_keypoints]
    if protocol.threshold == "bbox":
        left, top, right, bottom = info.target_box
        threshold = max((right - left) * scale_x, (bottom - top) * scale_y)
    elif protocol.threshold == "image":
        threshold = max(width * scale_x, height * scale_y)
    else:
        padding = [-1.0] * (40 - len(xs)) if protocol.threshold == "bbox-padded" else []
        threshold = max(max(xs + padding) - min(xs + padding), max(ys + padding) - min(ys + padding))
    correct = 0
    for n in range(len(xs)):
        distance = math.sqrt((predicted[n][0] * scale_x - xs[n]) ** 2 + (predicted[n][1] * scale_y - ys[n]) ** 2)
        limit = alpha * threshold
        correct += distance < limit if protocol.strict else distance <= limit
    return correct, len(xs)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.threshold}-{p.space}-{p.strict}")
def test_against_the_slow_loop(protocol: PCKProtocol) -> None:
    infos, predictions = random_pairs(30)
    metric = PCK(protocol, SIZE, groups_of(infos))
    for i in range(0, 30, 7):
        metric.update(predictions[i : i + 7], infos[i : i + 7])
    result = metric.compute()
    for a, alpha in enumerate(protocol.alphas):
        counts = [slow_fraction(*pair, protocol, alpha) for pair in zip(infos, predictions, strict=True)]
        fractions = [correct / points for correct, points in counts]
        by_category = [sum(fractions[c::3]) / 10 for c in range(3)]
        assert result.overall.per_image[a] == pytest.approx(sum(fractions) / 30, abs=1e-12)
        assert result.overall.per_point[a] == sum(c for c, _ in counts) / sum(n for _, n in counts)
        assert result.category_mean[a] == pytest.approx(sum(by_category) / 3, abs=1e-12)
        for c in range(3):
            scores = result.groups["category"][f"category {c}"]
            assert scores.per_image[a] == pytest.approx(by_category[c], abs=1e-12)
            points = sum(n for _, n in counts[c::3])
            assert scores.per_point[a] == sum(k for k, _ in counts[c::3]) / points and scores.points == points
        viewpoint = result.groups["viewpoint_variation"]["1"]
        assert viewpoint.per_image[a] == pytest.approx(sum(fractions[1::2]) / 15, abs=1e-12) and viewpoint.pairs == 15
    assert 0 < result.overall.per_image[1] < result.overall.per_image[-1] <= 1


def test_tensors_are_in_pixels_of_the_network() -> None:
    infos, predictions = random_pairs(5)
    rows = [
        torch.from_numpy(p * (SIZE / np.array(i.target_size[::-1]))) for p, i in zip(predictions, infos, strict=True)
    ]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    metrics = [PCK(PCKProtocol("bbox"), SIZE) for _ in range(2)]
    metrics[0].update(padded, infos)
    metrics[1].update(predictions, infos)
    assert metrics[0].compute().headline == metrics[1].compute().headline


def test_equality_is_correct_unless_strict() -> None:
    (info,), _ = random_pairs(1)
    info = replace(info, target_box=(0.0, 0.0, 100.0, 50.0))
    predicted = [info.target_keypoints.copy()]
    predicted[0][0] = np.floor(predicted[0][0])
    info.target_keypoints[0] = predicted[0][0] + [10.0, 0.0]
    count = len(info.target_keypoints)
    scores = []
    for strict in (False, True):
        metric = PCK(PCKProtocol("bbox", "original", strict, alphas=(0.1,)), SIZE)
        metric.update(predicted, [info])
        scores.append(metric.compute().headline[0])
    assert scores == [1.0, (count - 1) / count]


def test_headline_follows_the_averaging() -> None:
    infos, predictions = random_pairs(10)
    results = {}
    for averaging in ("per-image", "per-point", "per-category"):
        metric = PCK(PCKProtocol("bbox", averaging=averaging), SIZE, groups_of(infos), window=45)
        metric.update(predictions, infos)
        results[averaging] = metric.compute()
    one = results["per-image"]
    assert one.headline == one.overall.per_image and one.at(0.1) == one.overall.per_image[2]
    assert results["per-point"].headline == one.overall.per_point
    assert results["per-category"].headline == one.category_mean
    assert one.description == (
        "threshold bbox, space squash, distance <= alpha * threshold, per-image, source to target, "
        "image 256 x 256, window 45"
    )
    with pytest.raises(ValueError, match=r"alpha must be one of .*, got 0.07"):
        one.at(0.07)


def test_sums_over_parts_as_over_processes() -> None:
    infos, predictions = random_pairs(20)
    groups = groups_of(infos)
    whole, *parts = (PCK(PCKProtocol("bbox"), SIZE, groups) for _ in range(3))
    whole.update(predictions, infos)
    for k, part in enumerate(parts):
        part.update(predictions[k::2], infos[k::2])
    for name, reduce in parts[0]._reductions.items():  # as torchmetrics reduces the states of ranks
        setattr(parts[0], name, reduce(torch.stack([getattr(part, name) for part in parts])))
    a, b = whole.compute(), parts[0].compute()
    assert a.overall.per_point == b.overall.per_point and a.overall.pairs == b.overall.pairs == 20
    np.testing.assert_allclose(a.headline, b.headline, atol=1e-15)
    whole.reset()
    assert math.isnan(whole.compute().headline[0])


def test_bad_input() -> None:
    infos, predictions = random_pairs(2)
    metric = PCK(PCKProtocol("bbox"), SIZE, {"category": ["category 0"]})
    with pytest.raises(ValueError, match="predicted and infos must have as many pairs, got 1 and 2"):
        metric.update(predictions[:1], infos)
    with pytest.raises(ValueError, match=r"groups must have the group \('category', 'category 1'\) of pair pair 1"):
        metric.update(predictions, infos)
    with pytest.raises(ValueError, match=r"pair 0 must have .* predictions, got 1"):
        metric.update([predictions[0][:1]], infos[:1])
    with pytest.raises(ValueError, match="pair 0, which has no target box, got 'bbox'"):
        metric.update(predictions[:1], [replace(infos[0], target_box=None)])
    with pytest.raises(ValueError, match=r"threshold 'bbox' of pair pair 0 must be above zero, got 0.0"):
        metric.update(predictions[:1], [replace(infos[0], target_box=(1, 1, 1, 1))])
    with pytest.raises(ValueError, match=r"threshold must be one of bbox, image.*, got 'box'"):
        PCKProtocol("box")
    with pytest.raises(ValueError, match="alphas must be ascending"):
        PCKProtocol("bbox", alphas=(0.2, 0.1))
    with pytest.raises(ValueError, match=r"codebase must be one of default, simplematch.*, got 'other'"):
        preset("other", "spair")
    with pytest.raises(ValueError, match=r"dataset must be one of spair.*, got 'other'"):
        preset("dift", "other")


def test_presets() -> None:
    assert preset("SimpleMatch", "spair") == PCKProtocol("bbox", "squash", name="SimpleMatch")
    assert preset("simplematch", "pf-willow").threshold == preset("cats", "pf-willow").threshold == "bbox-padded"
    assert preset("geoaware-sc", "pf-pascal") == PCKProtocol("image", "pad", strict=True, name="GeoAware-SC")
    assert preset("sd-dino", "ap10k") == PCKProtocol("bbox", "pad", True, "per-point", name="sd-dino")
    assert preset("dift", "spair").space == "original" and preset("cats", "spair").reverse
    assert [p.threshold for p in default_protocols("pf-willow")] == ["bbox-kp", "bbox-padded"]


def test_padding_enlarges_the_threshold_of_real_pairs(shared_data: Path) -> None:
    """The well-known bug on PF-WILLOW: padding changes the threshold."""
    dataset = open_dataset("pf-willow", shared_data / "data/PF-WILLOW")
    infos = [dataset.info(i) for i in range(len(dataset))]
    for space, right, padded in (("original", 20.34, 24.43), ("squash", 17.51, 21.64)):
        means = []
        for threshold in ("bbox-kp", "bbox-padded"):
            protocol = PCKProtocol(threshold, space)
            means.append(np.mean([0.1 * protocol.threshold_of(info, 256) for info in infos]))
        np.testing.assert_allclose(means, (right, padded), atol=0.01)
