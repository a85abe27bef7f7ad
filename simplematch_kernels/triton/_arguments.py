"""Options of the operators as kernel arguments: lower case at run time, upper case compiled in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor

from .._resolved import IDENTITY, AffineMap, Localization, Metric, Sampling, Window

SAMPLINGS = {"floor": 1, "round": 2, "bilinear": 3}
METRICS = {"cosine": 0, "dot": 1, "l2": 2}


def of_strides(prefix: str, axes: str, x: Tensor | tuple[int, ...] | None) -> dict[str, int]:
    """The strides of x as `prefix_axis`; zeros for a tensor that is not there."""
    names = _names(prefix, axes)
    if x is None:
        return dict.fromkeys(names, 0)
    return dict(zip(names, x.stride() if isinstance(x, Tensor) else x, strict=True))


@lru_cache(maxsize=256)
def _names(prefix: str, axes: str) -> tuple[str, ...]:
    return tuple(f"{prefix}_{axis}" for axis in axes)


def of_affine(prefix: str, x: AffineMap, y: AffineMap) -> dict[str, float]:
    return {
        f"{prefix}reciprocal_x": 1.0 / x.denominator, f"{prefix}reciprocal_y": 1.0 / y.denominator,
        f"{prefix}numerator_x": x.numerator, f"{prefix}shift_x": x.shift, f"{prefix}divisor_x": x.denominator,
        f"{prefix}numerator_y": y.numerator, f"{prefix}shift_y": y.shift, f"{prefix}divisor_y": y.denominator,
    }  # fmt: skip


def of_sampling(sampling: Sampling | None, prefix: str = "") -> dict[str, Any]:
    if sampling is None:
        return {**of_affine(prefix, IDENTITY, IDENTITY), "SAMPLING": 0, "BORDER": False}
    return {
        **of_affine(prefix, sampling.to_cells_x, sampling.to_cells_y),
        "SAMPLING": SAMPLINGS[sampling.mode],
        "BORDER": sampling.padding == "border",
    }


def of_metric(metric: Metric) -> dict[str, Any]:
    return {"eps": metric.eps, "METRIC": METRICS[metric.kind], "CLAMP_EPS": metric.clamp_eps}


def of_window(window: Window, H: int, W: int) -> dict[str, Any]:
    rows, columns = window.box(H, W)
    return {
        "window_height": window.height, "window_width": window.width, "rows": rows, "columns": columns,
        "outside_value": window.outside_value, "sigma": window.sigma,
        "SHIFT": window.shift, "DISC": window.disc, "GAUSSIAN": window.sigma > 0, "OUTSIDE": window.has_outside,
    }  # fmt: skip


def of_temperature(temperature: Tensor | None, localization: Localization) -> dict[str, Any]:
    value = localization.temperature
    return {
        "temperature": temperature,
        "temperature_value": 1.0 if value is None else value,
        **of_strides("temperature", "bn", temperature),
    }


def is_native(source: Tensor, target: Tensor, sampling: Sampling | None) -> bool:
    """Whether sampled queries are exact in the target's dtype, so that products may take them in it."""
    return source.dtype == target.dtype and (sampling is None or sampling.mode != "bilinear")
