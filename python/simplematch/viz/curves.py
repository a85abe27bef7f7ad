"""PCK against alpha (Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def draw_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str = "") -> Figure:
    """Draw one line per name from its alphas and its PCK, 0 to 1."""
    if not curves:
        raise ValueError("curves must have at least one item, got none")
    figure = Figure(figsize=(5.2, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, (alphas, pck) in curves.items():
        axes.plot(alphas, [100 * value for value in pck], marker="o", markersize=3.5, linewidth=1.4, label=name)
    axes.set_xlabel("alpha")
    axes.set_ylabel("PCK, %")
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8)
    return figure
