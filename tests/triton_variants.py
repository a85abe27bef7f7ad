"""Every launch of the Triton backend, compiled for a chip that need not be there.

    python -m tests.triton_variants [--target cuda:90] [--quick]

prints registers, shared memory and spills of each kernel. The operators run on meta tensors with the launch replaced by
a recorder, so what is compiled is what they launch: same arguments, same tile sizes, same options.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from simplematch_kernels.triton import (
    _correlation,
    _cross_entropy_steps,
    _match_all,
    _steps,
    _upsampled,
)
from simplematch_kernels.triton.details import details_kernel

from .triton_launches import Launch, Variant, launches_of

SHARED_MEMORY_LIMITS = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
TARGETS = {
    "cuda:80": GPUTarget("cuda", 80, 32),
    "cuda:90": GPUTarget("cuda", 90, 32),
    "cuda:100": GPUTarget("cuda", 100, 32),
    "hip:gfx942": GPUTarget("hip", "gfx942", 64),
}

Place = tuple[int, ...]
"""Where an argument is: its number, and that of its field if it is a tuple."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
PAPER = [Variant(dtype, layout) for dtype in DTYPES for layout in ("contiguous", "channels_last")]
ALIGNED = [Variant(dtype, layout, H=64, W=64) for dtype in DTYPES for layout in ("contiguous", "channels_last")]
MODES = [
    Variant(torch.float32, sampling="bilinear", temperature=None),
    Variant(torch.bfloat16, sampling="bilinear", layout="channels_last"),
    Variant(torch.float16, sampling="bilinear"),
    Variant(torch.float32, sampling=None, metric="l2", matches_all=True),
    Variant(torch.bfloat16, sampling=None, metric="dot", layout="channels_last", matches_all=True),
    Variant(torch.float32, localization="gaussian", masked=True, temperature=None),
    Variant(torch.float32, window_shape="disc", outside_value=0.0, masked=True, temperature=None),
    Variant(torch.float64, sampling="bilinear", localization="gaussian", outside_value=0.0, temperature=None),
    Variant(torch.float32, layout="sliced"),
    Variant(torch.bfloat16, layout="sliced", C=100),
    Variant(torch.float32, B=1, N=5, C=37, H=17, W=19),
    Variant(torch.float32, B=1, N=4096, H=64, W=64, kept=False, matches_all=True),
    Variant(torch.bfloat16, B=2, N=4096, H=64, W=64, kept=False, matches_all=True, layout="channels_last"),
    Variant(torch.float16, B=1, N=4096, H=64, W=64, kept=False, matches_all=True),
    Variant(torch.float32, sampling="bilinear", own_sizes=True),
    Variant(torch.float64, B=1, N=200, C=64, H=64, W=64, kept=False, matches_all=True),
    Variant(torch.float32, details=True),
    Variant(
        torch.bfloat16, details=True, layout="channels_last", localization="gaussian", masked=True, temperature=None
    ),
    Variant(torch.float32, details=True, window_shape="disc", outside_value=0.0, masked=True, temperature=None),
    Variant(torch.float64, details=True, sampling=None, metric="l2", outside_value=0.0),
    Variant(torch.float32, details=True, window_shape="plus", query_masks=True),
    Variant(torch.bfloat16, window_shape="disc", query_masks=True, outside_value=0.0, layout="channels_last"),
    Variant(torch.float16, details=True, B=1, N=4096, H=64, W=64, kept=False),
]
ENTROPY = [
    Variant(torch.float32, localization="global"),
    Variant(torch.bfloat16, sampling="bilinear", localization="global", masked=True, temperature=None),
    Variant(torch.float64, sampling=None, localization="global", masked=True, temperature=None, N=200),
]
ABSOLUTE = [
    Variant(torch.float32, metric="l1"),
    Variant(torch.bfloat16, sampling="bilinear", metric="l1", layout="channels_last", kept=False, N=200),
    Variant(torch.float16, sampling=None, metric="l1", matches_all=True, details=True),
    Variant(torch.float64, sampling=None, metric="l1", matches_all=True),
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
ALL = PAPER + ALIGNED + MODES + ABSOLUTE + ENTROPY + UPSAMPLED + CORRELATIONS
DETAILS = [variant for variant in MODES if variant.details][:2]
# What the tests compile: everything for one chip, what differs most for the others.
SEVERAL = [*PAPER[:4], MODES[0], MODES[3], MODES[12], *DETAILS, *ABSOLUTE, ENTROPY[1], *UPSAMPLED, *CORRELATIONS[:2]]
TESTED = {
    "cuda:80": SEVERAL,
    "cuda:90": ALL,
    "cuda:100": SEVERAL,
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
    if value is None or (specialized and isinstance(value, int) and value == 1):
        constants.append((path, value))
        return "constexpr"
    if isinstance(value, float):
        return "fp32"
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
        _steps.norms_kernel, _match_all.match_all_kernel,
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
