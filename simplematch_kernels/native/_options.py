"""The options as the compiled module takes them.

Options are resolved once and live in a cache, so the same object arrives again with every call of the same kind:
its native twin is looked up by identity, which takes a tenth of hashing it.
"""

from __future__ import annotations

from typing import Any

from .. import _native
from .._resolved import AffineMap, Localization, Metric, Sampling

_MODES = {"floor": 0, "round": 1, "bilinear": 2}
_KINDS = {"cosine": 0, "dot": 1, "l2": 2}
_MOST = 1024

_C = _native.load()
_twins: dict[int, tuple[object, Any]] = {}  # the option is kept with its twin, so that its identity stays its own


def _keep(option: object, twin: Any) -> Any:
    if len(_twins) >= _MOST:
        _twins.clear()
    _twins[id(option)] = (option, twin)
    return twin


def _affine(affine: AffineMap) -> tuple[int, int, int]:
    return affine.numerator, affine.shift, affine.denominator


_NO_SAMPLING = _C.Sampling((1, 0, 1), (1, 0, 1), 0, False)


def native_sampling(sampling: Sampling | None) -> Any:
    if sampling is None:
        return _NO_SAMPLING
    found = _twins.get(id(sampling))
    if found is not None:
        return found[1]
    return _keep(
        sampling,
        _C.Sampling(
            _affine(sampling.to_cells_x),
            _affine(sampling.to_cells_y),
            _MODES[sampling.mode],
            sampling.padding == "border",
        ),
    )


def native_metric(metric: Metric) -> Any:
    return _C.Metric(_KINDS[metric.kind], metric.eps, metric.clamp_eps)


def native_localization(localization: Localization) -> Any:
    found = _twins.get(id(localization))
    if found is not None:
        return found[1]
    window, temperature = localization.window, localization.temperature
    return _keep(
        localization,
        _C.Localization(
            window.height,
            window.width,
            window.shift,
            window.disc,
            window.outside_value,
            window.sigma,
            1.0 if temperature is None else temperature,
            _affine(localization.from_cells_x),
            _affine(localization.from_cells_y),
            localization.output_offset,
        ),
    )
