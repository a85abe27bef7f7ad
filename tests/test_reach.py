"""How far one option and one operator reach: the lines that name an existing one, where a new one must be added too.

Not counted are what a new option or operator is about: the mathematics of kernels and reference, tests, and docs; and
the presets and integrations, which use what is there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MATHEMATICS = re.compile(r"simplematch_kernels/(reference/|presets|integrations/)|csrc/cpu/|csrc/cuda/")
KERNELS = re.compile(r"^@(triton\.)?jit", re.M)
"""A file of the package with kernels; those that launch them have none."""


def named(word: str) -> dict[str, int]:
    """The lines of product code that spell `word`, by file."""
    found = {}
    for folder, endings in (("simplematch_kernels", {".py", ".pyi"}), ("csrc", {".h", ".hpp", ".cpp", ".cu"})):
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in endings and not MATHEMATICS.match(name):
                text = path.read_text()
                lines = 0 if KERNELS.search(text) else sum(word in line for line in text.splitlines())
                if lines:
                    found[name] = lines
    return found


@pytest.mark.parametrize(("kind", "word"), [("option", "outside_value"), ("operator", "gather_keypoints")])
def test_reach(kind: str, word: str) -> None:
    """At most so many as CONTRIBUTING.md says."""
    if not (ROOT / "csrc").is_dir():
        pytest.skip("the sources of the compiled module are not here")
    said = re.search(rf"existing {kind} \((\d+) in (\d+) files\)", (ROOT / "CONTRIBUTING.md").read_text())
    assert said is not None
    found = named(word)
    assert sum(found.values()) <= int(said[1]) and len(found) <= int(said[2]), found
