"""The memory of `dense_match` and its backward, measured in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import torch


def peak_of(side: int, localization: str) -> int:
    """Bytes by which a process grows from a small call to one of side x side cells, forward and backward."""
    command = [sys.executable, "-m", "tests.memory", str(side), localization]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    import simplematch_kernels as smk
    from simplematch_kernels import _resolved

    _resolved.SCORE_BUDGET_BYTES = 4 * 2**20
    side, localization = int(sys.argv[1]), sys.argv[2]

    def run(side: int) -> None:
        source, target = (torch.randn(1, 64, side, side, requires_grad=True) for _ in range(2))
        found = smk.dense_match(source, target, localization=localization, window_size=9, backend="cpu")
        found.flow.sum().backward()

    run(8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(side)
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


if __name__ == "__main__":
    main()
