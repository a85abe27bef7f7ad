"""The launches of a call of the operators, on tensors without memory: what a GPU would be asked to run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simplematch_kernels._options import LocalizationOptions, MetricOptions, SamplingOptions
from simplematch_kernels._resolved import Metric
from simplematch_kernels._result_options import DetailOptions
from simplematch_kernels._truth_options import TruthOptions
from simplematch_kernels._types import (
    AnyUpstream,
    CorrelationGradients,
    CorrelationProblem,
    CorrelationUpstream,
    CrossEntropyProblem,
    CrossEntropyUpstream,
    DetailedUpstream,
    GatherProblem,
    LocalizeGradients,
    LocalizeProblem,
    MatchAllGradients,
    MatchAllProblem,
    MatchAllUpstream,
    MatchDetails,
    MatchGradients,
    MatchProblem,
    MatchResult,
    NeighbourGradients,
    NeighbourProblem,
    NeighbourUpstream,
    Rows,
    SetRows,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityUpstream,
    UpsampledGradients,
    UpsampledProblem,
    Upstream,
)
from simplematch_kernels.triton import (
    _correlation,
    _launch,
    _match_all,
    _steps,
    _upsampled,
    backend,
)

Launch = tuple[Any, dict[str, Any], dict[str, Any]]
"""Kernel, arguments, compiler options."""


@dataclass(frozen=True)
class Variant:
    """One call of the operators. `layout` is that of both maps; the others are named as in `functional.matching`."""

    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    sampling: str | None = "floor"  # None: descriptors
    metric: str = "cosine"
    localization: str = "window"
    window_shape: str = "square"
    outside_value: float = -math.inf
    masked: bool = False
    query_masks: bool = False  # a mask for each query
    temperature: float | None = 0.02
    B: int = 8
    N: int = 30
    C: int = 768
    H: int = 63
    W: int = 63
    kept: bool = True
    own_sizes: bool = False  # whether each image has a size of its own
    upsample: tuple[int, int] | None = None
    correlates: bool = False  # `local_correlation` too
    matches_all: bool = False  # `match_all` too
    details: bool = False

    @property
    def name(self) -> str:
        defaults = Variant()
        changed = [
            str(getattr(self, field)).removeprefix("torch.")
            if field in ("dtype", "layout")
            else f"{field}={getattr(self, field)}"
            for field in self.__dataclass_fields__
            if getattr(self, field) != getattr(defaults, field) or field in ("dtype", "layout")
        ]
        return " ".join(changed)


@contextmanager
def recording(platform: str) -> Iterator[list[Launch]]:
    """Collects launches instead of making them; `platform` is what `_launch.PLATFORM` would say there."""
    launches: list[Launch] = []

    def record(
        kernel: Any,
        programs: int,
        device: torch.device,
        arguments: dict[str, Any],
        warps: int = 4,
        stages: int = 2,
        registers: int | None = None,
    ) -> None:
        assert 0 < programs < 2**31
        launches.append((kernel, dict(arguments), _launch.compiler_options(warps, stages, registers)))

    modules = _steps, _match_all, _upsampled, _correlation
    before = [module.launch for module in modules], _launch.PLATFORM
    _launch.PLATFORM = platform
    for module in modules:
        module.launch = record
    try:
        yield launches
    finally:
        for module, launch in zip(modules, before[0], strict=True):
            module.launch = launch
        _launch.PLATFORM = before[1]


def empty_map(layout: str, dtype: torch.dtype, B: int, C: int, H: int, W: int) -> Tensor:
    if layout == "sliced":
        return torch.empty(B, C, H + 3, W + 5, dtype=dtype, device="meta")[:, :, 1 : H + 1, 2 : W + 2]
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return torch.empty(B, C, H, W, dtype=dtype, device="meta", memory_format=memory_format)


def launches_of(variant: Variant, platform: str) -> list[Launch]:
    """The launches of a forward and a backward of `variant`, each kind once."""
    v = variant
    target = empty_map(v.layout, v.dtype, v.B, v.C, v.H, v.W)
    dtype = torch.float64 if v.dtype == torch.float64 else torch.float32
    sizes = torch.empty(v.B, 2, dtype=torch.int64, device="meta") if v.own_sizes else None
    localization = LocalizationOptions(
        localization=v.localization, window_size=(45, 45), window_shape=v.window_shape, outside_value=v.outside_value,
        sigma=7.0, fixed_temperature=v.temperature, target_size=(441, 441),
    ).checked().resolve(v.H, v.W, image_sizes=sizes)  # fmt: skip
    metric = MetricOptions(v.metric).resolve()
    mask = torch.empty(v.B, v.H * v.W, dtype=torch.bool, device="meta") if v.masked else None
    if v.query_masks:
        mask = torch.empty(v.B, v.N, v.H * v.W, dtype=torch.bool, device="meta")
    rows = Rows(torch.empty(v.B, dtype=torch.int64, device="meta"), None, mask)
    temperature = torch.empty(v.B, v.N, dtype=dtype, device="meta") if v.temperature is None else None
    if v.sampling is None:
        source = torch.empty(v.B, v.N, v.C, dtype=v.dtype, device="meta").transpose(1, 2).unsqueeze(2)
        keypoints = sampling = None
    else:
        source = empty_map(v.layout, v.dtype, v.B, v.C, v.H, v.W)
        keypoints = torch.empty(v.B, v.N, 2, device="meta")
        sampling = SamplingOptions((441, 441), "half_pixel", v.sampling).resolve(v.H, v.W, image_sizes=sizes)
    with recording(platform) as launches:
        if v.matches_all:
            launch_match_all(v, target, metric)
        problem = MatchProblem(
            source, keypoints, target, rows, temperature, sampling, metric, localization, v.N if v.kept else 0,
            DetailOptions(v.details, v.details),
        )  # fmt: skip
        forward: MatchResult | MatchDetails = backend.sparse_window_match(problem)
        upstream: AnyUpstream = Upstream(forward.keypoints, forward.score, forward.log_sum_exp)
        if v.details:
            forward = detailed = backend.sparse_window_match_detailed(problem)
            upstream = DetailedUpstream(*upstream, detailed.covariance)
        needs = MatchGradients(True, v.sampling == "bilinear", True, v.temperature is None)
        backend.sparse_window_match_backward(problem, forward, upstream, needs)
        if keypoints is not None and sampling is not None and v.C % 16 == 0:
            backend.gather_keypoints(GatherProblem(source, keypoints, sampling))
        if v.localization == "global":
            truth = TruthOptions(7, 1.5, (441, 441), "half_pixel", v.temperature).resolve(v.H, v.W)
            points = torch.empty(v.B, v.N, 2, device="meta")
            entropy = CrossEntropyProblem(
                source, keypoints, target, points, rows, temperature, sampling, metric, truth
            )  # fmt: skip
            losses = backend.sparse_match_cross_entropy(entropy)
            backend.sparse_match_cross_entropy_backward(entropy, losses, CrossEntropyUpstream(losses.loss), needs)
        if v.metric in ("l2", "l1"):  # descriptors: the functions that take them, or scores
            similarity = SimilarityProblem(source[:, :, 0].transpose(1, 2), target, metric)
            result = backend.cosine_similarity(similarity)
            arriving = SimilarityUpstream(result.scores)
            backend.cosine_similarity_backward(similarity, result, arriving, SimilarityGradients(True, True))
            scores = LocalizeProblem(result.scores, rows, temperature, localization, problem.details)
            matches = backend.localize_detailed(scores) if v.details else backend.localize(scores)
            backend.localize_backward(scores, matches, upstream, LocalizeGradients(True, True))
        if v.upsample is not None:
            _upsample(v, target, temperature, localization, metric)
        if v.correlates:
            _correlate(v, source, target, rows, metric)
    return launches


def launch_match_all(v: Variant, b: Tensor, metric: Metric) -> None:
    """`match_all` and its backward: of a list of descriptors without seconds, or of two maps with all there is."""
    lists = v.sampling is None
    a = torch.empty(v.B, v.N, v.C, dtype=v.dtype, device="meta").transpose(1, 2).unsqueeze(2) if lists else b
    number = torch.empty(v.B, dtype=torch.float64 if v.dtype == torch.float64 else torch.float32, device="meta")
    rows = SetRows(None, None, torch.empty(v.B, dtype=torch.int64, device="meta"), None)
    problem = MatchAllProblem(
        a, b, rows, None if lists else number, None if lists else number, metric, second=not lists
    )  # fmt: skip
    result = backend.match_all(problem)
    upstream = MatchAllUpstream(result.score_a, result.log_sum_exp_a, result.score_b, result.log_sum_exp_b)
    backend.match_all_backward(problem, result, upstream, MatchAllGradients(True, True, not lists, not lists))
    if lists:
        backend.match_all(problem._replace(log_sum_exp=False))


def _upsample(v: Variant, target: Tensor, temperature: Tensor | None, localization: Any, metric: Any) -> None:
    neighbours = NeighbourProblem(target)
    products = backend.neighbour_products(neighbours).products
    backend.neighbour_products_backward(neighbours, NeighbourUpstream(products), NeighbourGradients(True))
    dtype = torch.float64 if v.dtype == torch.float64 else torch.float32
    scores = torch.empty(v.B, v.N, v.H, v.W, dtype=dtype, device="meta")
    assert v.upsample is not None
    given = None if v.metric == "dot" else products
    problem = UpsampledProblem(scores, given, Rows(), temperature, v.upsample, metric, localization)
    matches = backend.localize_upsampled(problem)
    upstream = Upstream(matches.keypoints, matches.score, matches.log_sum_exp)
    backend.localize_upsampled_backward(problem, matches, upstream, UpsampledGradients(True, True, True))


def _correlate(v: Variant, source: Tensor, target: Tensor, rows: Rows, metric: Any) -> None:
    """A window around points in pixels, or offsets from points in cells with gradients in their dtype."""
    N = source.shape[2] * source.shape[3]
    coords = torch.empty(v.B, N, 2, device="meta")
    offsets = None if v.sampling == "bilinear" else torch.empty(v.B, 5, 2, device="meta")
    sampling = SamplingOptions((441, 441), "half_pixel", v.sampling or "bilinear", "border").resolve(v.H, v.W)
    problem = CorrelationProblem(source, target, coords, offsets, rows, sampling, metric, (4, 4), 1.0)
    found = backend.local_correlation(problem).correlation
    backend.local_correlation_backward(problem, CorrelationUpstream(found), CorrelationGradients(True, True, True))
