"""Figures: matches between two images, grids of them, and PCK curves."""

from .curves import draw_curves
from .matches import MatchPanel, as_array, draw_grid, encode_figure, save_figure
from .predictions import prediction_panel

__all__ = ["MatchPanel", "as_array", "draw_curves", "draw_grid", "encode_figure", "prediction_panel", "save_figure"]
