"""`simplematch train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import training
from ..training import TrainConfig
from ..training.stop import Interrupted


def train(
    root: Path | None = None,
    output: Path | None = None,
    recipe: str | None = None,
    config: Path | None = None,
    fields: dict[str, Any] | None = None,
    resume: bool = False,
    allow_changes: bool = False,
) -> None:
    """Train a model from a recipe or a YAML file; `accelerate launch -m simplematch train ...` uses several GPUs.

    Args:
        root: folder of the data set.
        output: folder for checkpoints and logs.
        recipe: one of simplematch.configs.
        config: a YAML file with fields of TrainConfig, instead of a recipe.
        fields: fields to replace, such as --fields '{"epochs": 3}' or --fields.epochs 3.
        resume: resume the interrupted run in `output`.
        allow_changes: resume although settings that decide the result have changed.
    """
    if (recipe is None) == (config is None):
        raise ValueError("train needs --recipe or --config, and not both")
    changes = {**(fields or {}), **{k: v for k, v in (("root", root), ("output", output)) if v is not None}}
    if config is not None:
        chosen = TrainConfig.from_yaml(config, **changes)
    else:
        assert recipe is not None
        if root is None or output is None:
            raise ValueError("train --recipe needs --root and --output")
        chosen = TrainConfig.from_recipe(recipe, **changes)
    result = training.train(chosen, resume=resume, allow_changes=allow_changes)
    end = "stopped, resume with --resume true" if result.stopped else "done"
    text = f"{end}: {result.step} steps, best PCK@0.1 {100 * max(result.best_pck, 0):.1f} %, models in {chosen.output}"
    if result.signal is not None:
        raise Interrupted(text, result.signal)
    print(text)
