"""Two sets of descriptors against each other, on arrays."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np

from .. import _check_shapes
from .._check_options import check_number
from .._options import MetricOptions
from .._set_checks_shared import SET, check_flag, counts_out_of_range, temperature_not_above_zero, wrong_number_shape
from ..native import _records
from ..native._records import _C
from . import _arrays, _checks
from ._arrays import Array, view


class AllMatches(NamedTuple):
    """The best partner of every descriptor of a in b, and the other way round: `simplematch_kernels.AllMatches`.

    index_a (B, N) int64, score_a, log_sum_exp_a and second_a (B, N); index_b, ... (B, M); mutual (B, N) bool. What was
    not asked for is None.
    """

    index_a: Array
    score_a: Array
    log_sum_exp_a: Array | None
    index_b: Array
    score_b: Array
    log_sum_exp_b: Array | None
    mutual: Array
    second_a: Array | None = None
    second_b: Array | None = None


def match_all(
    a: Array,
    b: Array,
    *,
    num_a: Array | None = None,
    num_b: Array | None = None,
    valid_a: Array | None = None,
    valid_b: Array | None = None,
    metric: str = "cosine",
    eps: float = 1e-8,
    eps_mode: str = "add",
    temperature: float | Array = 1.0,
    bin_score: float | Array | None = None,
    return_log_sum_exp: bool = True,
    return_second: bool = False,
    threads: int | None = None,
) -> AllMatches:
    """Match every descriptor of a with every one of b, both ways at once: `simplematch_kernels.match_all`.

    Args:
        a: (B, N, C) descriptors, or a map (B, C, H, W) with N = H * W, any strides.
        b: (B, M, C) descriptors or a map, of the dtype of a.
        num_a: (B,) integers; descriptors n >= num_a[i] of image i are padding. num_b likewise.
        valid_a: (B, N), or (B, H, W) of a map, bool; False descriptors are padding. valid_b likewise.
        temperature: a number, a 0-d array or a (B,) array; above zero.
        bin_score: score of "no match": a number, a 0-d array, a (B,) array, or None: there is no such bin.
        threads: as in `sparse_window_match`.

    The other arguments and the result mean what they mean there.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    first, second = check_sets(a, b)
    batch, of_a, of_b = first.shape[0], first.shape[2] * first.shape[3], second.shape[2] * second.shape[3]
    rows = [_check_counts("num_a", num_a, "a", batch, of_a), _check_valid("valid_a", valid_a, first),
            _check_counts("num_b", num_b, "b", batch, of_b), _check_valid("valid_b", valid_b, second)]  # fmt: skip
    options = MetricOptions(metric, eps, eps_mode).checked().resolve()
    dtype = _arrays.accumulation_dtype(first)
    fixed_temperature, temperatures = _check_number("temperature", temperature, batch, dtype, above=0.0)
    if temperatures is not None and temperatures.size and not temperatures.min() > 0:
        raise temperature_not_above_zero(float(temperatures.min()))
    fixed_bin, bins = (-math.inf, None) if bin_score is None else _check_number("bin_score", bin_score, batch, dtype)
    check_flag("return_log_sum_exp", return_log_sum_exp)
    check_flag("return_second", return_second)

    def side(count: int) -> list[Array | None]:
        score, total, runner_up = (
            np.empty((batch, count), dtype) if wanted else None for wanted in (True, return_log_sum_exp, return_second)
        )
        return [np.empty((batch, count), np.int64), score, total, runner_up]

    names = ("index", "score", "log_sum_exp", "second")
    results = {f"{name}_a": x for name, x in zip(names, side(of_a), strict=True)}
    results |= {f"{name}_b": x for name, x in zip(names, side(of_b), strict=True)}
    results["mutual"] = np.empty((batch, of_a), np.bool_)
    norms = {"norm_a": np.empty((batch, of_a), dtype), "norm_b": np.empty((batch, of_b), dtype)}
    addresses = {name: None if x is None else _arrays.address(x) for name, x in (results | norms).items()}
    rows_a, rows_b = (_arrays.native_rows(_arrays.Rows(*pair)) for pair in (rows[:2], rows[2:]))
    problem = _records.match_all_problem(
        view(first), view(second), view(temperatures), view(bins), rows_a, rows_b, options, fixed_temperature, fixed_bin
    )
    _checks.check_threads(threads)
    device = _records.cpu(_arrays.default_threads() if threads is None else threads)
    _C.match_all(problem, cast("_C.MatchAllResult", addresses), device)
    return AllMatches(**{name: results[name] for name in AllMatches._fields})  # type: ignore[arg-type]


def check_sets(a: Array, b: Array) -> tuple[Array, Array]:
    """Descriptors as maps (B, C, H, W): themselves, or a view (B, C, 1, N) of a list (B, N, C)."""
    first, second = _check_set("a", a), _check_set("b", b)
    _checks.check_pair("a", first, "b", second)
    if first.shape[1] == 0:
        raise ValueError(f"a must have at least one channel, got shape {a.shape}")
    return first, second


def _check_set(name: str, value: object) -> Array:
    """Descriptors as a map (B, C, H, W): themselves, or a view (B, C, 1, N) of a list (B, N, C)."""
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise _check_shapes.wrong_kind(name, "an array", SET, value)
    if value.ndim not in (3, 4):
        raise _check_shapes.wrong_shape(name, SET, value.shape)
    array = _checks.check_features(name, value, "(B, N, C)" if value.ndim == 3 else "(B, C, H, W)")
    return array if array.ndim == 4 else array.transpose(0, 2, 1)[:, :, None, :]


def _check_counts(name: str, value: object, of: str, batch: int, most: int) -> Array | None:
    if value is None:
        return None
    counts = _checks.check_array(name, value, "(B,)")
    if counts.dtype.kind not in "iu":
        raise _check_shapes.not_integers(name, counts.dtype)
    _check_shapes.check_equal(name, "batch size", counts.shape[0], of, batch)
    if counts.size and not 0 <= counts.min() <= counts.max() <= most:
        raise counts_out_of_range(name, of, most, counts.tolist())
    return np.ascontiguousarray(counts, np.int64)


def _check_valid(name: str, value: object, x: Array) -> Array | None:
    if value is None:
        return None
    shape, expected = "(B, N)" if name.endswith("a") else "(B, M)", (x.shape[0], x.shape[2] * x.shape[3])
    if isinstance(value, np.ndarray) and value.ndim == 3:
        shape, expected = "(B, H, W)", (x.shape[0], *x.shape[2:])
    mask = _checks.check_array(name, value, shape)
    if mask.dtype != np.bool_:
        raise _check_shapes.not_bool(name, mask.dtype)
    if mask.shape != expected:
        raise _check_shapes.wrong_mask_shape(name, shape, expected, mask.shape)
    return np.ascontiguousarray(mask)


def _check_number(
    name: str, value: object, batch: int, dtype: np.dtype[np.floating], above: float = -math.inf
) -> tuple[float, Array | None]:
    """(number, None), or (1, array expanded to (B,))."""
    if not isinstance(value, np.ndarray) or value.shape in ((), (1,)):
        return check_number(name, value, above=above), None
    if value.dtype.kind != "f":
        raise TypeError(f"{name} must be a floating-point array or a number, got {value.dtype}")
    if value.shape != (batch,):
        raise wrong_number_shape(name, "array", batch, value.shape)
    return 1.0, np.ascontiguousarray(value, dtype)
