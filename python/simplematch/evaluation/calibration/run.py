"""Calibrates a model on a data set, and measures its calibration on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..._files import DataError
from ...data.dataset import PairDataset
from ...models.evidence import gives_evidence
from ...models.identity import identity
from .fit import LEVELS, fit_calibration
from .measure import measure_coverage, measure_no_match, measure_pairs
from .record import Calibration
from .samples import Collected, Progress, collect


def calibrate(
    network: torch.nn.Module,
    dataset: PairDataset,
    *,
    name: str,
    levels: Sequence[float] = LEVELS,
    copies: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Calibrate a model on a data set whose photographs it was not trained on.

    Args:
        network: a `SimpleMatch` that matches with the fused operators, or a `NearestNeighbour`.
        dataset: pairs of at least two categories, with keypoints.
        name: the model's name.
        levels: shares of the truths that the radii hold.
        copies: number of copies of each image, hidden in part.
        seed: seed of all draws.
        progress: called after each pair with the number of pairs done and the total.

    Raises:
        DataError: there are too few points, photographs or categories.
        ValueError: the model is of another kind, or a level isn't between 0 and 1.
    """
    check_model(network, name)
    check_data(dataset)
    collected = collect(network, dataset, copies=copies, seed=seed, progress=progress)
    data = {"dataset": dataset.name, "split": dataset.split, "seed": seed, **counts_of(collected)}
    return fit_collected(network, name, collected, levels=levels, data=data)


def fit_collected(
    network: torch.nn.Module, name: str, collected: Collected, *, levels: Sequence[float] = LEVELS, data: dict[str, Any]
) -> Calibration:
    """Fit the calibration of a model to its samples; `data` says where they are from."""
    return fit_calibration(
        collected.matched,
        (collected.different, collected.occluded),
        collected.same_salient,
        side=side_of(network),
        levels=levels,
        model={"name": name, **identity(network)},
        data=data,
    )


def measure(
    network: torch.nn.Module,
    calibration: Calibration,
    dataset: PairDataset,
    *,
    fitted_to: PairDataset | None = None,
    copies: int = 1,
    seed: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a calibration on a data set: coverage, AUROC of "no match", and how well pairs are told apart.

    Args:
        network: the model of the calibration.
        calibration: the calibration.
        dataset: pairs of at least two categories, with keypoints.
        fitted_to: the data set of the calibration; it may have no photograph in common with `dataset`.
        copies, seed, progress: as in `calibrate`.

    Raises:
        DataError: the data sets have a photograph in common.
    """
    if fitted_to is not None:
        check_apart(fitted_to, dataset)
    check_data(dataset)
    collected = collect(network, dataset, copies=copies, seed=seed, progress=progress)
    told = measure_collected(calibration, collected, side_of(network))
    return {"data": {"dataset": dataset.name, "split": dataset.split, "seed": seed, **counts_of(collected)}, **told}


def measure_collected(calibration: Calibration, collected: Collected, side: float) -> dict[str, Any]:
    """Measure a calibration on samples of a model whose input has a longer side of `side` pixels."""
    return {
        "coverage": measure_coverage(calibration, collected.matched),
        "no_match_different": measure_no_match(calibration, collected.matched, collected.different, side),
        "no_match_occluded": measure_no_match(calibration, collected.occluded, None, side),
        "pairs": measure_pairs(calibration, collected.same_salient, collected.different_salient, side),
    }


def check_model(network: object, name: str) -> None:
    """Raise a ValueError unless a model can be calibrated."""
    if not gives_evidence(network):
        raise ValueError(f'model must be a preset or a model with matching "fused" for a calibration, got {name}')


def check_data(dataset: PairDataset) -> None:
    """Raise a DataError if the categories of a data set aren't kinds of things."""
    if dataset.name == "images":
        raise DataError(
            f"a calibration needs annotated pairs, got {dataset.root} as plain images, whose categories are kinds of "
            "warps: name another data set."
        )


def check_apart(first: PairDataset, second: PairDataset) -> None:
    """Raise a DataError if two data sets have a photograph in common."""
    shared = sorted(_photographs(first) & _photographs(second))
    if shared:
        raise DataError(
            f"the data of a calibration and of its measurement must have no photograph in common, got {shared[0]} "
            f"in both ({len(shared)} in all): choose other splits."
        )


def side_of(network: Any) -> float:
    """Return the longer side of a model's input in pixels."""
    return float(np.max(network.image_size))


def _photographs(dataset: PairDataset) -> set[str]:
    infos = map(dataset.info, range(len(dataset)))
    return {str(path.resolve()) for info in infos for path in (info.source_path, info.target_path)}


def counts_of(collected: Collected) -> dict[str, int]:
    """Count photographs, pairs and points."""
    matched, different, occluded = collected.matched, collected.different, collected.occluded
    return {
        "photographs": len(np.unique(matched.photographs)),
        "pairs": matched.pairs,
        "points_with_match": len(matched),
        "different_pairs": different.pairs,
        "different_points": len(different),
        "occluded_pairs": occluded.pairs,
        "occluded_points": len(occluded),
        "occluded_points_hidden": int(occluded.unmatched.sum()),
    }
