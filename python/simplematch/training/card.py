"""What a run tells the model cards of `best` and `last`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..evaluation import PCKResult
from ..models import CardResult
from .config import TrainConfig

ALPHAS = (0.05, 0.1, 0.15)
_OMITTED = ("output", "card")


def run_facts(config: TrainConfig) -> dict[str, Any]:
    """Return the facts that are known before a run; of paths, which belong to this computer, the names alone."""
    settings = {name: x for name, x in config.to_dict().items() if name not in _OMITTED}
    paths = {name: getattr(config, name) for name in settings if isinstance(getattr(config, name), Path)}
    return {"training": settings | {name: path.resolve().name for name, path in paths.items()}, **config.card}


def card_result(result: PCKResult, config: TrainConfig, split: str) -> CardResult:
    """Return the PCK of an evaluation on a split of the run's data set."""
    return CardResult(
        dataset=config.root.resolve().name,
        layout=config.dataset,
        split=split,
        protocol=result.description,
        pairs=result.overall.pairs,
        points=result.overall.points,
        pck={alpha: result.at(alpha) for alpha in ALPHAS},
    )
