"""How far one option and one operator reach: the lines that name an existing one, where a new one must be added too.

Not counted are what a new option or operator is about: the mathematics of kernels and reference, tests, and docs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MATHEMATICS = re.compile(
    r"simplematch_kernels/reference/|simplematch_kernels/triton/(?!_arguments|_launch|_steps|backend)|csrc/cpu/|csrc/cuda/"
)


def named(word: str) -> dict[str, int]:
    """The lines of product code that spell `word`, by file."""
    found = {}
    for folder, endings in (("simplematch_kernels", {".py", ".pyi"}), ("csrc", {".h", ".hpp", ".cpp", ".cu"})):
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in endings and not MATHEMATICS.match(name):
                lines = sum(word in line for line in path.read_text().splitlines())
                if lines:
                    found[name] = lines
    return found


@pytest.mark.parametrize(
    ("word", "lines", "files"), [("outside_value", 18, 9), ("gather_keypoints", 30, 12)], ids=["option", "operator"]
)
def test_reach(word: str, lines: int, files: int) -> None:
    if not (ROOT / "csrc").is_dir():
        pytest.skip("the sources of the compiled module are not here")
    found = named(word)
    assert len(found) <= files and sum(found.values()) <= lines, found
