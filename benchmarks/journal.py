"""The rows of a run, each on the disk as soon as it is measured, and the result that is made of them.

    python -m benchmarks.journal RESULT.json PART.jsonl [PART.jsonl ...]

makes one result of what several runs measured, or of what a run left that was killed. Of a test that ran more than once
the rows of its last run count.
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
    """Lines of json beside the result: what the runs were, when each test began, and what it measured."""

    def __init__(self, path: Path, run: Entry) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        if torn:
            with open(path, "a") as file:
                file.write("\n")
        self.write({"run": run})

    def write(self, entry: Entry) -> None:
        """On the disk when this returns."""
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
    """The journal for a result `target`: a json file, or a folder that gets <device>/<date>-<commit>.json.

    In a folder a result whose journal is gone stays as it is: the new one gets a number.
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
    """All entries in order. A line that a killed run left half written is passed over."""
    entries = []
    for path in paths:
        for line in path.read_text().splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{path} holds a line that is cut off; what it measured is lost", file=sys.stderr)
    return entries


def result_of(entries: list[Entry]) -> dict[str, Any]:
    """The result: about the last run, all rows by suite, the claims they make, and how many tests failed."""
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
        raise ValueError("the journal must begin with a line about its run")
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
    """Write the result, whole or not at all."""
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
    """The entries of several journals, the earliest run first."""
    return [entry for entries in sorted((read([path]) for path in paths), key=_began) for entry in entries]


def _began(entries: list[Entry]) -> str:
    return str(entries[0]["run"]["time"]) if entries and "run" in entries[0] else ""


if __name__ == "__main__":
    main()
