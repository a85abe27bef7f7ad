"""Draws both photographs of every pair, with lines between matches."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from pairs import Pair
from PIL import Image

RIGHT, WRONG = "#2ee65c", "#ff3b30"
GAP = 12  # white pixels between the photographs
WIDTH, TITLE, MARGIN = 14.0, 0.34, 0.12  # inches


def draw_matches(
    path: Path, pairs: list[Pair], found: list[np.ndarray], right: list[np.ndarray], titles: list[str]
) -> None:
    """Write a figure with two pairs per row; `found` (N, 2) is green where `right` (N,) is True and red elsewhere."""
    panels = list(zip(pairs, found, right, titles, strict=True))
    rows = [panels[i : i + 2] for i in range(0, len(panels), 2)]
    shapes = [[aspect(pair) for pair, *_ in row] for row in rows]
    heights = [(WIDTH - MARGIN * (len(row) - 1)) / sum(row) for row in shapes]  # a row fills the width
    total = sum(heights) + TITLE * len(rows) + MARGIN * (len(rows) - 1)
    figure = plt.figure(figsize=(WIDTH, total))
    top = total
    for row, row_shapes, height in zip(rows, shapes, heights, strict=True):
        left, bottom = 0.0, top - TITLE - height
        for panel, shape in zip(row, row_shapes, strict=True):
            width = shape * height
            draw_pair(figure.add_axes((left / WIDTH, bottom / total, width / WIDTH, height / total)), *panel)
            left += width + MARGIN
        top = bottom - MARGIN
    figure.savefig(path, dpi=130)
    plt.close(figure)


def aspect(pair: Pair) -> float:
    """Return the width of a pair's panel divided by its height."""
    height, width = pair.source.shape[:2]
    return (2 * width + GAP) / height


def draw_pair(panel: Axes, pair: Pair, found: np.ndarray, right: np.ndarray, title: str) -> None:
    height, width = pair.source.shape[:2]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    panel.imshow(np.hstack([pair.source, gap, pair.target]), aspect="auto")
    panel.set_title(title, fontsize=12)
    panel.axis("off")
    found = np.add(found, (width + GAP, 0))
    for these, colour in ((right, RIGHT), (~right, WRONG)):
        lines = np.stack([pair.keypoints[these], found[these]], 1)
        panel.add_collection(LineCollection(lines, colors=colour, linewidths=0.9, alpha=0.8))
        for points in (pair.keypoints[these], found[these]):
            panel.scatter(*points.T, s=14, color=colour, edgecolors="black", linewidths=0.5, zorder=3)


def write_small_copy(picture: Path, copy: Path, width: int = 1100) -> None:
    """Write a narrower copy for a web page, with a palette of 256 colours."""
    with Image.open(picture) as image:
        size = (width, round(image.height * width / image.width))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        small.quantize(256, dither=Image.Dither.NONE).save(copy, optimize=True)
