"""Calibration: radii that hold their share of the truths, and the probability of "no match"."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from simplematch._files import DataError
from simplematch._json import read_json, write_json
from simplematch.evaluation.calibration import (
    Calibration,
    Samples,
    area_under_curve,
    conformal_quantile,
    fit_calibration,
    fit_covariance,
    fit_logistic,
)
from simplematch.evaluation.calibration.conformal import held_out_scores, least_scores
from simplematch.evaluation.calibration.fit import pair_means
from simplematch.evaluation.calibration.measure import measure_coverage, measure_no_match, measure_pairs

from .synthetic import FLOOR, SCALE, SIDE, synthetic

IDENTITY = {"name": "synthetic", "class": "None", "weights": "0", "settings": {}}


@cache
def fitted(points: int = 4000, seed: int = 0, levels: tuple[float, ...] = (0.5, 0.9)) -> Calibration:
    matched = synthetic(points, seed)
    lost = [synthetic(points, seed + 100 + i, share) for i, share in enumerate((1.0, 0.4))]
    return fit_calibration(
        matched, lost, synthetic(1000, seed + 200), side=SIDE, levels=levels, model=IDENTITY, data={}
    )


def test_quantile_is_the_one_of_split_conformal_prediction() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 20))
    assert conformal_quantile(scores, 0.9) == 18  # ceil(20 * 0.9)
    assert conformal_quantile(scores, 0.91) == 19
    assert conformal_quantile(scores[scores < 10], 0.9) == 9
    assert [least_scores(level) for level in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]
    with pytest.raises(ValueError, match=r"level 0\.9 needs at least 9 scores, got 8"):
        conformal_quantile(scores[:8], 0.9)
    with pytest.raises(ValueError, match=r"level must be between 0 and 1, got 1"):
        conformal_quantile(scores, 1.0)


def test_quantile_covers_its_share_of_new_scores() -> None:
    """Also of few scores: the chance of a new one to lie within is ceil((n + 1) level) / (n + 1), of any law."""
    draw = np.random.default_rng(1)
    for count, level in ((12, 0.9), (19, 0.8), (60, 0.5)):
        trials = draw.standard_cauchy((6000, count + 1)) ** 2
        inside = np.array([row[-1] <= conformal_quantile(row[:-1], level) for row in trials])
        expected = math.ceil((count + 1) * level - 1e-9) / (count + 1)
        assert level <= expected
        assert abs(inside.mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / len(trials))


def test_scale_and_floor_are_recovered() -> None:
    samples = synthetic(20000, 2)
    scale, floor = fit_covariance(samples.errors, samples.evidence.spread)
    assert scale == pytest.approx(SCALE, rel=0.05) and floor == pytest.approx(FLOOR, rel=0.05)
    spread = samples.evidence.spread
    pure = np.einsum("nij,nj->ni", np.linalg.cholesky(3 * spread), np.random.default_rng(3).normal(size=(20000, 2)))
    scale, floor = fit_covariance(pure, spread)
    assert scale == pytest.approx(3, rel=0.05) and floor < 1
    constant = np.random.default_rng(4).normal(size=(20000, 2)) * 7
    scale, floor = fit_covariance(constant, spread)
    assert scale < 0.02 and floor == pytest.approx(7, rel=0.05)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_radii_hold_their_share_of_new_truths(level: float) -> None:
    """Within four standard errors of both numbers of points; and so they do by the radius in pixels."""
    found, new = fitted(), synthetic(6000, 50)
    coverage = measure_coverage(found, new)["all"][f"{level:g}"]["coverage"]
    bound = 4 * math.sqrt(level * (1 - level) * (1 / 4000 + 1 / 6000))
    assert abs(coverage - level) < bound
    distance = np.linalg.norm(new.errors / new.scale, axis=1)
    assert (distance <= found.radius(new.evidence, new.scale, level)).mean() == coverage
    expected = (SCALE * new.evidence.spread + FLOOR**2 * np.eye(2)) / (new.scale[:, :, None] * new.scale[:, None])
    assert found.covariance(new.evidence, new.scale) == pytest.approx(expected, rel=0.15)


def test_each_score_is_predicted_without_its_photographs() -> None:
    """Outliers in the pairs of one photograph don't change how these pairs are predicted."""
    samples = synthetic(2000, 5)
    names, numbers = np.unique(samples.photographs, return_inverse=True)
    numbers = numbers.reshape(samples.photographs.shape)
    touched = (numbers == 3).any(1)
    held = numbers[:, 1] == 3
    plain = held_out_scores(samples.errors, samples.evidence.spread, samples.scale, numbers)
    wild = np.where(touched[:, None], 50 * samples.errors, samples.errors)
    moved = held_out_scores(wild, samples.evidence.spread, samples.scale, numbers)
    assert held.any() and len(names) == 40
    assert moved[held] == pytest.approx(50 * plain[held], rel=1e-9)
    assert (moved[~touched] < 0.9 * plain[~touched]).any()  # others are predicted with the outliers


def test_no_match_is_told_apart() -> None:
    """AUROC of a signal of two standard deviations, Phi(2 / sqrt(2)) = 0.921, and the probability is calibrated."""
    found = fitted()
    matched, lost = synthetic(5000, 60), synthetic(5000, 61, 1.0)
    told = measure_no_match(found, matched, lost, SIDE)["all"]
    assert told["auroc"] == pytest.approx(0.921, abs=0.01)
    assert told["flagged_without_match"] == pytest.approx(0.841, abs=0.03)  # Phi(1)
    assert told["flagged_with_match"] == pytest.approx(0.159, abs=0.03)
    mixed = synthetic(20000, 62, 0.5)
    probability = found.no_match_probability(mixed.evidence, SIDE)
    for low in np.arange(0, 1, 0.2):
        rows = (probability >= low) & (probability < low + 0.2)
        assert mixed.unmatched[rows].mean() == pytest.approx(probability[rows].mean(), abs=0.05)


def test_pairs_are_told_apart() -> None:
    found = fitted()
    same, different = synthetic(2000, 70), synthetic(2000, 71, 1.0)
    told = measure_pairs(found, same, different, SIDE)
    assert told["auroc"] > 0.99 and 0.01 < told["same_told_different"] < 0.1 and told["different_told_different"] > 0.9
    probability = found.no_match_probability(same.evidence, SIDE)
    assert pair_means(found, same, SIDE)[3] == pytest.approx(probability[30:40].mean())
    assert not found.shows_different(probability)
    assert found.shows_different(found.no_match_probability(different.evidence, SIDE))


def test_logistic_regression_finds_the_law() -> None:
    """Of two and of three normal kinds, the logarithms of whose odds are linear."""
    draw = np.random.default_rng(6)
    centres = np.array([[0.0, 5.0], [1.5, 5.0], [0.0, 45.0]])
    kinds = [centre + draw.normal(size=(30000, 2)) * (1, 10) for centre in centres]
    found = fit_logistic(kinds[:2], [False, True])
    points = np.array([[-1.0, 0.0], [0.75, 5.0], [3.0, 20.0]])
    expected = 1 / (1 + np.exp(-1.5 * (points[:, 0] - 0.75)))
    assert found.probability(points) == pytest.approx(expected, abs=0.02)
    density = np.exp(-(((points[:, None] - centres) / (1, 10)) ** 2).sum(-1) / 2) * (0.25, 0.5, 0.25)
    found = fit_logistic(kinds, [False, True, False])
    assert found.probability(points) == pytest.approx(density[:, 1] / density.sum(1), abs=0.02)
    repeated = fit_logistic([np.repeat(kinds[0][:500], 3, 0), kinds[1][:400]], [False, True])
    plain = fit_logistic([kinds[0][:500], kinds[1][:400]], [False, True])
    assert repeated.probability(points) == pytest.approx(plain.probability(points), abs=1e-4)
    apart = fit_logistic([np.arange(5.0)[:, None], np.arange(5.0, 10)[:, None]], [False, True])
    assert np.isfinite(apart.weights).all() and (apart.probability(np.array([[0.0], [9.0]])) > 0.5).tolist() == [0, 1]


def test_area_counts_ordered_couples() -> None:
    draw = np.random.default_rng(7)
    scores, labels = draw.integers(0, 6, 60).astype(float), draw.uniform(size=60) < 0.4
    couples = [(a > b) + 0.5 * (a == b) for a, b in product(scores[labels], scores[~labels])]
    assert area_under_curve(scores, labels) == pytest.approx(np.mean(couples))


def test_too_little_data_is_refused() -> None:
    """With the number that is needed, which the level decides."""
    lost, other = synthetic(300, 1, 1.0), synthetic(100, 2)

    def fit(matched: Samples, unmatched: Samples = lost, levels: tuple[float, ...] = (0.9,)) -> Calibration:
        options = {"side": SIDE, "levels": levels, "model": IDENTITY, "data": {}}
        return fit_calibration(matched, [unmatched], other, **options)  # type: ignore[arg-type]

    with pytest.raises(DataError, match=r"at level 0\.9 needs at least 100 keypoints with a match, got 90 of 9 pairs"):
        fit(synthetic(90, 0))
    with pytest.raises(DataError, match=r"at level 0\.99 needs at least 1000 keypoints with a match, got 900"):
        fit(synthetic(900, 0), levels=(0.5, 0.99))
    with pytest.raises(DataError, match=r"needs at least 10 photographs, got 6: use more pairs"):
        fit(synthetic(900, 0, photographs=6))
    with pytest.raises(DataError, match=r"needs at least 100 points without a match, got 40"):
        fit(synthetic(900, 0), synthetic(40, 1, 1.0))
    broken = synthetic(900, 0)
    broken.evidence.similarity[4] = np.nan
    with pytest.raises(DataError, match=r"similarities must be finite"):
        fit(broken)
    with pytest.raises(ValueError, match=r"levels must be between 0 and 1, got 0\.9, 1"):
        fit(synthetic(900, 0), levels=(0.9, 1.0))
    assert fit(synthetic(100, 0)).radii[0.9] > 0


def test_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = fitted(1000)
    found.save(tmp_path / "c.json")
    again = Calibration.load(tmp_path / "c.json")
    assert again.to_dict() == found.to_dict()
    new = synthetic(50, 9)
    assert (again.radius(new.evidence, new.scale) == found.radius(new.evidence, new.scale)).all()
    assert (again.no_match_probability(new.evidence, SIDE) == found.no_match_probability(new.evidence, SIDE)).all()
    with pytest.raises(ValueError, match=r"level must be one of the calibration's, 0\.5, 0\.9, got 0\.99"):
        again.radius(new.evidence, new.scale, 0.99)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    fitted(1000).save(path)
    content = read_json(path)
    with pytest.raises(DataError, match=r"none\.json is missing"):
        Calibration.load(tmp_path / "none.json")
    changes: list[dict[str, object]] = [
        {"no_match": content["no_match"] | {"features": ["colour"]}},
        {"no_match": content["no_match"] | {"weights": [1.0]}},
        {"covariance": {"scale": "much", "floor": 1}},
        {"radii": [{"level": 0.9}]},
        {"model": None},
    ]
    for change in changes:
        write_json(path, content | change)
        with pytest.raises(DataError, match=r"c\.json must be a calibration of simplematch calibrate, but is damaged"):
            Calibration.load(path)
    write_json(path, content | {"format": "other"})
    with pytest.raises(DataError, match=r"c\.json must be a calibration of simplematch calibrate \(simplematch-calibr"):
        Calibration.load(path)


def test_coverage_by_category_and_its_error() -> None:
    """Points of one photograph lie within or without together, so the error is that of as many photographs."""
    found = fitted()
    samples = synthetic(3000, 80)
    half = np.arange(3000) < 1500
    errors = np.where(half[:, None], np.zeros((3000, 2)), 1e6)
    category = np.where(half, "near", "far")
    files = np.tile(np.where(half, "one", "two")[:, None], (1, 2))
    told = measure_coverage(found, replace(samples, errors=errors, category=category, photographs=files))
    assert [told[name]["0.9"]["coverage"] for name in ("near", "far", "all")] == [1, 0, 0.5]
    assert told["all"]["0.9"]["standard_error"] == pytest.approx(0.35, abs=0.05)  # of two: 0.5 / sqrt(2)
