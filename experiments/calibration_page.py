"""The section of docs/results.md about calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS = {"dinov2-s14-448-nn": "DINOv2-S", "efficientnet-lite0-448-nn": "EfficientNet-Lite0"}
SETS = {"val": "validation (fitted)", "test": "test", "willow": "PF-WILLOW (shift)"}
COVERAGE = ("50 %", "80 %", "90 %", "95 %", "faces, 90 %", "people, 90 %", "radius")
DETECTION = ("other category", "faces", "people", "flagged, with match", "flagged, without")
DETECTION += ("hidden in part", "flagged, with match", "flagged, without")
PAIRS = ("calibrated: AUROC", "other category", "same", "salience: AUROC", "other category", "same", "mutual: AUROC")


def section(folder: Path) -> str:
    """Write the tables of the results in a folder, of the models that have been measured."""
    files = {name: folder / f"{name}-measured.json" for name in MODELS}
    results = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    fitted = "; ".join(f"{MODELS[name]}: {sentence(found['val']['data'])}" for name, found in results.items())
    return f"""## Calibration

`make calibration` fits a calibration of the untrained matchers at 448 x 448 to validation photographs of
Landmarks-SPair, and measures it on test photographs, of which none is among them, and on PF-WILLOW, whose categories
are other ones: what comes out there is shift, and not promised. The data of the fits:
{fitted}.

**Coverage**: the share of the truths within the radius, with the standard error over photographs, and the median
radius of level 90 % in pixels of the input. It holds over faces and people together; the matchers err more on people
than they say, so people are covered less than faces.

{table(results, COVERAGE, coverage_cells)}

**No match**: AUROC of the probability that a point has no match, for keypoints in images of another category (of all
sources, of faces, of people) and points of copies that are hidden in part; and the shares flagged, with a probability
above one half, with and without a match.

{table(results, DETECTION, detection_cells)}

**Pairs of different things**: how often `match` says so of pairs of another and of the same category, with the
calibration (by the mean probability of the salient points) and without one (by the salience of the pair). Both
thresholds leave a twentieth of the validation pairs of one category above or below. The last column is the AUROC of
the share of cells that are mutual nearest neighbours.

{table(results, PAIRS, pair_cells)}"""


def table(results: dict[str, Any], heads: tuple[str, ...], cells: Callable[[dict[str, Any]], list[str]]) -> str:
    rows = [("model", "photographs", *heads), ("---",) * (len(heads) + 2)]
    for name, found in results.items():
        rows += [(MODELS[name], where, *cells(found[key])) for key, where in SETS.items() if key in found]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def sentence(counts: dict[str, int]) -> str:
    return (
        f"{counts['points_with_match']} keypoints of {counts['pairs']} pairs of {counts['photographs']} photographs,\n"
        f"and {counts['different_points']} + {counts['occluded_points_hidden']} points without a match"
    )


def coverage_cells(found: dict[str, Any]) -> list[str]:
    rows = found["coverage"]
    cells = [
        f"{100 * rows['all'][level]['coverage']:.1f} +- {100 * rows['all'][level]['standard_error']:.1f}"
        for level in ("0.5", "0.8", "0.9", "0.95")
    ]
    cells += [f"{100 * rows[name]['0.9']['coverage']:.1f}" if name in rows else "" for name in ("face", "people")]
    return [*cells, f"{rows['all']['0.9']['median_radius']:.0f}"]


def detection_cells(found: dict[str, Any]) -> list[str]:
    different, occluded = found["no_match_different"], found["no_match_occluded"]["all"]
    cells = [f"{different[name]['auroc']:.3f}" if name in different else "" for name in ("all", "face", "people")]
    cells += flagged(different["all"])
    return [*cells, f"{occluded['auroc']:.3f}", *flagged(occluded)]


def flagged(found: dict[str, Any]) -> list[str]:
    return [f"{100 * found[name]:.0f} %" for name in ("flagged_with_match", "flagged_without_match")]


def pair_cells(found: dict[str, Any]) -> list[str]:
    statistics = found["pair_statistics"]
    cells = []
    for told in (found["pairs"], statistics["pair_salience"]):
        cells += [
            f"{told['auroc']:.3f}",
            *(f"{100 * told[f'{x}_told_different']:.0f} %" for x in ("different", "same")),
        ]
    return [*cells, f"{statistics['mutual_share']['auroc']:.3f}"]
