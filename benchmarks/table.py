"""Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def milliseconds(times: Mapping[str, float], scale: float = 1.0, digits: int = 2) -> str:
    """Format median and quartiles; a scale of 1000 gives microseconds."""
    middle, low, high = (times[key] * scale for key in ("median_ms", "q1_ms", "q3_ms"))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
