"""Random inputs of every kind: each backend answers as the definition does, NaN and infinities in the same places."""

from __future__ import annotations

import pytest

from simplematch_kernels import _backends

from .fuzzing import run
from .samples import SIMULATED

CASES = 40 if _backends.interpreting() else 800 if SIMULATED else 4000


@pytest.mark.parametrize("part", range(4))
def test_backends_agree_with_the_reference(part: int, backend: str) -> None:
    """Three parts of a match and its steps, the last of the other operators."""
    if backend == "reference":
        pytest.skip("it is the definition")
    failures = run.failures(backend, range(part * CASES // 4, (part + 1) * CASES // 4), beside=part == 3)
    assert not failures, "\n\n".join(failures[:5]) + f"\n\n{len(failures)} cases differ"


@pytest.mark.parametrize("seed", [118455, 125506, 168336, 309903, 445961, 505950])
def test_rare_cases_agree(seed: int, backend: str) -> None:
    """Cases that differed once: distances of constant vectors, and gradients that nearly cancel."""
    assert not run.failures(backend, [seed])
