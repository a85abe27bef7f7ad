"""`simplematch ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..training import TrainConfig
from ..training.ablation import format_rows, rows_of, run_rows
from .lists import numbers


def ablate(
    name: str,
    root: Path,
    output: Path,
    recipe: str = "landmarks-lite0-256",
    sizes: str | None = None,
    fields: dict[str, Any] | None = None,
) -> None:
    """Train a model for each row of one of the paper's ablations, evaluate them alike, and print its table.

    What is done is kept: a row that was stopped goes on where it was, and one that has its result isn't run again.

    Args:
        name: feature-map-size (Tables 2 and 9), window (Table 7), multi-scale-loss (Table 8) or resolution (Table 10).
        root: folder of the data set.
        output: gets a folder for each row, and table.json.
        recipe: one of simplematch.configs, which every row changes in one thing.
        sizes: cells of the window, or pixels of the image, with commas: what to compare instead of the paper's values.
        fields: fields of TrainConfig to replace in every row, such as --fields '{"epochs": 3}'.
    """
    config = TrainConfig.from_recipe(recipe, root, output, **(fields or {}))
    chosen = numbers("sizes", sizes) if sizes else None
    print(format_rows(name, run_rows(config, rows_of(name, config, chosen))))
