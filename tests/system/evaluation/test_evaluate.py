"""Whole evaluations: encoding once, several protocols, dumps, tables, broken images, processes."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from simplematch.data import DataError, ImageError, PairTransform, TransformedPairs, collate, open_dataset
from simplematch.evaluation import (
    PCK,
    PCKProtocol,
    Predictions,
    evaluate,
    format_result,
    pck_curve,
    preset,
    score_predictions,
    to_csv,
    to_json,
)
from simplematch.evaluation.features import FeatureCache

from ..data.trees import make_pf_willow, make_spair, write_image
from .models import ColourMatcher

NAMES = [f"n{i}" for i in range(6)]
PAIRS = [(a, b) for a in NAMES for b in NAMES if a != b]
PROTOCOLS = [PCKProtocol("bbox"), PCKProtocol("bbox-padded", "original", True, "per-point"), preset("cats", "spair")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_spair(tmp_path, PAIRS)
    return tmp_path


def test_each_image_is_encoded_once(root: Path) -> None:
    model = ColourMatcher().train()
    steps: list[tuple[int, int]] = []
    dataset = open_dataset("spair", root)
    found = evaluate(model, dataset, PROTOCOLS, batch_size=4, progress=lambda *s: steps.append(s))
    assert found.images == found.encoded == model.encoded == 6 and model.largest_batch <= 8 and model.training
    assert steps[-1] == (30, 30) and len(steps) == 8
    assert [r.overall.pairs for r in found.results] == [30, 30, 30] and len(found.predictions.items) == 60
    assert min(found.seconds.values()) > 0 and found.skipped == []


def test_a_small_cache_encodes_again_and_changes_nothing(root: Path) -> None:
    dataset = open_dataset("spair", root)
    large, small = (evaluate(ColourMatcher(), dataset, PROTOCOLS, batch_size=4, cache_bytes=b) for b in (1 << 30, 0))
    assert small.encoded > small.images == 6
    assert to_json(small.results) == to_json(large.results)


def test_agrees_with_matching_pair_by_pair(root: Path) -> None:
    """Evaluate directly: encode and match a batch as in training, and apply the metric."""
    dataset, model = open_dataset("spair", root), ColourMatcher().eval()
    found = evaluate(model, dataset, PROTOCOLS[:1], batch_size=7)
    pairs = TransformedPairs(dataset, PairTransform(64, model.mean, model.std))
    metric = PCK(PROTOCOLS[0], 64, {"category": dataset.categories})
    for i in range(len(dataset)):
        batch = collate([pairs[i]])
        with torch.no_grad():
            source, target = model.encode(batch.source_images), model.encode(batch.target_images)
        matches = model.match_features(source, target, batch.source_keypoints, batch.num_keypoints)
        metric.update(matches.keypoints, batch.infos)
    assert metric.compute().overall == found.results[0].overall


def test_reverse_matches_from_the_target(root: Path) -> None:
    """On all ordered pairs of the same images, both directions have the same pairs."""
    found = evaluate(ColourMatcher(), open_dataset("spair", root), [preset("cats", "spair")])
    item = found.predictions.items[0]
    assert item.reverse and all(item.reverse for item in found.predictions.items)
    assert item.info.pair_id.split("-")[1] == item.info.target_path.stem  # the source is where points are predicted
    assert found.results[0].description.startswith("CATs: threshold bbox, space squash")


def test_warped_images_are_found(tmp_path: Path) -> None:
    """A colour matcher finds points of warped images, far above chance."""
    draw = np.random.default_rng(0)
    for i in range(3):
        write_image(tmp_path / f"{i}.png", int(draw.integers(1000)), 128, 96)
    found = evaluate(ColourMatcher(128), open_dataset("images", tmp_path))
    assert found.results[0].at(0.1) > 0.25 and found.images == found.encoded == 12
    chance = 0.1**2 * math.pi
    assert found.results[0].at(0.1) > 5 * chance


def test_dump_gives_every_averaging_again(root: Path, tmp_path: Path) -> None:
    found = evaluate(ColourMatcher(), open_dataset("spair", root), PROTOCOLS)
    path = tmp_path / "predictions.jsonl"
    found.predictions.save(path)
    for result in found.results:
        assert to_json([score_predictions(path, result.protocol)]) == to_json([result])
    per_image, per_point = (
        score_predictions(path, replace(PROTOCOLS[0], averaging=a)) for a in ("per-image", "per-point")
    )
    assert per_point.headline == per_image.overall.per_point
    again = Predictions.load(path)
    item, other = again.items[3], found.predictions.items[3]
    assert item.info.source_key == other.info.source_key and item.info.variations == other.info.variations
    np.testing.assert_array_equal(item.predicted, other.predicted)
    np.testing.assert_array_equal(item.score, other.score)


def test_bad_dumps(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(DataError, match=r"predictions.jsonl is missing"):
        score_predictions(path, PROTOCOLS[0])
    path.write_text("{}\n")
    with pytest.raises(DataError, match="must begin with the header"):
        score_predictions(path, PROTOCOLS[0])
    evaluate(ColourMatcher(), open_dataset("spair", root), PROTOCOLS[:1]).predictions.save(path)
    with pytest.raises(ValueError, match="predictions must have pairs from target to source"):
        score_predictions(path, PROTOCOLS[2])
    path.write_text(path.read_text().replace('"predicted"', '"other"'))
    with pytest.raises(DataError, match="has no field 'predicted'"):
        score_predictions(path, PROTOCOLS[0])


def test_curve_rises_through_the_results(root: Path) -> None:
    found = evaluate(ColourMatcher(), open_dataset("spair", root), PROTOCOLS[:1])
    alphas = [i / 100 for i in range(31)]
    curve = pck_curve(found.predictions, PROTOCOLS[0], alphas)
    assert [alpha for alpha, _ in curve] == alphas and [v for _, v in curve] == sorted(v for _, v in curve)
    assert dict(curve)[0.1] == found.results[0].at(0.1) and dict(curve)[0.3] > dict(curve)[0.01]


def test_tables(root: Path) -> None:
    results = evaluate(ColourMatcher(), open_dataset("spair", root), PROTOCOLS).results
    text = format_result(results[0])
    assert text.splitlines()[0] == results[0].description and "window argmax" in text
    line = next(line for line in text.splitlines() if line.startswith("cat face"))
    assert line.split()[2:4] == ["30", str(results[0].overall.points)]
    assert line.split()[-1] == f"{100 * results[0].at(0.3):.1f}" and "viewpoint_variation=1" in text
    content = json.loads(json.dumps(to_json(results), allow_nan=False))
    assert content[1]["protocol"]["strict"] is True and content[0]["headline"] == results[0].headline
    assert content[0]["groups"]["category"]["cat face"]["pairs"] == 30
    rows = list(csv.DictReader(io.StringIO(to_csv(results))))
    row = next(r for r in rows if r["averaging"] == "per-point" and r["alpha"] == "0.1" and r["value"] == "cat face")
    assert float(row["pck"]) == results[0].overall.per_point[2] and row["protocol"] == results[0].description
    assert {r["averaging"] for r in rows} == {"per-image", "per-point", "per-category"}


def test_broken_images(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "JPEGImages/cat face/n2.jpg").write_bytes(b"no image")
    dataset, model = open_dataset("spair", root), ColourMatcher()
    with pytest.raises(ImageError, match=r"n2.jpg can't be decoded"):
        evaluate(model, dataset)
    model = ColourMatcher()
    with caplog.at_level(logging.WARNING):
        found = evaluate(model, dataset, skip_broken=True, batch_size=4)
    assert found.results[0].overall.pairs == 20 and len(found.skipped) == 10 and model.encoded == 5
    assert "skipped 10 of 30 pairs" in caplog.text and "n2.jpg" in found.skipped[0]


def test_thresholds_are_checked_before_anything_is_encoded(tmp_path: Path) -> None:
    make_pf_willow(tmp_path, with_csv=True)
    model = ColourMatcher()
    with pytest.raises(ValueError, match="which has no target box, got 'bbox'"):
        evaluate(model, open_dataset("pf-willow", tmp_path), [PCKProtocol("bbox")])
    assert model.encoded == 0
    found = evaluate(model, open_dataset("pf-willow", tmp_path), keep_predictions=False)
    assert [r.protocol.threshold for r in found.results] == ["bbox-kp", "bbox-padded"] and found.predictions is None


def test_cache_drops_what_is_used_last() -> None:
    """With room for two of a, b and c, the one with the latest next use is dropped."""
    uses = [["a", "b"], ["c"], ["b"], ["c"], ["a"]]
    asked: list[list[str]] = []

    def encode(keys: list[str]) -> torch.Tensor:
        asked.append(list(keys))
        return torch.zeros(len(keys), 1)

    cache = FeatureCache(encode, uses, max_bytes=8)
    for step, keys in enumerate(uses):
        assert set(cache.get(step, keys)) == set(keys)
    assert asked == [["a", "b"], ["c"], ["a"]] and cache.encoded == 4
    assert not cache.has("a")


def test_two_processes_give_the_results_of_one(root: Path, tmp_path: Path) -> None:
    alone = evaluate(ColourMatcher(), open_dataset("spair", root), PROTOCOLS, batch_size=4)
    out = tmp_path / "out.json"
    multiprocessing.spawn(_evaluate_process, (str(root), str(tmp_path / "store"), str(out)), nprocs=2)
    both = json.loads(out.read_text())
    for a, b in zip(to_json(alone.results), both["results"], strict=True):
        np.testing.assert_allclose(a["headline"], b["headline"], atol=1e-14)
        assert a["overall"]["per_point"] == b["overall"]["per_point"] and b["overall"]["pairs"] == 30
    assert both["predictions"] == len(alone.predictions.items)


def _evaluate_process(rank: int, root: str, store: str, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = evaluate(ColourMatcher(), open_dataset("spair", root), PROTOCOLS, batch_size=4, threads=1)
    if rank == 0:
        content = {"results": to_json(found.results), "predictions": len(found.predictions.items)}
        Path(out).write_text(json.dumps(content))
    distributed.destroy_process_group()


def test_real_willow_encodes_a_hundred_images(shared_data: Path) -> None:
    model = ColourMatcher(64)
    found = evaluate(model, open_dataset("pf-willow", shared_data / "data/PF-WILLOW"), batch_size=64)
    assert found.images == found.encoded == model.encoded == 100
    right, legacy = found.results
    assert right.overall.points == 9000 and all(a <= b for a, b in zip(right.headline, legacy.headline, strict=True))
    assert legacy.at(0.1) > right.at(0.1) > 0
