"""Draws the images of a pair side by side, with lines between matches (Figures 5 and 6 of the paper)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from PIL import Image

from .._files import DataError, write_bytes
from ..data.records import FloatArray

RIGHT, WRONG = "#1fd655", "#ff3b30"
COLOURS = "viridis"
_HEIGHT = 320  # pixels of both images when drawn
_GAP = 8
_TITLE, _MARGIN = 0.32, 0.08  # inches
_DPI = 100
_MOST_LINES = 200  # more lines would be illegible

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class MatchPanel:
    """A pair to draw.

    Attributes:
        source, target: (H, W, 3) uint8, of any sizes.
        points, matches: (N, 2) as (x, y) in pixels of source and target.
        correct: (N,) bool: draws True green and False red.
        confidence: (N,): colours the lines, the most confident on top; used without `correct`.
        covariance: (N, 2, 2) of the matches in pixels squared: draws ellipses of two standard deviations.
        probability: `confidence` is the probability of a match: colours cover 0 to 1, and below 0.5 lines are red.
        radius: (N,) of the matches in pixels of target: draws circles.
        title: a line of text above the pair.
    """

    source: Pixels
    target: Pixels
    points: FloatArray
    matches: FloatArray
    correct: npt.NDArray[np.bool_] | None = None
    confidence: FloatArray | None = None
    covariance: FloatArray | None = None
    probability: bool = False
    radius: FloatArray | None = None
    title: str = ""


def draw_grid(rows: Sequence[Sequence[MatchPanel]]) -> Figure:
    """Draw rows of panels; all panels of a row have the same height."""
    if not rows or not all(rows):
        raise ValueError("rows must have at least one panel each, got none")
    shapes = [[_width(panel) for panel in row] for row in rows]
    inches = _HEIGHT / _DPI
    width = max(sum(row) / _DPI + _MARGIN * (len(row) + 1) for row in shapes)
    titled = [_TITLE if any(panel.title for panel in row) else _MARGIN for row in rows]
    height = sum(inches + title for title in titled) + _MARGIN
    figure = Figure(figsize=(width, height), dpi=_DPI)
    top = height
    for row, widths, title in zip(rows, shapes, titled, strict=True):
        left = _MARGIN
        for panel, pixels in zip(row, widths, strict=True):
            box = (left / width, (top - title - inches) / height, pixels / _DPI / width, inches / height)
            _draw(figure.add_axes(box), panel)
            left += pixels / _DPI + _MARGIN
        top -= title + inches
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of the file's suffix.

    Raises:
        DataError: the suffix is unknown.
        WriteError: the file can't be written.
    """
    write_bytes(path, encode_figure(figure, path))


def encode_figure(figure: Figure, path: Path) -> bytes:
    """Encode a figure in the format of the path's suffix.

    Raises:
        DataError: the suffix is unknown.
    """
    file = io.BytesIO()
    try:
        figure.savefig(file, format=path.suffix[1:] or None, dpi=_DPI)
    except ValueError as error:
        raise DataError(f"figure {path} can't be written: {error}") from error
    return file.getvalue()


def as_array(figure: Figure) -> Pixels:
    """Render a figure as (H, W, 3) uint8."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    with Image.open(file, formats=["PNG"]) as image:
        return np.array(image.convert("RGB"))


def _width(panel: MatchPanel) -> int:
    """Return the panel's width in pixels."""
    return _GAP + sum(_scaled_width(image) for image in (panel.source, panel.target))


def _scaled_width(image: Pixels) -> int:
    return max(round(float(image.shape[1] * _HEIGHT / image.shape[0])), 1)


def _draw(axes: Axes, panel: MatchPanel) -> None:
    source, target = (_scaled(image) for image in (panel.source, panel.target))
    canvas = np.full((_HEIGHT, _width(panel), 3), 255, dtype=np.uint8)
    canvas[:, : source.shape[1]] = source
    canvas[:, source.shape[1] + _GAP :] = target
    axes.imshow(canvas, extent=(0, canvas.shape[1], _HEIGHT, 0), interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(panel.title, fontsize=9, pad=3)
    keep, colours = _colours(panel)
    starts = panel.points[keep] * (_HEIGHT / panel.source.shape[0])
    ends = panel.matches[keep] * (_HEIGHT / panel.target.shape[0]) + (source.shape[1] + _GAP, 0)
    axes.add_collection(LineCollection(list(np.stack((starts, ends), 1)), colors=colours, linewidths=1.1, alpha=0.85))
    if panel.covariance is not None:
        scale = _HEIGHT / panel.target.shape[0]
        axes.add_collection(_ellipses(panel.covariance[keep] * scale**2, ends, colours, axes))
    if panel.radius is not None:
        radius = panel.radius[keep] * (_HEIGHT / panel.target.shape[0])
        axes.add_collection(_ellipses((radius**2 / 4)[:, None, None] * np.eye(2), ends, colours, axes))
    for ends_of_lines in (starts, ends):
        axes.scatter(
            ends_of_lines[:, 0], ends_of_lines[:, 1], s=14, c=colours, edgecolors="white", linewidths=0.5, zorder=3
        )


def _ellipses(covariance: FloatArray, centres: FloatArray, colours: Any, axes: Axes) -> EllipseCollection:
    """Ellipses of two standard deviations; of a covariance that isn't finite, none."""
    finite = np.where(np.isfinite(covariance).all((1, 2), keepdims=True), covariance, 0)
    variances, axes_of_ellipses = np.linalg.eigh(finite)
    widths, heights = 4 * np.sqrt(variances.clip(min=0)).T
    angles = np.degrees(np.arctan2(axes_of_ellipses[:, 1, 0], axes_of_ellipses[:, 0, 0]))
    return EllipseCollection(
        widths,
        heights,
        angles,
        units="xy",
        offsets=centres,
        offset_transform=axes.transData,
        facecolors="none",
        edgecolors=colours,
        linewidths=1.0,
        zorder=2,
    )


def _scaled(image: Pixels) -> Pixels:
    resized = Image.fromarray(image).resize((_scaled_width(image), _HEIGHT), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _colours(panel: MatchPanel) -> tuple[npt.NDArray[np.intp], Any]:
    """Choose the lines to draw, the last on top, and their colours."""
    count = len(panel.points)
    if panel.correct is not None:
        keep = np.arange(count)[:: max(-(-count // _MOST_LINES), 1)]
        return keep, np.where(panel.correct[keep], RIGHT, WRONG)
    if panel.confidence is None:
        keep = np.arange(count)[:: max(-(-count // _MOST_LINES), 1)]
        return keep, np.full(len(keep), RIGHT)
    keep = np.argsort(panel.confidence)[-_MOST_LINES:]
    values = panel.confidence[keep]
    if panel.probability:
        colours = colormaps[COLOURS](Normalize(0.5, 1)(values))
        colours[values < 0.5] = to_rgba(WRONG)
        return keep, colours
    return keep, colormaps[COLOURS](Normalize(values.min(), max(values.max(), values.min() + 1e-6))(values))
