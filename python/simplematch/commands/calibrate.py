"""`simplematch calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._files import check_output
from .._json import write_json
from ..data import PairDataset, open_dataset
from ..evaluation.calibration import FILE, measure
from ..evaluation.calibration import calibrate as fit
from ..evaluation.calibration.run import check_apart, check_model
from ..models import check_model as check_name
from ..models import default_device, load_model
from .lists import names
from .progress import progress_bar


def calibrate(
    dataset: str,
    root: Path,
    preset: str = "efficientnet-lite0-448-nn",
    checkpoint: Path | None = None,
    weights: Path | None = None,
    split: str = "val",
    check_split: str | None = None,
    levels: str = "0.5,0.8,0.9,0.95",
    copies: int = 2,
    seed: int = 0,
    output: Path | None = None,
    report: Path | None = None,
    device: str | None = None,
) -> None:
    """Fit error bars and the probability of "no match" to photographs that the model was not trained on.

    Args:
        dataset: spair, pf-pascal, pf-willow, ap10k or auto; pairs of at least two categories.
        root: folder of the data set, in any of its known layouts.
        preset: a model with a pretrained encoder; -nn presets are untrained nearest-neighbour matchers.
        checkpoint: a folder that training or save_pretrained wrote, instead of a preset.
        weights: file of the preset's encoder weights.
        split: split to fit to.
        check_split: another split to measure the result on; the two have no photograph in common.
        levels: comma-separated shares of the truths that the radii hold.
        copies: number of warped copies of each image that are hidden in part, for points without a match.
        seed: seed of these copies and of the pairs of different categories.
        output: json file to write; default: calibration.json in the folder of the checkpoint, where match finds it.
        report: json file for what check_split measures.
        device: default: cuda if available.
    """
    name = str(checkpoint or preset)
    target = output or (None if checkpoint is None else checkpoint / FILE)
    if target is None:
        raise ValueError("output must name a file for the calibration of a preset, got none")
    if report is not None and check_split is None:
        raise ValueError("check_split must name a split for a report, got none")
    wanted = _levels(levels)
    check_name(name)
    for file in (target, *(() if report is None else (report,))):
        check_output(file)
    pairs = open_dataset(dataset, root, split)
    others = None if check_split is None else open_dataset(dataset, root, check_split)
    if others is not None:
        check_apart(pairs, others)
    network = load_model(name, weights).to(device or default_device())
    check_model(network, name)
    with progress_bar("pairs") as progress:
        found = fit(network, pairs, name=name, levels=wanted, copies=copies, seed=seed, progress=progress)
    found.save(target)
    _print_data(found.data, found.scale, found.floor)
    print(f"written: {target}")
    if others is not None:
        measured = _measured(network, found, others)
        if report is not None:
            write_json(report, measured, indent=1)
            print(f"written: {report}")


def _measured(network: Any, calibration: Any, others: PairDataset) -> dict[str, Any]:
    with progress_bar("pairs") as progress:
        measured = measure(network, calibration, others, progress=progress)
    print_measured(measured)
    return measured


def _print_data(data: Any, scale: float, floor: float) -> None:
    print(
        f"with a match: {data['points_with_match']} keypoints of {data['pairs']} pairs, {data['photographs']} images\n"
        f"without: {data['different_points']} keypoints of {data['different_pairs']} pairs of different categories, "
        f"{data['occluded_points_hidden']} points of {data['occluded_pairs']} copies"
    )
    print(f"error covariance: {scale:.3g} x that of the model + ({floor:.3g} pixels)^2")


def print_measured(measured: dict[str, Any]) -> None:
    """Print what `measure` returned."""
    levels = [key for key in measured["coverage"]["all"] if key[0] == "0"]
    print("share of truths within the radius of level".ljust(44) + "".join(f"{level:>16}" for level in levels))
    for name, row in measured["coverage"].items():
        cells = (f"{100 * row[x]['coverage']:.1f} +- {100 * row[x]['standard_error']:.1f} %" for x in levels)
        print(f"  {name}, {row['points']} points".ljust(44) + "".join(f"{cell:>16}" for cell in cells))
    for kind, title in (("different", "pairs of different categories"), ("occluded", "copies hidden in part")):
        for name, row in measured[f"no_match_{kind}"].items():
            print(f'AUROC of "no match", {title}, {name}: {row["auroc"]:.3f}')
    told = measured["pairs"]
    print(
        f"told to show different things: {100 * told['different_told_different']:.0f} % of pairs of different "
        f"categories, {100 * told['same_told_different']:.0f} % of pairs of one category"
    )


def _levels(text: str) -> list[float]:
    try:
        found = [float(part) for part in names(text)]
    except ValueError:
        found = []
    if not found or not all(0 < level < 1 for level in found):
        raise ValueError(f"levels must be comma-separated numbers between 0 and 1, got {text!r}")
    return found
