"""The parts of `make test` that choose tests by name find some in every file that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def files(variable: str) -> list[Path]:
    listed = re.search(rf"^{variable} := \$\(addprefix tests/test_,(.*)\)$", (ROOT / "Makefile").read_text(), re.M)
    assert listed is not None
    return [ROOT / "tests" / f"test_{name}" for name in listed[1].split(",")[-1].split()]


@pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="the tests are not in the repository")
def test_every_file_has_tests_of_agreement() -> None:
    """`-k agree`: a file whose tests are named otherwise would be left out without a word."""
    for path in files("beside"):
        assert re.search(r"^def test_\w*agree", path.read_text(), re.M), path.name
