"""The Triton kernels compile for chips that are not here, without spilled registers, within shared memory."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET=1 interprets kernels, nothing can be compiled", allow_module_level=True)

from simplematch_kernels import _native
from simplematch_kernels.triton import _arguments

from . import triton_variants as variants

CHIPS = [target for target in variants.TARGETS if target.startswith("cuda")]


@pytest.mark.parametrize("target", CHIPS)
def test_kernels_fit_the_chip(target: str) -> None:
    reports = variants.report_all(variants.TESTED[target], target)
    limit = variants.SHARED_MEMORY_LIMITS[variants.TARGETS[target].arch]
    print(variants.table(reports))
    assert {report.kernel for report in reports} == set(variants.KERNELS)
    assert [report for report in reports if report.spilled > 0] == []
    assert [report for report in reports if report.shared > limit] == []


def test_kernels_compile_for_amd() -> None:
    reports = variants.report_all(variants.TESTED["hip:gfx942"], "hip:gfx942")
    assert all(report.assembly for report in reports)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_aligned_maps_are_loaded_16_bytes_at_a_time(dtype: str) -> None:
    aligned = [v for v in variants.ALIGNED if str(v.dtype) == f"torch.{dtype}"]
    for compilation in variants.compilations(aligned, "nvidia"):
        if compilation.kernel == "similarity_kernel":
            assembly = variants.compile_for(compilation, "cuda:90").assembly
            copies = [line for line in assembly.splitlines() if "cp.async.c" in line]
            assert any(line.rstrip(" ;").endswith(("0x10, 0x10", "16, 16")) or "0x10" in line for line in copies)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_float32_products_are_never_plain_tf32(layout: str) -> None:
    compilations = variants.compilations([variants.Variant(layout=layout)], "nvidia")
    for compilation in compilations:
        names = [parameter.name for parameter in variants.KERNELS[compilation.kernel].params]
        constants = {names[place[0]]: value for place, value in compilation.constants}
        assert constants.get("PRECISION", "tf32x3") == "tf32x3"


@pytest.mark.parametrize("change", [{"N": 32}, {"N": 17}, {"B": 16}], ids=str)
def test_other_numbers_of_keypoints_and_images_compile_nothing_new(change: dict[str, int]) -> None:
    """Triton makes a kernel for each argument that divides by 16, unless it is told that nothing is won by it."""
    usual, changed = ({c.key for c in variants.compilations([v], "nvidia")} for v in _usual_and(change))
    assert changed == usual


def _usual_and(change: dict[str, int]) -> tuple[variants.Variant, variants.Variant]:
    return variants.Variant(), replace(variants.Variant(), **change)  # type: ignore[arg-type]


def test_kernels_take_few_arguments() -> None:
    """Each costs time on the host at every launch, and a reader's attention."""
    assert max(len(kernel.params) for kernel in variants.KERNELS.values()) <= 36


def test_codes_are_those_of_the_c_interface() -> None:
    if reason := _native.why_not():
        pytest.skip(reason)
    for name, code in (_arguments.SAMPLINGS | _arguments.METRICS | _arguments.SHAPES).items():
        assert code == _native.load().CODES[name]


def test_launch_counts() -> None:
    """Two launches forward, four backward; three backward for descriptors, whose gradient needs no scattering."""
    assert _steps_of(variants.Variant()) == [
        "similarity", "localize", "localize_backward", "target_backward", "query_backward", "source_backward",
    ]  # fmt: skip
    assert _steps_of(variants.Variant(sampling="bilinear"))[2:] == [
        "localize_backward", "target_backward", "query_backward", "source_backward",
    ]  # fmt: skip
    assert _steps_of(variants.Variant(sampling=None))[2:] == ["localize_backward", "target_backward", "query_backward"]


def _steps_of(variant: variants.Variant) -> list[str]:
    names = [kernel.__name__.removesuffix("_kernel") for kernel, *_ in variants.launches_of(variant, "nvidia")]
    return names[:-1] if names[-1] == "gather" else names
