"""The command line: `simplematch eval | stats | train | prepare`."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from simplematch_kernels import use_backend

from . import evaluation
from .data import DataError, open_dataset, prepare_ap10k
from .evaluation import Matcher
from .models import NEAREST_PRESETS, PRESETS, NearestNeighbour, SimpleMatch
from .training import TrainConfig, train


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what the user can mend is one sentence on standard error, and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    commands: dict[str, Any] = {
        "eval": evaluate_command, "stats": stats_command, "train": train_command, "prepare": prepare_command,
    }  # fmt: skip
    try:
        auto_cli(commands, args=arguments, prog="simplematch", as_positional=False)
    except (DataError, FileNotFoundError, ValueError) as error:
        print(f"simplematch: {error}", file=sys.stderr)
        sys.exit(2)


def evaluate_command(
    dataset: str,
    root: Path,
    preset: str = "efficientnet-lite0-448-nn",
    checkpoint: Path | None = None,
    weights: Path | None = None,
    split: str = "test",
    codebase: list[str] | None = None,
    batch_size: int = 16,
    output: Path | None = None,
    predictions: Path | None = None,
    skip_broken: bool = False,
    backend: str | None = None,
) -> None:
    """Measure PCK of a model on a data set.

    Args:
        dataset: spair, pf-pascal, pf-willow, ap10k, images or auto.
        root: folder of the data set, in any of its known layouts.
        preset: a model with its pretrained encoder; the -nn ones are untrained nearest-neighbour matchers.
        checkpoint: a folder that training or save_pretrained wrote, in place of a preset.
        weights: file of the preset's encoder weights.
        split: of the data set.
        codebase: whose protocols to measure by (default, simplematch, sd4match, geoaware-sc, sd-dino, dift, cats).
        batch_size: pairs at a time.
        output: a json file, and a csv beside it, with every number.
        predictions: a file for all predictions, from which any protocol can be computed again.
        skip_broken: leave out images that can't be read, and say how many.
        backend: of the operators; the best that runs, if none is given.
    """
    model = load_model(preset, checkpoint, weights)
    pairs = open_dataset(dataset, root, split, skip_broken=skip_broken)
    protocols = [evaluation.preset(name, pairs.name) for name in codebase] if codebase else None
    with use_backend(backend) if backend is not None else nullcontext():
        found = evaluation.evaluate(
            model, pairs, protocols, batch_size=batch_size, skip_broken=skip_broken,
            keep_predictions=predictions is not None,
        )  # fmt: skip
    print("\n\n".join(evaluation.format_result(result) for result in found.results))
    seconds = ", ".join(f"{part} {value:.1f}" for part, value in found.seconds.items())
    print(f"\n{len(pairs)} pairs of {found.images} images, {found.encoded} encoded; seconds: {seconds}")
    if output is not None:
        report: dict[str, Any] = {"results": evaluation.to_json(found.results), "seconds": found.seconds}
        output.write_text(json.dumps(report | {"model": str(checkpoint or preset), "skipped": found.skipped}, indent=1))
        output.with_suffix(".csv").write_text(evaluation.to_csv(found.results))
    if predictions is not None and found.predictions is not None:
        found.predictions.save(predictions)


def stats_command(dataset: str, root: Path, split: str = "test", grids: tuple[int, ...] = (16, 32, 64)) -> None:
    """Count keypoints that share a cell of a feature map (the paper's Table 1).

    Args:
        dataset: as for eval.
        root: folder of the data set.
        split: of the data set; the SPair-71k layout also has "all".
        grids: cells along a side.
    """
    print(evaluation.format_statistics(evaluation.statistics(open_dataset(dataset, root, split), grids)))


def train_command(
    root: Path | None = None,
    output: Path | None = None,
    recipe: str | None = None,
    run: Path | None = None,
    fields: dict[str, Any] | None = None,
    resume: bool = False,
) -> None:
    """Train a model by a recipe or a YAML file; `accelerate launch -m simplematch train ...` uses several GPUs.

    Args:
        root: folder of the data set.
        output: folder for checkpoints and logs.
        recipe: one of simplematch.configs.
        run: a YAML file with fields of TrainConfig, in place of a recipe.
        fields: fields to replace, such as --fields '{"epochs": 3}'.
        resume: go on where a run with this output was stopped.
    """
    if (recipe is None) == (run is None):
        raise ValueError("train needs --recipe or --run, and not both")
    changes = {**(fields or {}), **{k: v for k, v in (("root", root), ("output", output)) if v is not None}}
    if run is not None:
        chosen = TrainConfig.from_yaml(run, **changes)
    else:
        assert recipe is not None
        if root is None or output is None:
            raise ValueError("train --recipe needs --root and --output")
        chosen = TrainConfig.from_recipe(recipe, **changes)
    result = train(chosen, resume=resume)
    end = "stopped, resume with --resume" if result.stopped else "done"
    print(f"{end}: {result.step} steps, best PCK@0.1 {100 * max(result.best_pck, 0):.1f} %, models in {chosen.output}")


def prepare_command(source: Path, destination: Path, images: str = "link") -> None:
    """Make the pairs of AP-10K from its raw annotations.

    Args:
        source: the raw folder, with annotations/ and data/.
        destination: gets the pairs; may be the source itself.
        images: link or copy.
    """
    for split, count in prepare_ap10k(source, destination, images=images).items():
        print(f"{split}: {count} pairs")


def load_model(preset: str, checkpoint: Path | None, weights: Path | None) -> Matcher:
    """A model by the name of its preset, or from the folder of a checkpoint."""
    if checkpoint is not None:
        return SimpleMatch.from_pretrained(checkpoint)
    if preset in NEAREST_PRESETS:
        return NearestNeighbour.from_preset(preset, weights=weights)
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join((*NEAREST_PRESETS, *PRESETS))}, got {preset!r}")
    return SimpleMatch.from_preset(preset, weights=weights).eval()


if __name__ == "__main__":
    main()
