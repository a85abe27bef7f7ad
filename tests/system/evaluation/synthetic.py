"""Points whose errors and matches follow a known law, as a model might tell them."""

from __future__ import annotations

import numpy as np

from simplematch.evaluation.calibration import Samples
from simplematch.models.evidence import Evidence

SIDE = 448.0
SCALE, FLOOR = 2.5, 6.0


def synthetic(
    points: int,
    seed: int,
    unmatched: float = 0.0,
    *,
    photographs: int = 40,
    category: str = "a",
    signal: float = 2.0,
) -> Samples:
    """Draw points whose errors have the covariance SCALE * spread + FLOOR^2 * I.

    Args:
        points: their number, ten to a pair.
        seed: seed of all draws.
        unmatched: share of the points without a match; their salience is `signal` standard deviations lower.
        photographs: number of photographs.
        category: the category of all pairs.
        signal: see `unmatched`.
    """
    draw = np.random.default_rng(seed)
    axes = draw.normal(size=(points, 2, 2)) * np.exp(draw.uniform(1, 3, (points, 1, 1)))
    spread = axes @ axes.transpose(0, 2, 1)
    factor = np.linalg.cholesky(SCALE * spread + FLOOR**2 * np.eye(2))
    errors = np.einsum("nij,nj->ni", factor, draw.normal(size=(points, 2)))
    scale = np.exp(draw.uniform(-0.5, 0.5, (points, 2)))
    truth = draw.uniform(50, 400, (points, 2))
    lost = draw.uniform(size=points) < unmatched
    noise = [draw.normal(size=points) for _ in range(6)]
    evidence = Evidence(
        matches=truth * scale + errors,
        spread=spread,
        similarity=0.6 + 0.1 * noise[0],
        second=0.5 + 0.1 * noise[1],
        cycle=10 * np.abs(noise[2]),
        salience=noise[3] - signal * lost,
        pair_salience=noise[4],
        mutual_share=np.full(points, 0.1),
        pooled_similarity=noise[5],
    )
    pair = np.arange(points) // 10
    names = np.array([f"{seed}-{i}" for i in range(photographs)])
    files = names[draw.integers(0, photographs, (pair.max() + 1, 2))][pair]
    return Samples(evidence, np.where(lost[:, None], np.nan, errors), scale, pair, np.full(points, category), files)
