"""Calibrates the untrained matchers on photographs, and measures the calibrations on others.

python experiments/calibration.py DATA DINOV2_S [MODEL]

DATA holds Landmarks-SPair and PF-WILLOW, DINOV2_S is the weights file of DINOv2-S. Writes NAME.json (the calibration,
for `simplematch match --calibration`) and NAME-measured.json to `results/calibration`, of which `results_page.py` makes
tables.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from landmarks import machine

from simplematch._json import write_json
from simplematch.data import PairDataset, open_dataset
from simplematch.evaluation.calibration import Collected, collect
from simplematch.evaluation.calibration.run import check_apart, counts_of, fit_collected, measure_collected, side_of
from simplematch.models import NearestNeighbour, load_model

RESULTS = Path(__file__).parent / "results/calibration"
# Every so many pairs of val, test and PF-WILLOW, and copies of each image of val: Lite0's maps are larger and slower.
PAIRS = {"dinov2-s14-448-nn": (1, 4, 6, 2), "efficientnet-lite0-448-nn": (2, 8, 12, 1)}


def data_sets(name: str, data: Path) -> dict[str, tuple[PairDataset, int, int]]:
    """Return the data sets of a model by name, each with the number of copies of its images and the seed."""
    val, test, willow, copies = PAIRS[name]
    spair = data / "Landmarks-SPair"
    found = {
        "val": (every(open_dataset("spair", spair, "val"), val), copies, 0),
        "test": (every(open_dataset("spair", spair, "test"), test), 1, 1),
        "willow": (every(open_dataset("pf-willow", data / "PF-WILLOW"), willow), 1, 1),
    }
    for other in ("test", "willow"):
        check_apart(found["val"][0], found[other][0])
    return found


def every(pairs: PairDataset, step: int) -> PairDataset:
    return pairs.subset(range(0, len(pairs), step))


def report(network: Any, name: str, collected: dict[str, Collected]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the calibration fitted to "val", and what it measures on the others."""
    counts = {key: counts_of(samples) for key, samples in collected.items()}
    data = {"dataset": "Landmarks-SPair", "split": "val", **counts["val"]}
    calibration = fit_collected(network, name, collected["val"], data=data)
    measured: dict[str, Any] = machine()
    for key in collected:
        told = measure_collected(calibration, collected[key], side_of(network))
        measured[key] = {"data": counts[key], **told, "pair_statistics": pair_statistics(collected, key)}
    return calibration.to_dict(), measured


def pair_statistics(collected: dict[str, Collected], key: str) -> dict[str, dict[str, float]]:
    """Measure single numbers of a pair, without a calibration, with the fifth percentile of val as the threshold."""
    found = {}
    for name in ("pair_salience", "mutual_share"):
        own, same = of_pairs(collected["val"].matched, name), of_pairs(collected[key].matched, name)
        different = of_pairs(collected[key].different, name)
        threshold = float(np.quantile(own, 0.05))
        above = (same[:, None] > different).mean() + (same[:, None] == different).mean() / 2
        found[name] = {
            "threshold": threshold,
            "auroc": float(above),
            "same_told_different": float((same < threshold).mean()),
            "different_told_different": float((different < threshold).mean()),
        }
    return found


def of_pairs(samples: Any, name: str) -> Any:
    """Return a number of each pair."""
    return getattr(samples.evidence, name)[np.unique(samples.pair, return_index=True)[1]]


def main() -> None:
    data, weights = Path(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:] or PAIRS:
        network = load_model(name, weights if name.startswith("dinov2") else None)
        assert isinstance(network, NearestNeighbour)
        collected = {}
        for key, (pairs, copies, seed) in data_sets(name, data).items():
            print(f"{name}: {key}, {len(pairs)} pairs", flush=True)
            collected[key] = collect(network, pairs, copies=copies, seed=seed)
        for suffix, content in zip(("", "-measured"), report(network, name, collected), strict=True):
            RESULTS.mkdir(parents=True, exist_ok=True)
            write_json(RESULTS / f"{name}{suffix}.json", content, indent=1)


if __name__ == "__main__":
    main()
