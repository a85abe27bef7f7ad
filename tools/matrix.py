"""Tests a wheel with several versions of torch, each in a new environment.

    python tools/matrix.py dist/simplematch_kernels-*.whl                     every version below, and no torch at all
    python tools/matrix.py dist/simplematch_kernels-*.whl none 2.13.0         these

Nothing is built: all packages are wheels, and the tests run without a compiler.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOOLS = Path(__file__).parent
VERSIONS = (
    "none", "2.6.0", "2.7.1", "2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0", "2.14.1", "2.15.0",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("versions", nargs="*", default=VERSIONS, help='versions of torch; "none" is NumPy alone')
    arguments = parser.parse_args()
    failed = [version for version in arguments.versions if not works(arguments.wheel.resolve(), version)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def works(wheel: Path, version: str) -> bool:
    print(f"\n---- torch {version}", flush=True)
    script = TOOLS / ("smoke_numpy.py" if version == "none" else "smoke_torch.py")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        packages = ["numpy"] if version == "none" else ["numpy", f"torch=={version}"]
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
        ]
        commands = [[*pip, *packages], [*pip, "--no-deps", wheel]]
        if any(subprocess.run(command).returncode for command in commands):
            return False
        return subprocess.run([python, "-I", script], cwd=folder, env={"PATH": ""}).returncode == 0


if __name__ == "__main__":
    main()
