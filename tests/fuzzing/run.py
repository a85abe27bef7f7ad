"""`python -m tests.fuzzing.run --backend cpu --seconds 3600` draws cases for that long and prints what differs."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable

from ..samples import BACKENDS
from . import compare, compare_beside
from .draw import Case, draw
from .draw_beside import draw_beside


def failures(backend: str, seeds: Iterable[int], beside: bool = False) -> list[str]:
    """A description of every case among the seeds that `backend` answers otherwise than the reference.

    beside: cases of the operators beside a match.
    """
    found = []
    for seed in seeds:
        case, differing = _differences(seed, backend, beside)
        if differing:
            found.append("\n    ".join((str(case), *differing)))
    return found


def _differences(seed: int, backend: str, beside: bool) -> tuple[Case, list[str]]:
    case = draw_beside(seed) if beside else draw(seed)
    return case, (compare_beside if beside else compare).differences(case, backend)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--backend", default=next((b for b in BACKENDS if b != "reference"), "reference"), choices=BACKENDS
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    end, count, differ = time.monotonic() + options.seconds, 0, 0
    for seed in itertools.count(options.first):
        if time.monotonic() > end:
            break
        for beside in (False, True):
            for failure in failures(options.backend, [seed], beside):
                print(failure, flush=True)
                differ += 1
            count += 1
    print(f"{options.backend}: {count} cases from seed {options.first} on, {differ} differ from the reference")
    return int(differ > 0)


if __name__ == "__main__":
    raise SystemExit(main())
