"""Writes docs/benchmarks.md and its plots from result files.

python -m benchmarks.report [RESULT.json ...]      default: all; uses the newest rows of every device and suite
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import family_tables, operator_tables, plots, system_tables
from .claims import GPU_BARS, SHARE_OF_COPY, claims
from .table import table

Result = dict[str, Any]

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs/benchmarks.md"
PICTURES = ROOT / "docs/images"


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(RESULTS.glob("*/*.json"))
    if not paths:
        sys.exit(f"{RESULTS} has no results: run `make bench`")
    PAGE.write_text(page(read(paths), PICTURES) + "\n")
    print(f"{PAGE} is made of {', '.join(map(str, paths))}")


def read(paths: list[Path]) -> list[Result]:
    """Return a result for each device, with the newest rows of every suite."""
    devices: dict[str, Result] = {}
    for result in sorted((json.loads(path.read_text()) for path in paths), key=lambda result: str(result["time"])):
        earlier = devices.get(result["machine"]["device"], {})
        suites = [name for name, rows in result.items() if isinstance(rows, list) and name != "claims"]
        measured = earlier.get("measured", {}) | dict.fromkeys(suites, f"{result['date']}, commit {result['commit']}")
        devices[result["machine"]["device"]] = earlier | result | {"measured": measured}
    return list(devices.values())


def page(results: list[Result], pictures: Path) -> str:
    parts = [
        "# Benchmarks",
        "`python -m benchmarks.report` writes this page from the json files in `benchmarks/results`. Times are medians "
        "with quartiles; the providers alternate in one run, and each is compared with float64 before it is timed. "
        "[performance.md](performance.md) has lower bounds and the effect of each optimisation.",
    ]
    for result in sorted(results, key=lambda result: str(result["machine"]["kind"]), reverse=True):  # GPUs first
        parts += _sections(result, pictures)
    if not any(result["machine"]["kind"] == "cuda" for result in results):
        parts.append(_missing_gpu())
    return "\n\n".join(part for part in parts if part)


def _sections(result: Result, pictures: Path) -> list[str]:
    m = result["machine"]
    versions = f"torch {m['torch']}, Triton {m['triton']}" + (
        f", driver {m['driver_version']}" if "driver_version" in m else ""
    )
    parts = [
        f"## {m['device']}",
        f"{m['threads']} threads, {versions}, a copy runs at {m['copy_gb_per_s']:.0f} GB/s (bytes read plus written). "
        + _when(result["measured"])
        + (f" **{result['failed_tests']} of the last run's benchmarks failed.**" if result["failed_tests"] else ""),
        _claims(result),
    ]
    parts += operator_tables.sections(result)
    parts += family_tables.sections(result)
    parts += system_tables.sections(result)
    images = [f"![{title}](images/{name})" for title, name in plots.draw(result, pictures)]
    return [*parts, *images]


def _when(measured: dict[str, str]) -> str:
    runs = {run: [suite for suite in measured if measured[suite] == run] for run in measured.values()}
    if len(runs) == 1:
        return f"Measured {next(iter(runs))}."
    return "Measured " + "; ".join(f"{run}: {', '.join(suites)}" for run, suites in runs.items()) + "."


def _claims(result: Result) -> str:
    found = claims(result)
    missed = sum(not claim.holds for claim in found)
    rows = [
        [
            f"**{claim.verdict}**" if not claim.holds else claim.verdict,
            claim.text,
            f"{'at most' if claim.at_most else 'at least'} {claim.bar:g} {claim.unit}",
            f"{claim.figure:.1f} {claim.unit}" if claim.unit == "%" else f"{claim.figure:.2f} {claim.unit}",
            claim.known_miss if not claim.holds else "",
        ]
        for claim in found
    ]
    return f"### Claims: {len(found) - missed} pass, {missed} missed\n\n" + table(
        ["", "claim", "bar", "figure", "why it is missed"], rows
    )


def _missing_gpu() -> str:
    faster = " and ".join(f"{bar:g}x {peer}" for peer, bar in GPU_BARS.items())
    shares = " and ".join(f"{bar:g} % {mode}" for mode, bar in SHARE_OF_COPY.items())
    return f"""## On a GPU

Not measured yet: `make bench-gpu` is one command. Its bars: {shares} of a copy's bandwidth at B >= 32, {faster} at
the paper's shape, forward and backward of one image in 60 us as a CUDA graph, and a bf16 compiled model 3x the plain
sparse one in float32."""


if __name__ == "__main__":
    main()
