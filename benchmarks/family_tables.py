"""Tables of the operators beside `sparse_window_match`, and of the cases in which plain PyTorch is hard to beat."""

from __future__ import annotations

from typing import Any

from .table import milliseconds, table

Row = dict[str, Any]


def sections(result: dict[str, Any]) -> list[str]:
    parts = [
        _family(result.get("family", [])),
        _never_slower(result.get("never_slower", [])),
        _smallest_calls(result.get("smallest_calls", [])),
    ]
    return [part for part in parts if part]


def describe(row: Row) -> str:
    return f"`{row['operator']}` " + ", ".join(f"{name}={value}" for name, value in row["sizes"].items())


def _family(rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows:
        ours, peaks = row["times"]["ours"], row["peak_bytes"]
        for name, ratio in row["faster_than"].items():
            memory = f"{peaks['ours'] / 1e6:.0f} / {peaks[name] / 1e6:.0f}"
            times = [milliseconds(ours, digits=1), milliseconds(row["times"][name], digits=1)]
            lines.append([describe(row), row["mode"], name, *times, f"**{ratio:.1f}x**", memory])
    about = (
        "Milliseconds and our speedup over each rival; the last column is the peak of memory above the inputs, in MB, "
        "ours and the rival's. `benchmarks/family*.py` have the rivals."
    )
    head = ["", "", "rival", "ours", "its time", "faster", "peak memory"]
    return f"### The other operators\n\n{about}\n\n" + table(head, lines)


def _never_slower(rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows:
        times = [milliseconds(row["times"][name], 1e3, 0) for name in ("ours", "plain")]
        lines.append([describe(row), row["mode"], *times, f"**{row['faster_than']['plain']:.2f}x**"])
    about = (
        "Microseconds, one thread: uses in other people's code where a few calls of PyTorch do the same, at their "
        "shapes. `benchmarks/never_slower.py` has them."
    )
    return f"### Where plain PyTorch is hard to beat\n\n{about}\n\n" + table(["", "", "ours", "plain", "faster"], lines)


def _smallest_calls(rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [[f"`{row['function']}`", milliseconds(row["times"]["ours"], 1e3, 1)] for row in rows]
    about = "Microseconds of a forward on maps of 4 x 4 cells, 8 channels and four queries, one thread."
    return f"### What a call costs\n\n{about}\n\n" + table(["", "ours"], lines)
