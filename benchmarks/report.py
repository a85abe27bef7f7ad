"""docs/benchmarks.md and its pictures, from result files alone.

python -m benchmarks.report [RESULT.json ...]      default: of every device the newest result
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import operator_tables, plots, system_tables
from .claims import GPU_BARS, SHARE_OF_COPY, claims
from .table import table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs/benchmarks.md"
PICTURES = ROOT / "docs/images"


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or newest()
    results = [json.loads(path.read_text()) for path in paths]
    PAGE.write_text(page(results, PICTURES) + "\n")
    print(f"{PAGE} is made of {', '.join(map(str, paths))}")


def newest() -> list[Path]:
    """Of every folder of results the one that was measured last."""
    folders = sorted({path.parent for path in RESULTS.glob("*/*.json")})
    if not folders:
        sys.exit(f"{RESULTS} has no results: `make bench` measures some")
    return [max(folder.glob("*.json"), key=lambda path: json.loads(path.read_text())["time"]) for folder in folders]


def page(results: list[dict[str, Any]], pictures: Path) -> str:
    parts = [
        "# Benchmarks",
        "Written by `python -m benchmarks.report` from the json files in `benchmarks/results` alone. Times are medians "
        "with quartiles; the providers take turns in one run, and each was compared with float64 before it was timed. "
        "How fast it could be, and what each version brought: [performance.md](performance.md).",
    ]
    for result in sorted(results, key=lambda result: str(result["machine"]["kind"]), reverse=True):  # GPUs first
        parts += _sections(result, pictures)
    if not any(result["machine"]["kind"] == "cuda" for result in results):
        parts.append(_missing_gpu())
    return "\n\n".join(part for part in parts if part)


def _sections(result: dict[str, Any], pictures: Path) -> list[str]:
    m = result["machine"]
    versions = f"torch {m['torch']}, Triton {m['triton']}" + (
        f", driver {m['driver_version']}" if "driver_version" in m else ""
    )
    parts = [
        f"## {m['device']}",
        f"{m['threads']} threads, {versions}, a copy runs at {m['copy_gb_per_s']:.0f} GB/s (bytes read plus written). "
        f"{result['date']}, commit {result['commit']}.",
        _claims(result),
    ]
    parts += operator_tables.sections(result)
    parts += system_tables.sections(result)
    images = [f"![{title}](images/{name})" for title, name in plots.draw(result, pictures)]
    return [*parts, *images]


def _claims(result: dict[str, Any]) -> str:
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
