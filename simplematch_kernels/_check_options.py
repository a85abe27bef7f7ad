"""Checks of the options, shared by torch and NumPy: one sentence that names the option, what came and what may come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import _options

Size = Sequence[int] | None


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_size(name: str, value: Sequence[int] | None) -> tuple[int, int] | None:
    """An image size (height, width) in pixels, or None."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(_is_integer(v) for v in value):
        raise TypeError(f"{name} must be (height, width) in whole pixels or None, got {value!r}")
    if value[0] < 1 or value[1] < 1:
        raise ValueError(f"{name} must be at least 1 x 1 pixel, got {tuple(value)}")
    return value[0], value[1]


def check_window_size(value: int | Sequence[int]) -> tuple[int, int]:
    """k or (kh, kw) as (kh, kw) cells."""
    pair: Any = (value, value) if _is_integer(value) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(_is_integer(k) for k in pair):
        raise TypeError(f"window_size must be a whole number of cells, or (height, width), got {value!r}")
    if pair[0] < 1 or pair[1] < 1:
        raise ValueError(f"window_size must be at least 1 cell, got {value!r}")
    return pair[0], pair[1]


def _is_integer(value: object) -> bool:
    """An int, or the torch.SymInt that stands for one while a function is exported; told by name, without torch."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    return type(value).__name__ == "SymInt"


def check_number(name: str, value: object, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
    """A finite Python number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (above < value < math.inf and value >= at_least):  # NaN fails every comparison
        bound = f" above {above}" if above != -math.inf else f" of at least {at_least}" if at_least != -math.inf else ""
        raise ValueError(f"{name} must be a finite number{bound}, got {value}")
    return float(value)


def check_outside_value(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"outside_value must be a number, got {type(value).__name__}")
    if math.isnan(value) or value == math.inf:
        raise ValueError(f"outside_value must be -inf or a finite number, got {value}")
    return float(value)


def check_sampling(
    size: Size, coords: str, sampling: str, padding: str, names: tuple[str, str, str]
) -> tuple[tuple[int, int] | None, str, str, str]:
    """(size, coords, sampling, padding); `names` are those of the first, second and last in the caller's signature."""
    size_name, coords_name, padding_name = names
    check_choice(coords_name, coords, _options.COORDINATES)
    check_choice("sampling", sampling, _options.SAMPLINGS)
    check_choice(padding_name, padding, _options.SAMPLING_PADDINGS)
    return check_size(size_name, size), coords, sampling, padding


def check_metric(metric: str, eps: float, eps_mode: str) -> tuple[str, float, str]:
    check_choice("metric", metric, _options.METRICS)
    check_choice("eps_mode", eps_mode, _options.EPS_MODES)
    return metric, check_number("eps", eps, at_least=0.0), eps_mode


def check_localization(
    localization: str,
    window_size: int | Sequence[int],
    window_shape: str,
    border: str,
    outside_value: float,
    sigma: float | None,
) -> tuple[str, tuple[int, int], str, str, float, float]:
    check_choice("localization", localization, _options.LOCALIZATIONS)
    check_choice("window_shape", window_shape, _options.WINDOW_SHAPES)
    check_choice("border", border, _options.BORDERS)
    if localization == "gaussian" and sigma is None:
        raise ValueError("sigma must be given, in cells, for localization 'gaussian', got None")
    return (
        localization,
        check_window_size(window_size),
        window_shape,
        border,
        check_outside_value(outside_value),
        0.0 if sigma is None else check_number("sigma", sigma, above=0.0),
    )


def check_output(size: Size, coords: str, offset: float) -> tuple[tuple[int, int] | None, str, float]:
    check_choice("target_coords", coords, _options.COORDINATES)
    return check_size("target_size", size), coords, check_number("output_offset", offset)
