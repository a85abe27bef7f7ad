"""Stores the rows of a run on disk as soon as they are measured, and makes the result.

    python -m benchmarks.journal RESULT.json PART.jsonl [PART.jsonl ...]

merges the rows of several runs, or of a killed run, into one result. If a test ran more than once, the rows of its last
run are used.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .claims import claims

Entry = dict[str, Any]


class Journal:
    """A JSON lines file beside the result, with runs, starts and ends of tests, and rows."""

    def __init__(self, path: Path, run: Entry) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        if torn:
            with open(path, "a") as file:
                file.write("\n")
        self.write({"run": run})

    def write(self, entry: Entry) -> None:
        """Append an entry and flush it to disk."""
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def row(self, test: str, suite: str, row: dict[str, Any]) -> None:
        self.write({"test": test, "suite": suite, "row": row})

    def begin(self, test: str) -> None:
        self.write({"test": test, "begins": now()})

    def end(self, test: str, outcome: str, seconds: float) -> None:
        self.write({"test": test, "outcome": outcome, "seconds": round(seconds, 3)})


def place(target: Path, device: str, commit: str) -> Path:
    """Return the journal of a result `target`: a json file, or a folder for <device>/<date>-<commit>.json.

    In a folder, a result without a journal is not overwritten: the new one gets a number.
    """
    if target.suffix == ".json":
        return target.with_suffix(".jsonl")
    folder = target / re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    stem, number = f"{now()[:10]}-{commit}", 1
    path = folder / f"{stem}.jsonl"
    while path.with_suffix(".json").exists() and not path.exists():
        number += 1
        path = folder / f"{stem}-{number}.jsonl"
    return path


def read(paths: Iterable[Path]) -> list[Entry]:
    """Read all entries in order, and skip a line that a killed run left incomplete."""
    entries = []
    for path in paths:
        for line in path.read_text().splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{path} has a truncated line, which is skipped", file=sys.stderr)
    return entries


def result_of(entries: list[Entry]) -> dict[str, Any]:
    """Make the result: the last run's description, all rows by suite, claims, and the number of failed tests."""
    about: Entry = {}
    tests: dict[str, list[Entry]] = {}
    for entry in entries:
        if "run" in entry:
            about = entry["run"]
        elif "begins" in entry:
            tests[entry["test"]] = []
        else:
            tests.setdefault(entry["test"], []).append(entry)
    if not about:
        raise ValueError("the journal must begin with an entry of its run")
    suites: dict[str, list[Any]] = {}
    failed = 0
    for found in tests.values():
        failed += any(entry.get("outcome") == "failed" for entry in found)
        for entry in (entry for entry in found if "suite" in entry):
            suites.setdefault(entry["suite"], []).append(entry["row"])
    machine = about["machine"]
    result = {key: value for key, value in about.items() if key != "machine"}
    result |= {"failed_tests": failed, "machine": machine, **suites}
    result["claims"] = [claim.to_dict() for claim in claims(result)]
    return result


def write_result(path: Path, entries: list[Entry]) -> Path:
    """Write the result atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(result_of(entries), indent=1) + "\n")
    os.replace(part, path)
    return path


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    target, *journals = map(Path, sys.argv[1:])
    if target.suffix != ".json":
        sys.exit(f"RESULT must be a json file, got {target}")
    entries = sorted_runs(journals)
    print(f"written to {write_result(target, entries)}: {sum('row' in entry for entry in entries)} rows")


def sorted_runs(paths: list[Path]) -> list[Entry]:
    """Read the entries of several journals, the earliest run first."""
    return [entry for entries in sorted((read([path]) for path in paths), key=_began) for entry in entries]


def _began(entries: list[Entry]) -> str:
    return str(entries[0]["run"]["time"]) if entries and "run" in entries[0] else ""


if __name__ == "__main__":
    main()
