"""PCK of an evaluation for the card of a model."""

from __future__ import annotations

from pathlib import Path

from ..models.card import CardResult
from .pck import PCKResult

ALPHAS = (0.05, 0.1, 0.15)


def card_result(result: PCKResult, root: Path, layout: str, split: str) -> CardResult:
    """Return the headline of a result for a model card.

    Args:
        result: the result.
        root: folder of the data set, whose name the card tells.
        layout: the layout of its files, `PairDataset.name`.
        split: its split.
    """
    return CardResult(
        dataset=root.resolve().name,
        layout=layout,
        split=split,
        protocol=result.description,
        pairs=result.overall.pairs,
        points=result.overall.points,
        pck={alpha: result.at(alpha) for alpha in ALPHAS if alpha in result.protocol.alphas},
    )
