"""What a run tells the model cards of `best` and `last`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import TrainConfig

_OMITTED = ("output", "card")


def run_facts(config: TrainConfig) -> dict[str, Any]:
    """Return the facts that are known before a run; of paths, which belong to this computer, the names alone."""
    settings = {name: x for name, x in config.to_dict().items() if name not in _OMITTED}
    paths = {name: getattr(config, name) for name in settings if isinstance(getattr(config, name), Path)}
    return {"training": settings | {name: path.resolve().name for name, path in paths.items()}, **config.card}
