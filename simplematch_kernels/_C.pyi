"""The compiled module: the operators of `csrc/run.h`.

Records are those of `csrc/include/simplematch`, as dictionaries of their fields; fields that are left out
keep their defaults, and None stands for what is not given or not wanted. Arguments are not checked.
"""

from collections.abc import Callable
from typing import Any, TypedDict

View = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""A tensor: address, dtype code, shape, strides in elements. A contiguous array of known shape is its address alone."""

CODES: dict[str, int]
"""Of devices, dtypes and modes, by name."""

has_cuda: bool
emulates_cuda: bool

def simd_level() -> str: ...
def why_not_cuda() -> str | None: ...
def extremes(tensor: View) -> tuple[float, float]:
    """The least and the largest number of a float32 or float64 tensor of two or three dimensions; NaN if one is NaN."""

def __getattr__(operator: str) -> Callable[..., None]:
    """An operator of simplematch.h, (problem, result, device, allocate), or its backward, (problem, what the backward
    reads of the forward, upstream, gradients, device, allocate), with records as below.
    """

# Made once for many calls, so these are objects. The keyword arguments are the fields.
class Sampling:
    def __init__(self, **fields: Any) -> None: ...

class Metric:
    def __init__(self, **fields: Any) -> None: ...

class Localization:
    def __init__(self, **fields: Any) -> None: ...

class Truth:
    def __init__(self, **fields: Any) -> None: ...

class Device:
    def __init__(self, *, kind: int = ..., index: int = ..., threads: int = ..., stream: int | None = ...) -> None: ...

Allocate = Callable[[int], int] | None
"""Bytes -> address of scratch memory on the device that lives until the call is over; the CPU asks for none."""

class Rows(TypedDict, total=False):
    num_keypoints: int | None
    valid: int | None
    target_mask: int | None
    target_mask_stride: int

class Matches(TypedDict, total=False):
    keypoints: int
    score: int
    peak: int
    log_sum_exp: int
    covariance: int | None
    second_score: int | None
    second_peak: int | None

class MatchProblem(TypedDict, total=False):
    source: View
    keypoints: View | None
    target: View
    temperature: View | None
    rows: Rows | None
    sampling: Sampling | None
    metric: Metric
    localization: Localization
    kept_queries: int
    score_budget: int

class MatchResult(TypedDict):
    matches: Matches
    target_norm: int
    window_scores: int

class LocalizeProblem(TypedDict, total=False):
    scores: View
    temperature: View | None
    rows: Rows | None
    localization: Localization

class GatherProblem(TypedDict, total=False):
    features: View
    keypoints: View
    sampling: Sampling

class SimilarityProblem(TypedDict, total=False):
    descriptors: View
    target: View
    metric: Metric
    score_budget: int

class SimilarityResult(TypedDict):
    scores: int
    target_norm: int

class MatchAllProblem(TypedDict, total=False):
    a: View
    b: View
    temperature: View | None
    bin_score: View | None
    rows_a: Rows | None
    rows_b: Rows | None
    metric: Metric
    fixed_temperature: float
    fixed_bin_score: float
    score_budget: int

class MatchAllResult(TypedDict):
    index_a: int
    score_a: int
    log_sum_exp_a: int | None
    second_a: int | None
    index_b: int
    score_b: int
    log_sum_exp_b: int | None
    second_b: int | None
    mutual: int
    norm_a: int
    norm_b: int

class PairProblem(TypedDict, total=False):
    a: View
    b: View
    index_a: int
    index_b: int
    pairs: int
    metric: Metric

class CrossEntropyProblem(TypedDict, total=False):
    source: View
    keypoints: View | None
    target: View
    target_keypoints: View
    temperature: View | None
    rows: Rows | None
    sampling: Sampling | None
    metric: Metric
    truth: Truth
    score_budget: int

class CrossEntropyResult(TypedDict):
    loss: int
    cell: int
    target_norm: int

class UpsampledProblem(TypedDict, total=False):
    scores: View
    products: int | None
    temperature: View | None
    rows: Rows | None
    metric: Metric
    localization: Localization
    height: int
    width: int
    score_budget: int

class CorrelationProblem(TypedDict, total=False):
    queries: View
    target: View
    coords: View
    offsets: View | None
    rows: Rows | None
    sampling: Sampling
    metric: Metric
    radius_y: int
    radius_x: int
    scale: float
