"""Whether a device computes in bfloat16, or only emulates it.

PyTorch computes in bfloat16 on any processor. One without instructions for it converts to and from float32 in every
operator, and is slower than in float32: EfficientNet-Lite0's training takes six times as long with AVX2 alone.
"""

from __future__ import annotations

import platform
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
INSTRUCTIONS = {"avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX", "bf16": "Arm BF16"}  # by flag in /proc/cpuinfo


def bf16_instructions() -> tuple[str, ...]:
    """Return the processor's instructions that multiply bfloat16, or () if it has none or doesn't tell."""
    flags = _cpu_flags()
    return tuple(name for flag, name in INSTRUCTIONS.items() if flag in flags)


def computes_bf16(device: torch.device | str) -> bool:
    """Return whether a device has instructions for bfloat16."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        return bool(bf16_instructions())
    return kind in ("xpu", "hpu", "xla")


def describe_bf16(device: torch.device | str) -> str:
    """Describe in a few words how a device computes in bfloat16."""
    kind = torch.device(device).type
    if kind != "cpu":
        return "bf16" if computes_bf16(device) else "bf16 emulated"
    return f"bf16 ({', '.join(bf16_instructions())})" if bf16_instructions() else "bf16 emulated, no instructions"


def _cpu_flags() -> set[str]:
    """Return the flags of the processor: of /proc/cpuinfo, or what PyTorch finds where there is none."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))), "")
    flags = set(found.split())
    if flags or platform.machine().lower() not in ("x86_64", "amd64"):
        return flags
    for flag, name in (("avx512_bf16", "_is_avx512_bf16_supported"), ("amx_bf16", "_is_amx_tile_supported")):
        supported = getattr(torch.cpu, name, None)
        if supported is not None and supported():
            flags.add(flag)
    return flags
