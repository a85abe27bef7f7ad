"""The json of pytest-benchmark contains the same times as our own result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import summary

ROOT = Path(__file__).parents[2]
SMALLEST = "benchmarks/test_op.py -k smallest_call --rounds 1 --device cpu -p no:cacheprovider"


def run(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "pytest", *SMALLEST.split(), *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pytest_benchmark_holds_every_provider(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    run("--save", tmp_path / "own.json", "--benchmark-json", tmp_path / "theirs.json")
    own, theirs = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("own", "theirs"))
    found = {entry["fullname"]: entry for entry in theirs["benchmarks"]}
    assert len(found) == sum(len(row["times"]) for row in own["smallest_call"]) == 4
    for row in own["smallest_call"]:
        group = f"benchmarks/test_op.py::test_smallest_call[{row['mode']}]"
        for provider, times in row["times"].items():
            entry = found[f"{group} {provider}"]
            assert entry["group"] == group and entry["extra_info"]["provider"] == provider
            assert entry["extra_info"]["channels"] == row["channels"]
            assert summary(entry["stats"]["data"]) == times


def test_runs_of_pytest_benchmark_are_compared(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    store = f"--benchmark-storage={tmp_path}"
    run(store, "--benchmark-autosave")
    printed = run(store, "--benchmark-compare", "--benchmark-only")
    assert "ours (0001_" in printed and "ours (NOW)" in printed


def test_benchmarks_run_without_pytest_benchmark(tmp_path: Path) -> None:
    run("--save", tmp_path / "own.json", "-p", "no:benchmark")
    assert len(json.loads((tmp_path / "own.json").read_text())["smallest_call"]) == 2
