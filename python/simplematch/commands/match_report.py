"""What `simplematch match` says and draws about the certainty of its matches."""

from __future__ import annotations

import numpy as np

from ..correspondences import Correspondences
from ..data.images import Picture
from ..viz import MatchPanel

_FEW = 12  # more error bars would hide the images


def title(found: Correspondences, name_a: str, name_b: str) -> str:
    """Return the line above the picture."""
    text = f"{name_a} to {name_b}: {len(found)} points"
    if found.no_match is None:
        return text + "; brighter: more alike"
    return text + "; brighter: more certain, red: no match" + (f"; circles: {found.level:.0%}" if _few(found) else "")


def match_panel(pictures: list[Picture], found: Correspondences, heading: str) -> MatchPanel:
    """Return the picture of the matches: colours tell the probability of a match, or without one the similarity."""
    source, target = (np.array(picture.pixels) for picture in pictures)
    return MatchPanel(
        source,
        target,
        found.points,
        found.matches,
        confidence=found.confidence if found.no_match is None else 1 - found.no_match,
        covariance=found.covariance if found.radius is None else None,
        probability=found.no_match is not None,
        radius=found.radius if _few(found) else None,
        title=heading,
    )


def calibrated_columns(found: Correspondences) -> dict[str, list[str]]:
    """Return the columns of the table that need a calibration."""
    if found.radius is None or found.no_match is None:
        return {}
    return {
        f"{found.level:.0%} radius, pixels": [f"{x:.1f}" for x in found.radius],
        "no match, %": [f"{100 * x:.0f}{' *' if x > 0.5 else '  '}" for x in found.no_match],
    }


def conclusions(found: Correspondences, name_a: str, name_b: str) -> list[str]:
    """Return what the matches say as a whole, one sentence each."""
    sentences = []
    if found.no_match is not None:
        count = int((found.no_match > 0.5).sum())
        sentences.append(f"{count} of {len(found)} points probably have no match (*).")
    if found.different:
        sentences.append(f"{name_a} and {name_b} seem to show different things, so their matches mean little.")
    return sentences


def _few(found: Correspondences) -> bool:
    return len(found) <= _FEW
