"""Reports registers, shared memory and occupancy of every CUDA kernel, from object files or a compiled module.

python tools/kernel_report.py FILE...             fails if a kernel uses stack or local memory (spills, arrays), or if
                                                  code for an architecture is missing
python tools/kernel_report.py --markdown FILE...  prints the tables of docs/cuda-kernels.md
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHIPS = tuple(map(int, re.findall(r"\d+", os.environ.get("CUDAARCHS", "75 80 86 89 90 100 120"))))
SHOWN = (80, 90, 100)  # in the tables
MOST_SHARED = 48 * 1024  # per block, available on every architecture by default

# Per multiprocessor: (threads, blocks, kilobytes of shared memory); 65536 registers, allocated 256 per warp.
LIMITS = {
    75: (1024, 16, 64), 80: (2048, 32, 164), 86: (1536, 16, 100), 89: (1536, 24, 100), 90: (2048, 32, 228),
    100: (2048, 32, 228), 120: (1536, 24, 100),
}  # fmt: skip
THREADS = {  # of the kernels in the tables
    "gather": 256, "gather_rows": 256, "localize": 128, "localize_backward": 128, "query_backward": 128,
    "source_backward": 256, "target_backward": 256,
}  # fmt: skip
STEPS = (
    "gather",
    "similarity",
    "localize",
    "localize_backward",
    "target_backward",
    "query_backward",
    "source_backward",
)

# B=8, N=30, C=768, 63 x 63 cells, window 45; float32 and 16 bits. Bytes from and to memory, all of it once.
MAP, QUERIES, WINDOWS = 8 * 768 * 63 * 63, 8 * 30 * 768, 8 * 30 * 45 * 45
SCORES = 8 * 30 * 63 * 63


def megabytes(step: str, item: int) -> float:
    """Return the megabytes that a step must move at the paper's shape, with `item` bytes per number."""
    numbers = {
        "gather": 2 * QUERIES * item,
        "similarity": MAP * item + SCORES * 4,
        "localize": WINDOWS * 8,
        "localize_backward": WINDOWS * 8 + QUERIES * (item + 4),
        "target_backward": 2 * MAP * item + WINDOWS * 8,
        "query_backward": MAP * item + WINDOWS * 4,
        "source_backward": MAP * item + QUERIES * 4,
    }
    return numbers[step] / 1e6


@dataclass(frozen=True)
class Kernel:
    chip: int
    name: str  # of the step
    variant: str  # its template arguments
    threads: int
    registers: int
    shared: int
    stack: int
    local: int

    @property
    def blocks(self) -> int:
        """The blocks that fit on a multiprocessor. The hardware reserves 1 KiB of shared memory per block."""
        threads, blocks, kilobytes = LIMITS[self.chip]
        warps = self.threads // 32
        by_registers = 65536 // (-(-self.registers * 32 // 256) * 256) // warps
        return min(threads // self.threads, blocks, by_registers, kilobytes * 1024 // (self.shared + 1024))

    @property
    def occupancy(self) -> float:
        return self.blocks * self.threads / LIMITS[self.chip][0]


def find(program: str) -> str:
    """Find `cuobjdump` or `c++filt` on the PATH or in Triton, which includes NVIDIA's tools."""
    found = shutil.which(program)
    if found is None:
        import triton

        found = shutil.which(program, path=str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin"))
    if found is None:
        raise SystemExit(f"{program} must be on the PATH or in Triton, got neither")
    return found


def read(file: Path) -> list[Kernel]:
    """Read every kernel in a file, for every architecture."""
    dumped = subprocess.run([find("cuobjdump"), "--dump-resource-usage", file], capture_output=True, text=True)
    names = subprocess.run([find("c++filt")], input=dumped.stdout, capture_output=True, text=True, check=True)
    return list(_parse(names.stdout))


def _parse(text: str) -> Iterator[Kernel]:
    chip, function = 0, ""
    for line in text.splitlines():
        if match := re.match(r"arch = sm_(\d+)", line):
            chip = int(match[1])
        elif match := re.match(r" Function (.+):$", line):
            function = match[1].replace("simplematch::cuda::(anonymous namespace)::", "")
        elif line.startswith("  REG:"):
            used = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", line)}
            match = re.search(r"(\w+)_kernel(?:<(.*)>)?\(", function)
            if match is None:
                raise SystemExit(f"no kernel of this project: {function}")
            variant = re.sub(r"Shape<([^>]*)>\s*", r"Shape(\1)", match[2] or "").replace("__nv_bfloat16", "bfloat16")
            shape = re.search(r"Shape\((\d+), (\d+), (\d+), (\d+)", variant)
            threads = int(shape[4]) if shape else THREADS.get(match[1], 0)
            yield Kernel(chip, match[1], variant.replace("__half", "half"), threads, used["REG"], used["SHARED"],
                         used["STACK"], used["LOCAL"])  # fmt: skip


def check(kernels: list[Kernel]) -> list[str]:
    """Return the faults of kernels, one sentence each."""
    faults = [f"there is no code for sm_{chip}" for chip in CHIPS if all(k.chip != chip for k in kernels)]
    for k in kernels:
        what = f"{k.name}<{k.variant}> for sm_{k.chip}"
        if k.stack or k.local:
            faults.append(f"{what} must use no stack or local memory, got {k.stack} and {k.local} bytes")
        if k.shared > MOST_SHARED:
            faults.append(f"{what} must use at most {MOST_SHARED} bytes of shared memory, got {k.shared}")
    return faults


def markdown(kernels: list[Kernel]) -> str:
    """Format one table per step, with every variant on the architectures in SHOWN."""
    lines = [
        "# CUDA kernels",
        "",
        "`make cuda-report` writes this page. It lists registers per thread, shared memory per block, and the blocks",
        "that fit on a multiprocessor with their occupancy. Variants are named by template arguments: types, whether",
        "channels are contiguous, numbers per load, and the tile (queries, cells, channels, threads, and sums per",
        "thread). No variant here spills or uses local memory; `make cuda` checks that for each architecture that it",
        "compiles, by default from sm_75 to sm_120.",
        "",
        "The steps of a match come first. Their bytes are the least they must move at the paper's shape (B=8, N=30,",
        "C=768, 63 x 63, window 45), in float32 and 16 bits. The other kernels follow by name, the variants of each in",
        "a line: the most registers and shared memory among them.",
    ]
    for step in STEPS:
        mine = [k for k in kernels if k.name == step]
        lines += ["", f"## `{step}`", "", f"{megabytes(step, 4):.1f} MB, {megabytes(step, 2):.1f} MB in 16 bits.", ""]
        lines.append("| variant | threads | " + " | ".join(f"sm_{c}: registers, shared, blocks" for c in SHOWN) + " |")
        lines.append("|---|---|" + "---|" * len(SHOWN))
        for variant in sorted({k.variant for k in mine}):
            cells = []
            for chip in SHOWN:
                k = next(k for k in mine if k.variant == variant and k.chip == chip)
                cells.append(f"{k.registers}, {k.shared / 1024:.1f} KiB, {k.blocks} ({k.occupancy:.0%})")
                threads = k.threads
            lines.append(f"| `{variant}` | {threads} | " + " | ".join(cells) + " |")
    lines += ["", "## The other kernels", ""]
    lines.append("| kernel | variants | " + " | ".join(f"sm_{c}: registers, shared" for c in SHOWN) + " |")
    lines.append("|---|---|" + "---|" * len(SHOWN))
    for name in sorted({k.name for k in kernels} - set(STEPS)):
        cells = []
        for chip in SHOWN:
            mine = [k for k in kernels if k.name == name and k.chip == chip]
            cells.append(f"{max(k.registers for k in mine)}, {max(k.shared for k in mine) / 1024:.1f} KiB")
        lines.append(f"| `{name}` | {len(mine)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    arguments = parser.parse_args()
    kernels = [kernel for file in arguments.files for kernel in read(file)]
    if arguments.markdown:
        print(markdown(kernels), end="")
        return
    faults = check(kernels)
    print(*faults, sep="\n", file=sys.stderr)
    print(f"{len(kernels)} kernels for {len({k.chip for k in kernels})} chips, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
