"""Compares two results: `python -m benchmarks.compare OLD.json NEW.json`.

A time is marked * as changed if the interquartile ranges don't overlap.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
OURS = ("ours", "fused", "matching, fused")
Key = tuple[tuple[str, Any], ...]


def compare(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Yield a line for every time of ours and every memory reading that both results have."""
    for suite in sorted(set(old) & set(new)):
        if not isinstance(old[suite], list):
            continue
        before, after = ({key(row): row for row in result[suite]} for result in (old, new))
        for name in before:
            if name in after:
                yield from _rows(f"{suite} {describe(name)}", before[name], after[name])


def key(row: Row) -> Key:
    """Return the fields that identify a measurement."""
    return tuple((k, v) for k, v in row.items() if isinstance(v, str | bool | int) or v is None)


def describe(name: Key) -> str:
    return " ".join(f"{k}={v}" for k, v in name)


def _rows(title: str, old: Row, new: Row) -> Iterator[str]:
    before, after = old.get("times", {}), new.get("times", {})
    for name in (x for x in before if x in after and x.startswith(OURS)):
        a, b = before[name], after[name]
        ratio = b["median_ms"] / a["median_ms"]
        apart = b["q1_ms"] > a["q3_ms"] or b["q3_ms"] < a["q1_ms"]
        yield f"{title}: {name} {a['median_ms']:.3f} -> {b['median_ms']:.3f} ms, {ratio:.2f}x{' *' if apart else ''}"
    for field in (k for k in old if k.endswith("_mib") and k in new):
        yield f"{title}: {field} {old[field]:.0f} -> {new[field]:.0f}"


def main() -> None:
    old, new = (json.loads(Path(path).read_text()) for path in sys.argv[1:3])
    for result in (old, new):
        print(f"{result['date']} {result['commit']}: {result['machine']['device']}, torch {result['machine']['torch']}")
    print("\n".join(compare(old, new)))


if __name__ == "__main__":
    main()
