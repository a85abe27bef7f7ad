"""The compiled module: the operators of `csrc/run.h`.

Records are those of `csrc/include/simplematch/simplematch.h`, as dictionaries of their fields; fields that are left out
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

# Made once for many calls, so these are objects. The keyword arguments are the fields.
class Sampling:
    def __init__(self, **fields: Any) -> None: ...

class Metric:
    def __init__(self, **fields: Any) -> None: ...

class Localization:
    def __init__(self, **fields: Any) -> None: ...

class Device:
    def __init__(self, *, kind: int = ..., index: int = ..., threads: int = ..., stream: int | None = ...) -> None: ...

Allocate = Callable[[int], int] | None
"""Bytes -> address of scratch memory on the device that lives until the call is over; the CPU asks for none."""

class Rows(TypedDict, total=False):
    num_keypoints: int | None
    valid: int | None
    target_mask: int | None

class Upstream(TypedDict, total=False):
    keypoints: View | None
    score: View | None
    log_sum_exp: View | None

class Matches(TypedDict):
    keypoints: int
    score: int
    peak: int
    log_sum_exp: int

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

class MatchGradients(TypedDict, total=False):
    source: View | None
    keypoints: View | None
    target: View | None
    temperature: View | None

def sparse_window_match(
    problem: MatchProblem, result: MatchResult, device: Device, allocate: Allocate = None
) -> None: ...
def sparse_window_match_backward(
    problem: MatchProblem,
    forward: MatchResult,
    upstream: Upstream,
    gradients: MatchGradients,
    device: Device,
    allocate: Allocate,
    /,
) -> None: ...

class LocalizeProblem(TypedDict, total=False):
    scores: View
    temperature: View | None
    rows: Rows | None
    localization: Localization

class LocalizeGradients(TypedDict, total=False):
    scores: View | None
    temperature: View | None

def localize(problem: LocalizeProblem, result: Matches, device: Device, allocate: Allocate = None) -> None: ...
def localize_backward(
    problem: LocalizeProblem,
    forward: Matches,
    upstream: Upstream,
    gradients: LocalizeGradients,
    device: Device,
    allocate: Allocate,
    /,
) -> None: ...

class GatherProblem(TypedDict, total=False):
    features: View
    keypoints: View
    sampling: Sampling

class GatherResult(TypedDict):
    descriptors: int

class GatherUpstream(TypedDict):
    descriptors: View

class GatherGradients(TypedDict, total=False):
    features: View | None
    keypoints: View | None

def gather_keypoints(
    problem: GatherProblem, result: GatherResult, device: Device, allocate: Allocate = None
) -> None: ...
def gather_keypoints_backward(
    problem: GatherProblem,
    upstream: GatherUpstream,
    gradients: GatherGradients,
    device: Device,
    allocate: Allocate,
    /,
) -> None: ...

class SimilarityProblem(TypedDict, total=False):
    descriptors: View
    target: View
    metric: Metric
    score_budget: int

class SimilarityResult(TypedDict):
    scores: int
    target_norm: int

class SimilarityUpstream(TypedDict):
    scores: View

class SimilarityGradients(TypedDict, total=False):
    descriptors: View | None
    target: View | None

def cosine_similarity(
    problem: SimilarityProblem, result: SimilarityResult, device: Device, allocate: Allocate = None
) -> None: ...
def cosine_similarity_backward(
    problem: SimilarityProblem,
    forward: SimilarityResult,
    upstream: SimilarityUpstream,
    gradients: SimilarityGradients,
    device: Device,
    allocate: Allocate,
    /,
) -> None: ...
