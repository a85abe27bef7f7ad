"""Every launch of the Triton backend, compiled for a chip that need not be there.

    python -m tests.triton_variants [--target cuda:90] [--quick]

prints registers, shared memory and spills of each kernel. The operators run on meta tensors with the launch replaced by
a recorder, so what is compiled is what they launch: same arguments, same tile sizes, same options.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from simplematch_kernels._options import DetailOptions, LocalizationOptions, MetricOptions, SamplingOptions
from simplematch_kernels._resolved import Metric
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
    _cross_entropy_steps,
    _launch,
    _match_all,
    _steps,
    _upsampled,
    backend,
)
from simplematch_kernels.triton.details import details_kernel

SHARED_MEMORY_LIMITS = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
TARGETS = {
    "cuda:80": GPUTarget("cuda", 80, 32),
    "cuda:90": GPUTarget("cuda", 90, 32),
    "cuda:100": GPUTarget("cuda", 100, 32),
    "hip:gfx942": GPUTarget("hip", "gfx942", 64),
}


Launch = tuple[Any, dict[str, Any], dict[str, Any]]
"""Kernel, arguments, compiler options."""
Place = tuple[int, ...]
"""Where an argument is: its number, and that of its field if it is a tuple."""


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


DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
PAPER = [Variant(dtype, layout) for dtype in DTYPES for layout in ("contiguous", "channels_last")]
ALIGNED = [Variant(dtype, layout, H=64, W=64) for dtype in DTYPES for layout in ("contiguous", "channels_last")]
MODES = [
    Variant(torch.float32, sampling="bilinear", temperature=None),
    Variant(torch.bfloat16, sampling="bilinear", layout="channels_last"),
    Variant(torch.float16, sampling="bilinear"),
    Variant(torch.float32, sampling=None, metric="l2"),
    Variant(torch.bfloat16, sampling=None, metric="dot", layout="channels_last"),
    Variant(torch.float32, localization="gaussian", masked=True, temperature=None),
    Variant(torch.float32, window_shape="disc", outside_value=0.0, masked=True, temperature=None),
    Variant(torch.float64, sampling="bilinear", localization="gaussian", outside_value=0.0, temperature=None),
    Variant(torch.float32, layout="sliced"),
    Variant(torch.bfloat16, layout="sliced", C=100),
    Variant(torch.float32, B=1, N=5, C=37, H=17, W=19),
    Variant(torch.float32, B=1, N=4096, H=64, W=64, kept=False),
    Variant(torch.bfloat16, B=2, N=4096, H=64, W=64, kept=False, layout="channels_last"),
    Variant(torch.float16, B=1, N=4096, H=64, W=64, kept=False),
    Variant(torch.float32, sampling="bilinear", own_sizes=True),
    Variant(torch.float64, B=1, N=200, C=64, H=64, W=64, kept=False),
    Variant(torch.float32, details=True),
    Variant(
        torch.bfloat16, details=True, layout="channels_last", localization="gaussian", masked=True, temperature=None
    ),
    Variant(torch.float32, details=True, window_shape="disc", outside_value=0.0, masked=True, temperature=None),
    Variant(torch.float64, details=True, sampling=None, metric="l2", outside_value=0.0),
    Variant(torch.float16, details=True, B=1, N=4096, H=64, W=64, kept=False),
]
ENTROPY = [
    Variant(torch.float32, localization="global"),
    Variant(torch.bfloat16, sampling="bilinear", localization="global", masked=True, temperature=None),
    Variant(torch.float64, sampling=None, localization="global", masked=True, temperature=None, N=200),
]
UPSAMPLED = [
    Variant(torch.float32, sampling=None, upsample=(252, 252)),
    Variant(torch.bfloat16, layout="channels_last", sampling=None, metric="l2", upsample=(375, 500)),
    Variant(torch.float16, sampling=None, metric="dot", upsample=(252, 252), temperature=None),
    Variant(torch.float64, sampling=None, upsample=(252, 252)),
]
CORRELATIONS = [
    Variant(torch.float32, sampling="bilinear", correlates=True),
    Variant(torch.bfloat16, sampling=None, layout="channels_last", correlates=True),
    Variant(torch.float16, sampling="bilinear", metric="dot", correlates=True),
    Variant(torch.float64, sampling="bilinear", correlates=True),
]
ALL = PAPER + ALIGNED + MODES + ENTROPY + UPSAMPLED + CORRELATIONS
DETAILS = [variant for variant in MODES if variant.details][:2]
# What the tests compile: everything for one chip, what differs most for the others.
TESTED = {
    "cuda:80": [*PAPER[:4], MODES[0], MODES[3], MODES[12], *DETAILS, ENTROPY[1], *UPSAMPLED, *CORRELATIONS[:2]],
    "cuda:90": ALL,
    "cuda:100": [*PAPER[:4], MODES[0], MODES[3], MODES[12], *DETAILS, ENTROPY[1], *UPSAMPLED, *CORRELATIONS[:2]],
    "hip:gfx942": [PAPER[0], PAPER[3], PAPER[6], MODES[0], CORRELATIONS[0]],
}


@dataclass(frozen=True)
class Compilation:
    """One kernel to compile: hashable, so that launches that several variants share are compiled once."""

    kernel: str
    variant: str
    signature: tuple[tuple[str, Any], ...]
    constants: tuple[tuple[Place, Any], ...]
    divisible: tuple[Place, ...]
    options: tuple[tuple[str, Any], ...]

    @property
    def key(self) -> tuple[Any, ...]:
        return self.kernel, self.signature, self.constants, self.divisible, self.options


@dataclass
class Report:
    """What the compiler says of a kernel; registers and spills only of NVIDIA's."""

    kernel: str
    variant: str
    shared: int
    warps: int
    registers: int = 0
    spilled: int = 0
    assembly: str = field(default="", repr=False)


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
    ).resolve(v.H, v.W, image_sizes=sizes)  # fmt: skip
    metric = MetricOptions(v.metric).resolve()
    mask = torch.empty(v.B, v.H * v.W, dtype=torch.bool, device="meta") if v.masked else None
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
        if v.sampling is None or v.N > 1000:
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
        if v.metric == "l2":  # descriptors: the functions that take them, or scores
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


def compilation_of(variant: str, launch: Launch) -> Compilation:
    """What Triton would specialise the kernel to: types, constants, and what is known to divide by 16."""
    kernel, arguments, options = launch
    signature: list[tuple[str, Any]] = []
    constants: list[tuple[Place, Any]] = []
    divisible: list[Place] = []
    for i, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr:
            signature.append((parameter.name, "constexpr"))
            constants.append(((i,), value))
        elif parameter.annotation_type:
            signature.append((parameter.name, parameter.annotation_type))
        else:
            kind = _specialize(value, (i,), not parameter.do_not_specialize, constants, divisible)
            signature.append((parameter.name, kind))
    described = tuple(signature), tuple(constants), tuple(divisible), tuple(options.items())
    return Compilation(kernel.__name__, variant, *described)


def _specialize(
    value: Any, path: Place, specialized: bool, constants: list[tuple[Place, Any]], divisible: list[Place]
) -> Any:
    """The type of an argument. Fields of tuples are specialised, whatever their parameter says: Triton does so."""
    if isinstance(value, tuple):
        kinds = [_specialize(x, (*path, i), True, constants, divisible) for i, x in enumerate(value)]
        return type(value)(*kinds) if hasattr(value, "_fields") else tuple(kinds)
    if value is None or (specialized and not isinstance(value, Tensor) and value == 1):
        constants.append((path, value))
        return "constexpr"
    number = value.storage_offset() * value.element_size() if isinstance(value, Tensor) else value
    if specialized and number % 16 == 0:
        divisible.append(path)
    if isinstance(value, Tensor):
        return "*" + TYPES[value.dtype]
    return "i32" if -(2**31) <= value < 2**31 else "i64"


TYPES = {
    torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16",
    torch.int64: "i64", torch.int32: "i32", torch.bool: "i1",
}  # fmt: skip
KERNELS = {
    kernel.__name__: kernel
    for kernel in (
        _steps.similarity_kernel, _steps.localize_kernel, _steps.localize_backward_kernel,
        _steps.similarity_gradient_kernel, _steps.target_backward_kernel, _steps.query_backward_kernel,
        _steps.source_backward_kernel, _steps.gather_kernel, details_kernel,
        _match_all.set_norm_kernel, _match_all.match_all_kernel,
        _match_all.match_all_reduce_kernel, _match_all.match_all_upstream_kernel, _match_all.match_all_gradient_kernel,
        _cross_entropy_steps.cross_entropy_kernel, _cross_entropy_steps.cross_entropy_backward_kernel,
        _upsampled.neighbour_products_kernel, _upsampled.neighbour_products_backward_kernel,
        _upsampled.upsampled_terms_kernel, _upsampled.upsample_kernel, _upsampled.reduce_axis_kernel,
        _upsampled.sum_queries_kernel, _upsampled.upsampled_products_kernel,
        _correlation.correlation_scores_kernel, _correlation.correlation_samples_kernel,
        _correlation.correlation_weights_kernel, _correlation.correlation_queries_kernel,
        _correlation.correlation_target_kernel, _correlation.correlation_coords_kernel,
    )
}  # fmt: skip


def compilations(variants: list[Variant], platform: str) -> list[Compilation]:
    """The kernels of `variants`, without repetition."""
    found: dict[tuple[Any, ...], Compilation] = {}
    for variant in variants:
        for launch in launches_of(variant, platform):
            compilation = compilation_of(variant.name, launch)
            found.setdefault(compilation.key, compilation)
    return list(found.values())


def compile_for(compilation: Compilation, target_name: str) -> Report:
    target = TARGETS[target_name]
    kernel = KERNELS[compilation.kernel]
    source = ASTSource(
        kernel,
        dict(compilation.signature),
        dict(compilation.constants),
        {path: [["tt.divisibility", 16]] for path in compilation.divisible},
    )
    options = dict(compilation.options)
    compiled = triton.compile(source, target=target, options=options)
    report = Report(compilation.kernel, compilation.variant, compiled.metadata.shared, options["num_warps"])
    if target.backend == "cuda":
        report.assembly = compiled.asm["ptx"]
        report.registers, report.spilled = registers_and_spills(report.assembly, target.arch)
    else:
        report.assembly = compiled.asm["amdgcn"]
    return report


def registers_and_spills(ptx: str, arch: int) -> tuple[int, int]:
    """Registers of a thread and bytes spilled, as ptxas reports them."""
    suffix = "a" if arch >= 90 else ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        command = [
            get_ptxas(arch).path,
            "-v",
            f"--gpu-name=sm_{arch}{suffix}",
            str(path),
            "-o",
            str(Path(folder, "out")),
        ]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = max(int(x) for x in re.findall(r"Used (\d+) registers", printed))
    spilled = sum(int(x) for x in re.findall(r"(\d+) bytes spill", printed))
    return registers, spilled


def platform_of(target_name: str) -> str:
    return "amd" if target_name.startswith("hip") else "nvidia"


def report_all(variants: list[Variant], target_name: str, processes: int = 2) -> list[Report]:
    work = compilations(variants, platform_of(target_name))
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(compile_for, work, [target_name] * len(work)))


def table(reports: list[Report]) -> str:
    head = "| kernel | variant | warps | registers | shared memory (KiB) | spilled (bytes) |\n|---|---|---|---|---|---|"
    rows = [
        f"| {r.kernel} | {r.variant} | {r.warps} | {r.registers} | {r.shared / 1024:.1f} | {r.spilled} |"
        for r in reports
    ]
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=list(TARGETS), default="cuda:90")
    parser.add_argument("--quick", action="store_true", help="only what the tests compile")
    options = parser.parse_args()
    variants = TESTED[options.target] if options.quick else ALL
    print(table(report_all(variants, options.target)))


if __name__ == "__main__":
    main()
