"""The host's time of a call is measured without a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed")


def test_every_call_is_measured_with_and_without_triton() -> None:
    command = [sys.executable, "-m", "benchmarks.launch_overhead", "--rounds", "20"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.strip("| ").split("|") for line in printed.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == [
        f"{sample}, {kind}"
        for sample in ("floor, window 9", "bilinear, window 9", "descriptors, global")
        for kind in ("forward", "forward+backward")
    ]
    assert all(float(whole) > float(ours) > 0 for _, whole, _, ours in rows)
