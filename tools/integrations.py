"""Compares the functions of other codebases' clones with ours: writes docs/integrations/*.json and the page of them.

    python tools/integrations.py CLONES      a folder with clones named as in simplematch_kernels.integrations.NAMES

A codebase without a folder there is taken from the installed package if there is one, and skipped otherwise. Each runs
in a process of its own with one thread. Run it on a quiet machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from simplematch_kernels.integrations import NAMES

ROOT = Path(__file__).resolve().parent.parent


def clone_of(name: str, clones: Path) -> Path | None:
    """The folder of a clone, or that of an installed package."""
    if (clones / name).is_dir():
        return clones / name
    installed = find_spec(name) if name == "kornia" else None
    return None if installed is None or installed.origin is None else Path(installed.origin).parents[1]


def main(clones: Path) -> int:
    """Compare all, and return how many failed."""
    results = ROOT / "docs" / "integrations"
    results.mkdir(exist_ok=True)
    failed = []
    for name in NAMES:
        folder = clone_of(name, clones)
        if folder is None:
            print(f"{name}: no clone in {clones}", flush=True)
            continue
        command = [sys.executable, "-W", "ignore", "-m", "simplematch", "verify-drop-in", name, str(folder)]
        run = subprocess.run(
            [*command, "--output", str(results / f"{name}.json")], env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT
        )
        failed += [name] * (run.returncode != 0)
    subprocess.run([sys.executable, "-m", "simplematch", "integrations"], check=True, cwd=ROOT)
    print("failed: " + (", ".join(failed) or "none"))
    return len(failed)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("integrations: give the folder of the clones")
    sys.exit(min(1, main(Path(sys.argv[1]))))
