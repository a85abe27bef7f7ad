"""`simplematch ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..training import TrainConfig
from ..training.ablation import rows_of, run_rows
from ..training.ablation_tables import format_rows
from .lists import numbers


def ablate(
    name: str,
    root: Path,
    output: Path,
    recipe: str = "landmarks-lite0-256",
    sizes: str | None = None,
    fields: dict[str, Any] | None = None,
) -> None:
    """Train and evaluate a model for each row of one of the paper's ablations, and print the table.

    Called again, it resumes an interrupted row and skips finished rows.

    Args:
        name: feature-map-size (Tables 2 and 9), window (Table 7), multi-scale-loss (Table 8) or resolution (Table 10).
        root: folder of the data set.
        output: output folder, with a folder for each row, table.json, and table.md beside the paper's numbers.
        recipe: one of simplematch.configs, the base of every row.
        sizes: comma-separated window sizes in cells, or image sizes in pixels; default: the paper's.
        fields: fields of TrainConfig to replace in every row, such as --fields '{"epochs": 3}'.
    """
    config = TrainConfig.from_recipe(recipe, root, output, **(fields or {}))
    chosen = numbers("sizes", sizes) if sizes else None
    print(format_rows(name, run_rows(name, config, rows_of(name, config, chosen))))
