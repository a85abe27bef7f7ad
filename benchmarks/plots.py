"""Plots of a result, one svg each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = dict[str, Any]
OURS, OTHERS = "#c0392b", ("#34495e", "#7f8c8d", "#95a5a6", "#b0bec5", "#cfd8dc", "#e0e0e0")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(result: dict[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """Draw a plot for each suite in the result; yields titles and file names."""
    device = re.sub(r"[^a-z0-9]+", "-", result["machine"]["device"].lower()).strip("-")
    pictures = {
        "memory": ("Memory of a training step, MiB", "training_memory", _memory),
        "operator": ("Times of the operator, ours being 1", "op", _operator),
        "scaling": ("Cost of the operator, ms", "cost", _scaling),
        "throughput": ("Inference, images a second", "throughput", _throughput),
    }
    for name, (title, suite, plot) in pictures.items():
        if result.get(suite):
            with matplotlib.rc_context(STYLE):
                figure = Figure(layout="constrained")
                plot(figure, result[suite])
                figure.suptitle(title)
                figure.savefig(folder / f"{device}-{name}.svg", metadata={"Date": None})
            yield title, f"{device}-{name}.svg"


def _memory(figure: Figure, rows: list[Row]) -> None:
    figure.set_size_inches(9, 2.8)
    reading = "allocated_mib" if "allocated_mib" in rows[0] else "counted_mib"
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    for axes, preset in zip(figure.subplots(1, len(presets), sharey=True), presets, strict=True):
        chosen = [row for row in rows if row["preset"] == preset]
        _bars(axes, {row["variant"]: row[reading] for row in chosen}, "{:.0f}")
        axes.set_title(preset, fontsize=9)


def _operator(figure: Figure, rows: list[Row]) -> None:
    """Draw times at the first shape, in window mode."""
    shape = {k: rows[0][k] for k in ("batch", "queries", "channels", "side", "window", "localization")}
    chosen = [row for row in rows if shape.items() <= row.items() and row["mode"] != "backward"]
    columns = 2
    figure.set_size_inches(9, 1.8 * (len(chosen) // columns))
    grid = figure.subplots(len(chosen) // columns, columns, squeeze=False).ravel()
    for axes, row in zip(grid, chosen, strict=True):
        ours = row["times"]["ours"]["median_ms"]
        _bars(axes, {name: times["median_ms"] / ours for name, times in row["times"].items()}, "{:.1f}x")
        axes.set_title(f"{row['mode']}, {row['dtype']}, {row['layout']}", fontsize=9)


def _bars(axes: Axes, values: dict[str, float], form: str) -> None:
    names = list(values)
    colours = [OURS if name.startswith(("ours", "fused")) else OTHERS[1] for name in names]
    bars = axes.barh(names, list(values.values()), color=colours)
    axes.bar_label(bars, [form.format(value) for value in values.values()], padding=2, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(values.values()))
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines.bottom.set_visible(False)


def _scaling(figure: Figure, rows: list[Row]) -> None:
    names = list(dict.fromkeys(row["axis"] for row in rows))
    figure.set_size_inches(11, 2.6)
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        for row, colour in zip((r for r in rows if r["axis"] == name), (OURS, OTHERS[0]), strict=True):
            axes.loglog(row["sizes"], row["median_ms"], "o-", color=colour, label=row["mode"], markersize=3)
        axes.set_xlabel(name if name != "cells" else "cells a side")
        axes.set_xticks(row["sizes"], [str(size) for size in row["sizes"]], fontsize=7)
        axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)


def _throughput(figure: Figure, rows: list[Row]) -> None:
    figure.set_size_inches(9, 0.7 + 0.8 * len(rows))
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False).ravel(), rows, strict=True):
        _bars(axes, row["images_per_s"], "{:.1f}")
        how = f"batch {row['batch']}, {row['precision']}, {'compiled' if row['compiled'] else 'eager'}"
        axes.set_title(f"{row['preset']}, {how}", fontsize=9)
