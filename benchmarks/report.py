"""Tables from a result file alone: `python -m benchmarks.report FILE.json > docs/benchmarks.md`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import suites

Row = dict[str, Any]

BARS = {
    "forward": {"eager": 4.0, "compile": 4.0},
    "forward+backward": {"eager": 10.0, "compile": 5.0},
}
"""How many times faster than a peer the operator is to be at the paper's shape in float32 on a CPU."""


def tables(result: dict[str, Any]) -> str:
    if "training_memory" in result:
        return training_memory(result)
    m = result["machine"]
    parts = [
        "# Benchmarks",
        f"{m['device']}, {m['threads']} threads, torch {m['torch']}, Triton {m['triton']}, copy "
        f"{m['copy_gb_per_s']:.0f} GB/s (bytes read plus written). {result['date']}, commit {result['commit']}. "
        "Made by `make bench`; times are medians with quartiles, the providers take turns in one run, and every row "
        "was compared with float64 before it was timed.",
        _operator(result["operator"], m["kind"]),
        _overhead(result["overhead"]),
    ]
    if "memory" in result:
        parts += [_memory(result["memory"]), _scaling(result["scaling"]), _import(result["import"])]
    return "\n\n".join(parts)


def training_memory(result: dict[str, Any]) -> str:
    """The page about a training step's memory."""
    rows = result["training_memory"]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    readings = [x for x in ("counted_mib", "allocated_mib", "reserved_mib") if x in rows[0]]
    parts = [
        "# Memory of a training step",
        "A whole step at batch 8 with 30 keypoints: weights, gradients, Adam's moments, images and activations; MiB, "
        "and how much less than with dense matching. *Counted*: live storages on fake tensors, so that it needs no "
        f"GPU; what kernels use inside is not seen. torch {result['machine']['torch']}, {result['date']}, commit "
        f"{result['commit']}. Made by `make memory`.",
    ]
    for reading in readings:
        parts.append(f"## {reading.removesuffix('_mib').capitalize()}\n\n" + _step_table(rows, variants, reading))
    parts.append(
        "*Checkpointing* computes activations again in the backward: those of each trained block of a ViT, and of each "
        "step of the decoder. A step then has the gradients of dense matching to 1e-5 and statistics of batch norm to "
        "the bit, and takes one forward of those parts more. The paper's Table 11 reads 21941, 16287 and 10675 MB "
        "(-51 %) for dense, window and sparse; the authors' implementation, counted like this, 8811, 8025 and 6319 MiB "
        "(iBOT) and 6578, 5862 and 4241 MiB (DINOv2, 252)."
    )
    parts.append("## The matching stage alone\n\n" + _stage_table(result["stage_memory"]))
    return "\n\n".join(parts)


def _step_table(rows: list[Row], variants: list[str], reading: str) -> str:
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    peaks = {(row["preset"], row["variant"]): row[reading] for row in rows}
    lines = [f"| | {' | '.join(presets)} |", "|---" * (len(presets) + 1) + "|"]
    for variant in variants:
        cells = [
            f"{peaks[p, variant]:.0f} ({100 * (peaks[p, variant] / peaks[p, 'dense'] - 1):.0f} %)" for p in presets
        ]
        lines.append(f"| {variant} | {' | '.join(cells).replace(' (0 %)', '').replace(' (-0 %)', '')} |")
    return "\n".join(lines)


def _stage_table(rows: list[Row]) -> str:
    sides = list(dict.fromkeys(row["side"] for row in rows))
    peaks = {(row["side"], row["matching"]): row["counted_mib"] for row in rows}
    lines = [
        "Gather, projection, similarity, window and soft-argmax, forward and backward at C=768, window 45: MiB beyond "
        "both maps, their gradients and the projection's. What stays of *fused* is the projected target and its "
        "gradient.",
        "",
        f"| cells | {' | '.join(f'{x} x {x}' for x in sides)} |",
        "|---" * (len(sides) + 1) + "|",
    ]
    for matching in dict.fromkeys(row["matching"] for row in rows):
        cells = [
            f"{peaks[s, matching]:.0f} ({100 * (peaks[s, matching] / peaks[s, 'dense'] - 1):.1f} %)" for s in sides
        ]
        lines.append(f"| {matching} | {' | '.join(cells).replace(' (0.0 %)', '')} |")
    return "\n".join(lines)


PEERS = ("eager", "compile", "by hand", "by hand, compile")


def _operator(rows: list[Row], kind: str) -> str:
    lines = [
        "## The paper's shape",
        "",
        "B=8, N=30, C=768, 63 x 63 cells, window 45; milliseconds, and how many times faster ours is. *eager* is the "
        "reference in plain PyTorch, which divides scores by norms; *by hand* is what codebases write, with a "
        "normalised copy of the features; *compile* is `torch.compile`.",
        "",
        f"| dtype | layout | | ours | {' | '.join(PEERS)} | error of the target's gradient |",
        "|---" * (len(PEERS) + 5) + "|",
    ]
    for row in rows:
        ours = row["times"]["ours"]["median_ms"]
        cells = []
        for peer in PEERS:
            ratio = row["times"][peer]["median_ms"] / ours
            bar = BARS[row["mode"]].get(peer) if kind == "cpu" and row["dtype"] == "float32" else None
            mark = "" if bar is None else f" (bar {bar:g}x: {'met' if ratio >= bar else 'MISSED'})"
            cells.append(f"{_time(row['times'][peer])}: **{ratio:.1f}x**{mark}")
        error = f"{row['errors']['target_gradient']:.0e}"
        lines.append(
            f"| {row['dtype']} | {row['layout']} | {row['mode']} | {_time(row['times']['ours'])} | "
            f"{' | '.join(cells)} | {error} |"
        )
    return "\n".join(lines)


def _overhead(rows: list[Row]) -> str:
    lines = [
        "## The smallest call",
        "",
        "B=1, N=1, C=8, 4 x 4 cells. Microseconds.",
        "",
        "| | ours | eager |",
        "|---|---|---|",
    ]
    for row in rows:
        cells = (_time(row["times"][name], 1e3, 0) for name in ("ours", "eager"))
        lines.append(f"| {row['mode']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _memory(rows: list[Row]) -> str:
    lines = [
        "## Memory at the paper's shape",
        "",
        "Shares of one feature map (97.5 MB, float32). *Kept*: for the backward, beyond the inputs (bar: 3 %). "
        "*Transient*: the most in use at one time beyond inputs, results and what is kept (bar: 10 %).",
        "",
        "| layout | | kept | transient, forward | transient, backward |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        shares = (
            f"{100 * row[key]:.1f} %" for key in ("kept_share", "forward_transient_share", "backward_transient_share")
        )
        lines.append(f"| {row['layout']} | {row['provider']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _scaling(rows: list[Row]) -> str:
    lines = ["## Scaling", "", "B=1, C=256, window 15, float32, contiguous. Milliseconds.", ""]
    for axis, title, size in (
        ("queries", "keypoints N, 64 x 64 cells", "queries"),
        ("cells", "cells a side, N=64", "side"),
    ):
        chosen = [row for row in rows if row["axis"] == axis]
        sizes = sorted({row[size] for row in chosen})
        lines += [f"| {title} | {' | '.join(map(str, sizes))} | exponent |", "|---" * (len(sizes) + 2) + "|"]
        for mode in suites.MODES:
            times = [
                next(r["times"]["ours"]["median_ms"] for r in chosen if r[size] == s and r["mode"] == mode)
                for s in sizes
            ]
            measures = [float(s) if axis == "queries" else float(s) ** 2 for s in sizes]
            slope = suites.exponent(measures[-3:], times[-3:])
            lines.append(f"| {mode} | {' | '.join(f'{t:.2f}' for t in times)} | {slope:.2f} |")
        lines.append("")
    lines.append("The exponent is fitted to the three largest sizes, by N and by the number of cells; 1 is linear.")
    return "\n".join(lines)


def _import(row: dict[str, float]) -> str:
    return (
        f"## Start\n\nImporting the package adds {row['import_s'] * 1e3:.0f} ms to `import torch` (bar: 300 ms). "
        f"The first call takes {row['first_call_s'] * 1e3:.1f} ms and compiles nothing."
    )


def _time(times: dict[str, float], scale: float = 1.0, digits: int = 2) -> str:
    middle, low, high = (times[key] * scale for key in ("median_ms", "q1_ms", "q3_ms"))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


if __name__ == "__main__":
    print(tables(json.loads(Path(sys.argv[1]).read_text())))
