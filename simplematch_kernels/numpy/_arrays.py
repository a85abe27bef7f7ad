"""Arrays as the compiled module takes them, and those it fills."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast, overload

import numpy as np
from numpy.typing import NDArray

from .._resolved import Window
from .._result_options import DetailOptions
from ..native import _records
from ..native._records import _C

if TYPE_CHECKING:
    from .._C import View

Array = NDArray[Any]

CODES = {name: _records.CODES[name] for name in ("float32", "float64", "bfloat16", "float16")}
"""Of the dtypes, by name: bfloat16 is no dtype of NumPy itself, but that of the package ml_dtypes."""


class Matches(NamedTuple):
    """Where each query matches in the target.

    Invalid rows hold keypoints (-1, -1), score 0, peak -1 and log_sum_exp 0. It has the attributes of `DetailedMatches`
    too, which are None.

    Attributes:
        keypoints: (B, N, 2) matched points as (x, y), in pixels of `target_size`, or in cells if that was None.
        score: (B, N) similarity at the peak.
        peak: (B, N) int64 flat index y * W + x of the best cell.
        log_sum_exp: (B, N) log of the sum of exp(score / temperature) over the support, so that the
            probability of the peak is exp(score / temperature - log_sum_exp).
    """

    keypoints: Array
    score: Array
    peak: Array
    log_sum_exp: Array

    @property
    def covariance(self) -> Array | None:
        return None

    @property
    def second_score(self) -> Array | None:
        return None

    @property
    def second_peak(self) -> Array | None:
        return None

    @property
    def top_score(self) -> Array | None:
        return None

    @property
    def top_peak(self) -> Array | None:
        return None

    @property
    def scores(self) -> Array | None:
        return None


class DetailedMatches(NamedTuple):
    """`Matches`, and what `return_covariance`, `return_second`, `top_k` and `return_scores` ask for; None where not.

    Attributes: those of `simplematch_kernels.DetailedMatches`.
    """

    keypoints: Array
    score: Array
    peak: Array
    log_sum_exp: Array
    covariance: Array | None = None
    second_score: Array | None = None
    second_peak: Array | None = None
    top_score: Array | None = None
    top_peak: Array | None = None
    scores: Array | None = None


def as_detailed(matches: Matches, **details: Array | None) -> Matches:
    """`DetailedMatches` with further fields; the functions promise `Matches`, all of whose fields they have."""
    plain = DetailedMatches(*matches) if isinstance(matches, DetailedMatches) else DetailedMatches(*matches[:4])
    return cast(Matches, plain._replace(**cast(dict[str, Any], details)))


def concatenated(parts: Sequence[Matches]) -> Matches:
    """The matches of blocks of queries as those of all of them."""
    if len(parts) == 1:
        return parts[0]
    fields = (np.concatenate(x, 1) if x[0] is not None else None for x in zip(*parts, strict=True))
    return type(parts[0])(*fields)  # type: ignore[arg-type]


class DenseMatches(NamedTuple):
    """Where each source cell matches in the target. Cells outside the mask hold flow (0, 0), score 0 and log_sum_exp 0.

    Attributes:
        flow: (B, 2, Hs, Ws) from the cell's own place, in pixels of `source_size`, to the matched point in pixels of
            `target_size`, as (x, y); each in cells if its size was None.
        score: (B, Hs, Ws) similarity at the peak.
        log_sum_exp: (B, Hs, Ws) as in `Matches`.
        mutual: (B, Hs, Ws) bool, whether the best source cell of the peak is this one; None if not asked for.
    """

    flow: Array
    score: Array
    log_sum_exp: Array
    mutual: Array | None


class Rows(NamedTuple):
    """Which query rows and target cells take part, or None: int64 (B,), bool (B, N) and bool (B, H, W) or (B, N, H, W),
    contiguous.
    """

    num_keypoints: Array | None = None
    valid: Array | None = None
    target_mask: Array | None = None


def addressable(array: Array) -> Array:
    """The array itself if C++ can address its elements, else a contiguous copy in native byte order."""
    strides = zip(array.shape, array.strides, strict=True)
    if array.flags.aligned and array.dtype.isnative and all(n < 2 or s % array.itemsize == 0 for n, s in strides):
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", subok=False)


def address(array: Array) -> int:
    """Of the first element, also of an array that can't be written."""
    start: int = array.__array_interface__["data"][0]
    return start


def addresses(arrays: tuple[Array, ...]) -> list[int]:
    return [address(x) for x in arrays]


def native_rows(rows: Rows) -> _C.Rows:
    mask = rows.target_mask
    of_query = mask.shape[2] * mask.shape[3] if mask is not None and mask.ndim == 4 else 0
    return _records.native_rows(*(None if x is None else address(x) for x in rows), target_mask_stride=of_query)


@overload
def view(array: Array) -> View: ...
@overload
def view(array: Array | None) -> View | None: ...
def view(array: Array | None) -> View | None:
    """(address, dtype code, shape, strides in elements) of an addressable array."""
    if array is None:
        return None
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return address(array), CODES[array.dtype.name], array.shape, strides


def accumulation_dtype(features: Array) -> np.dtype[Any]:
    return np.dtype(np.float64 if features.dtype == np.float64 else np.float32)


def empty_matches(batch: int, queries: int, dtype: np.dtype[Any]) -> Matches:
    return Matches(
        np.empty((batch, queries, 2), dtype),
        np.empty((batch, queries), dtype),
        np.empty((batch, queries), np.int64),
        np.empty((batch, queries), dtype),
    )


def add_details(matches: Matches, details: DetailOptions | None) -> Matches:
    """With room for what else is wanted, as `DetailedMatches`; functions promise `Matches`, whose fields these have."""
    if details is None:
        return matches
    shape, dtype = matches.score.shape, matches.score.dtype
    covariance = np.empty((*shape, 2, 2), dtype) if details.return_covariance else None
    score, peak = (np.empty(shape, dtype), np.empty(shape, np.int64)) if details.return_second else (None, None)
    return as_detailed(matches, covariance=covariance, second_score=score, second_peak=peak)


def native_matches(matches: Matches) -> _C.Matches:
    details = (matches.covariance, matches.second_score, matches.second_peak)
    plain = _records.native_matches(*addresses(matches[:4]))
    return _records.native_details(plain, *(None if x is None else address(x) for x in details))


def empty_kept(target: Array, window: Window) -> tuple[Array, Array]:
    """What the kernel leaves for a backward besides the matches: norms of the cells, and window scores of no query."""
    batch, _, height, width = target.shape
    dtype = accumulation_dtype(target)
    return np.empty((batch, height * width), dtype), np.empty((batch, 0, *window.box(height, width)), dtype)


def default_threads() -> int:
    """OMP_NUM_THREADS if that is a number, else the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
