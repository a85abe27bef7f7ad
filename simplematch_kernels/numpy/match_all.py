"""Two sets of descriptors against each other, on arrays."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np

from .. import _check_shapes
from .._check_options import check_switch
from .._options import MetricOptions
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

    The other arguments mean what they mean there.

    Returns:
        `AllMatches`, float32, or float64 for float64 features. Padding, and descriptors without a candidate, hold index
        -1, score 0, log_sum_exp 0 and second 0, and are not mutual; but with a bin, the log_sum_exp of the latter is
        bin_score / temperature. A second that isn't there is -inf. log_sum_exp and second are None if not asked for.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    first, second = check_sets(a, b)
    batch, of_a, of_b = first.shape[0], first.shape[2] * first.shape[3], second.shape[2] * second.shape[3]
    rows = [
        _checks.check_counts("num_a", num_a, "a", batch, "descriptors of a", of_a),
        _check_valid("valid_a", valid_a, first),
        _checks.check_counts("num_b", num_b, "b", batch, "descriptors of b", of_b),
        _check_valid("valid_b", valid_b, second),
    ]
    options = MetricOptions(metric, eps, eps_mode).checked().resolve()
    dtype = _arrays.accumulation_dtype(first)
    fixed_temperature, temperatures = _image_number("temperature", temperature, first, above=0.0)
    if temperatures is not None and temperatures.size and not temperatures.min() > 0:
        raise _check_shapes.temperature_not_above_zero(float(temperatures.min()))
    fixed_bin, bins = (-math.inf, None) if bin_score is None else _image_number("bin_score", bin_score, first)
    check_switch("return_log_sum_exp", return_log_sum_exp)
    check_switch("return_second", return_second)

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
    first, second = _checks.check_set("a", a), _checks.check_set("b", b)
    _checks.check_pair("a", first, "b", second)
    if first.shape[1] == 0:
        raise ValueError(f"a must have at least one channel, got shape {a.shape}")
    return first, second


def _check_valid(name: str, value: object, x: Array) -> Array | None:
    if value is None:
        return None
    shape, expected = "(B, N)" if name.endswith("a") else "(B, M)", (x.shape[0], x.shape[2] * x.shape[3])
    if isinstance(value, np.ndarray) and value.ndim == 3:  # of a map
        shape, expected = "(B, H, W)", (x.shape[0], *x.shape[2:])
    return _checks.check_mask(name, value, shape, expected)


def _image_number(name: str, value: object, a: Array, above: float = -math.inf) -> tuple[float, Array | None]:
    """(number, None), or (1, contiguous array of (B,)), whose number the kernel doesn't read."""
    number, array = _checks.check_number_or_array(name, value, "(B,)", a.shape[:1], a, above)
    return 1.0 if number is None else number, None if array is None else np.ascontiguousarray(array)
