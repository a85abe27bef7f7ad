"""`simplematch draw` (Figures 5 and 6 of the paper) and `simplematch curve` (Figure 4)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from .. import evaluation
from .._files import DataError, check_output
from .._json import read_object
from ..data import PairDataset, open_dataset
from ..evaluation import PCKProtocol
from ..models import default_device, load_model
from ..viz import MatchPanel, draw_curves, draw_grid, prediction_panel, save_figure
from .lists import names


def draw(
    models: str,
    dataset: str,
    root: Path,
    output: Path = Path("matches.png"),
    split: str = "test",
    pairs: int = 4,
    alpha: float = 0.1,
    seed: int = 0,
) -> None:
    """Draw matches of random pairs of a data set, one column per model: correct matches green, wrong ones red.

    Args:
        models: comma-separated presets, folders of models, or repositories owner/name of the Hugging Face hub.
        dataset: as for eval.
        root: folder of the data set.
        output: image file to write.
        split: split of the data set.
        pairs: number of pairs.
        alpha: a match is correct within alpha times the data set's threshold.
        seed: seed of the choice of pairs.
    """
    check_output(output)
    opened = open_dataset(dataset, root, split)
    chosen = opened.subset(np.random.default_rng(seed).permutation(len(opened))[: max(pairs, 1)].tolist())
    protocol = evaluation.preset("default", opened.name)
    columns = [match_panels(name, chosen, protocol, alpha) for name in names(models)]
    save_figure(draw_grid([list(row) for row in zip(*columns, strict=True)]), output)
    print(f"written: {output}")


def match_panels(name: str, pairs: PairDataset, protocol: PCKProtocol, alpha: float) -> list[MatchPanel]:
    """Make a panel with a model's matches for each pair, sorted by pair name."""
    model = load_model(name).to(default_device())
    predictions = evaluation.evaluate(model, pairs, [protocol]).predictions
    assert predictions is not None
    items = sorted(predictions.items, key=lambda item: item.info.pair_id)
    return [prediction_panel(item, pairs, protocol, alpha, model.image_size, Path(name).name) for item in items]


def curve(results: str, output: Path = Path("curve.png")) -> None:
    """Draw PCK against alpha, one line per result.

    Args:
        results: comma-separated json files of `simplematch eval --output`.
        output: image file to write.
    """
    paths = list(map(Path, names(results)))
    stems = [path.stem for path in paths]
    lines, description = {}, ""
    for path in paths:
        alphas, pck, description = _headline(path)
        lines[path.stem if stems.count(path.stem) == 1 else str(path)] = (alphas, pck)
    save_figure(draw_curves(lines, f"threshold {description}"), output)
    print(f"written: {output}")


def _headline(path: Path) -> tuple[list[float], list[float], str]:
    """Read alphas, PCK (NaN without pairs) and the threshold of the first protocol in a result."""
    content = read_object(path)
    try:
        result: dict[str, Any] = content["results"][0]
        alphas = [float(alpha) for alpha in result["protocol"]["alphas"]]
        pck = [math.nan if value is None else float(value) for value in result["headline"]]
        threshold = result["protocol"]["threshold"]
        if len(alphas) != len(pck) or not isinstance(threshold, str):
            raise ValueError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a result of simplematch eval --output.") from error
    return alphas, pck, threshold
