"""The paper's ablations (Tables 2, 7, 8, 9 and 10): runs that differ in one setting, with the same evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._files import DataError, write_text
from .._json import read_object, write_json
from ..data import open_dataset
from ..evaluation import evaluate
from ..models import SimpleMatch, SimpleMatchConfig, preset
from ..sizes import ImageSize, checked_size, height_width, size_text
from . import checkpoint
from .ablation_tables import ALPHAS, Table, markdown
from .config import TrainConfig
from .loop import train
from .stop import Interrupted

WINDOWS = (9, 15, 30, 45, 60)
RESOLUTIONS = (256, 320, 384, 448, 512)
NAMES = ("feature-map-size", "window", "multi-scale-loss", "resolution")
RESULT, TABLE, MARKDOWN = "result.json", "table.json", "table.md"


@dataclass(frozen=True)
class Row:
    """A row of a table: its title and its fields of the model's configuration."""

    title: str
    model: dict[str, Any]


def rows_of(name: str, config: TrainConfig, sizes: list[int] | None = None) -> list[Row]:
    """Return the rows of an ablation.

    Args:
        name: one of NAMES.
        config: the base run of every row.
        sizes: window sizes in cells ("window") or image sizes in pixels ("resolution", "feature-map-size"). Default:
            the paper's sizes, or for "feature-map-size" the image size of `config`.

    Raises:
        ValueError: the name is unknown, or the base run can't be changed so.
    """
    model = replace(preset(config.preset), **config.model)
    if sizes and name == "multi-scale-loss":
        raise ValueError(f"sizes must be None for {name}, got {sizes}")
    if name == "feature-map-size":
        chosen: list[ImageSize] = [*sizes] if sizes else [model.image_size]
        return [row for size in chosen for row in _map_sizes(model, size)]
    if name == "window":
        return [Row(f"{x}x{x}", {"windows": (*model.windows[:-1], x)}) for x in sizes or WINDOWS]
    if name == "multi-scale-loss":
        if len(model.levels) == 1:
            raise ValueError(f"preset must have several levels for {name}, got {config.preset!r}")
        if config.contrast and model.windows[-1] is not None:
            raise ValueError(f"contrast must be 0 for {name}, whose last row has a window only, got {config.contrast}")
        alone = {"levels": model.levels[-1:], "windows": model.windows[-1:]}
        return [Row("all scales", {}), Row("w/o multi-scale loss", alone)]
    if name == "resolution":
        fitting = [_fit(model, x) for x in sizes or RESOLUTIONS]
        return [Row(size_text(x), {"image_size": x}) for x in fitting]
    raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")


def run_rows(name: str, config: TrainConfig, rows: list[Row]) -> Table:
    """Train and evaluate each row that has no result yet; return PCK at ALPHAS by row, overall and by category.

    The tables `table.json` and `table.md` are written after each row.
    """
    table: Table = {}
    for row in rows:
        output = config.output / row.title.replace(" ", "-").replace("/", "")
        run = replace(config, output=output, model={**config.model, **row.model})
        _check_same_run(run)
        if not (output / RESULT).is_file():
            _run(run)
        table[row.title] = _read_result(output / RESULT)
        write_json(config.output / TABLE, {"alphas": ALPHAS, "epochs": config.epochs, "rows": table}, indent=1)
        write_text(config.output / MARKDOWN, markdown(name, table))
    return table


def _read_result(path: Path) -> dict[str, list[float]]:
    """Read the PCK at ALPHAS of an earlier call, by group."""
    content = read_object(path)
    for values in content.values():
        if not (isinstance(values, list) and len(values) == len(ALPHAS) and all(isinstance(x, float) for x in values)):
            raise DataError(f"{path} is not a result of simplematch ablate; delete it to evaluate the row again.")
    return content


def _check_same_run(config: TrainConfig) -> None:
    """Raise a ValueError if an earlier call ran with other settings."""
    path = config.output / checkpoint.CONFIG
    if not path.is_file():
        return
    earlier, now = TrainConfig.from_yaml(path).to_dict(), config.to_dict()
    if config.precision == "auto":
        now["precision"] = earlier["precision"]
    for field in now:
        if json.dumps(earlier[field]) != json.dumps(now[field]):
            raise ValueError(
                f"{field} must be {earlier[field]!r}, as in the run in {config.output}, got {now[field]!r}: choose "
                "another output folder"
            )


def _run(config: TrainConfig) -> None:
    """Train or resume, and write the last model's PCK on the test pairs."""
    result = train(config, resume=checkpoint.has_state(config.output))
    if result.stopped:
        raise Interrupted(f"stopped; run the same command to resume {config.output}", result.signal)
    model = SimpleMatch.from_pretrained(config.output / checkpoint.LAST)
    pairs = open_dataset(config.dataset, config.root, "test", skip_broken=config.skip_broken)
    (found, *_) = evaluate(model, pairs, keep_predictions=False, skip_broken=config.skip_broken).results
    chosen = [found.protocol.alphas.index(alpha) for alpha in ALPHAS]
    groups = {"all": found.headline} | {k: v.per_image for k, v in found.groups["category"].items()}
    kept = {group: [values[i] for i in chosen] for group, values in groups.items()}
    write_json(config.output / RESULT, kept)


def _map_sizes(model: SimpleMatchConfig, image_size: ImageSize) -> list[Row]:
    """Return rows that end the decoder at each of its maps, coarse to fine."""
    size = _fit(model, image_size)
    height, width = height_width(size)
    rows = []
    for finest in range(3):
        kept = [(level, window) for level, window in zip(model.levels, model.windows, strict=True) if level <= finest]
        if not kept or kept[-1][0] != finest:  # a model with its finest level only: this level has no window yet
            kept = [*kept, (finest, None if finest == 0 else _scaled_window(model, finest))]
        cells = [side * 2**finest // 16 if finest < 2 else side // 4 for side in (height, width)]
        levels, windows = zip(*kept, strict=True)
        title = f"{cells[0]}x{cells[1]} of {size_text(size)}"
        rows.append(Row(title, {"image_size": size, "levels": levels, "windows": windows}))
    return rows


def _scaled_window(model: SimpleMatchConfig, level: int) -> int | None:
    """Return an odd window that spans about as much of the image as the finest level's."""
    finest, window = model.levels[-1], model.windows[-1]
    return None if window is None else max(window >> (finest - level), 1) | 1


def _fit(model: SimpleMatchConfig, image_size: ImageSize) -> ImageSize:
    """Return the nearest multiple of the patch size or the largest stride."""
    unit = 14 if "patch14" in model.encoder else 16 if model.kind == "vit" else 32
    return checked_size([max(round(side / unit), 1) * unit for side in height_width(image_size)])
