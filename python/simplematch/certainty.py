"""How certain matches are: error bars, the probability of "no match", and whether two images show different things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .data.records import FloatArray
from .evaluation.calibration import FILE, Calibration
from .evaluation.calibration.run import check_model, side_of
from .models.evidence import CellMatches, Encoded, gather_evidence
from .models.salience import salient_points
from .sizes import height_width

# Two images show different things if their pair salience is lower, for models without a calibration: that of a
# twentieth of the pairs of one category of Landmarks-SPair's validation photographs. docs/results.md has the errors.
SALIENCES = {"dinov2-s14-448-nn": -0.157}


@dataclass(frozen=True, eq=False)
class Certainty:
    """What is known of N matches; None where it needs a calibration that the model doesn't have.

    Attributes:
        covariance: (N, 2, 2) of the errors in pixels of image B squared.
        radius: (N,) in pixels of image B: holds a share `level` of the truths.
        no_match: (N,) probability that the point has no match in image B.
        level: the share.
        different: whether the two images show different things.
    """

    covariance: FloatArray | None = None
    radius: FloatArray | None = None
    no_match: FloatArray | None = None
    level: float | None = None
    different: bool | None = None


def find_calibration(network: Any, name: str, given: Path | str | None) -> Calibration | None:
    """Load the calibration in a file, or else the one in the model's folder, if there is one.

    Raises:
        DataError: the file is missing or isn't a calibration.
        ValueError: it belongs to another model.
    """
    own = Path(name) / FILE
    path = own if given is None and own.is_file() else given
    if path is None:
        return None
    check_model(network, name)
    calibration = Calibration.load(path)
    calibration.check_model(network, name, str(path))
    return calibration


def certainty_of(
    network: Any,
    images: tuple[Encoded, Encoded],
    cells: CellMatches,
    keypoints: FloatArray,
    scale: FloatArray,
    *,
    name: str,
    calibration: Calibration | None,
    level: float,
) -> Certainty:
    """Compute the certainty of matches.

    Args:
        network: a model that `gives_evidence`.
        images: A and B.
        cells: what `match_cells` returned for them.
        keypoints: (N, 2) in pixels of the network's input.
        scale: factors (x, y) from pixels of image B to pixels of the network's input.
        name: the model's name.
        calibration: its calibration.
        level: one of the calibration's levels.
    """
    side = side_of(network)
    source, target = images
    own = gather_evidence(
        network, source, target, salient_points(cells) * height_width(network.image_size)[::-1], cells
    )
    if calibration is None:
        threshold = SALIENCES.get(name)
        return Certainty(different=None if threshold is None else bool(own.pair_salience[0] < threshold))
    evidence = gather_evidence(network, source, target, keypoints, cells)
    return Certainty(
        calibration.covariance(evidence, scale),
        calibration.radius(evidence, scale, level),
        calibration.no_match_probability(evidence, side),
        level,
        calibration.shows_different(calibration.no_match_probability(own, side)),
    )
