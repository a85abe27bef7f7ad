"""Training recipes, one YAML file each, with the paper's schedules; other fields keep the defaults of `TrainConfig`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml


def names() -> list[str]:
    """List the names of all recipes."""
    return sorted(path.name.removesuffix(".yaml") for path in files(__name__).iterdir() if path.name.endswith(".yaml"))


def recipe(name: str) -> dict[str, Any]:
    """Return the fields that a recipe sets.

    Raises:
        ValueError: no recipe has that name.
    """
    if name not in names():
        raise ValueError(f"recipe must be one of {', '.join(names())}, got {name!r}")
    fields: dict[str, Any] = yaml.safe_load((files(__name__) / f"{name}.yaml").read_text())
    return fields
