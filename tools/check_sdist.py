"""Installs an sdist without a compiler, and tests the resulting pure Python package.

    python tools/check_sdist.py build/wheel/simplematch_kernels-*.tar.gz

Run it with a Python that has torch. The installation and the first use must each report once that the compiled kernels
are missing.
"""

from __future__ import annotations

import argparse
import os
import site
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("LICENSE", "README.md", "CMakeLists.txt", "CMakePresets.json", "setup.py", "pyproject.toml")
FOLDERS = ("csrc", "cmake", "simplematch_kernels", "python")  # what a build from the sdist needs, whole
BUILT = (".so", ".o", ".a", ".pyc")
BUILD_MESSAGE = "simplematch-kernels: the compiled CPU kernels could not be built"
USE_MESSAGE = "backend 'cpu' is not used on cpu: the compiled module is not there"
USE = """
import torch, simplematch_kernels as smk
source = torch.randn(1, 16, 12, 12, requires_grad=True)
keypoints = torch.tensor([[[4.0, 5.0], [8.0, 2.0]]])
for _ in range(2):
    matches = smk.sparse_window_match(source, source.detach().roll((1, 2), (2, 3)), keypoints, localization="argmax")
    assert (matches.keypoints - keypoints).tolist() == [[[2.0, 1.0], [2.0, 1.0]]]
matches.score.sum().backward()
assert source.grad.isfinite().all()
assert "cpu: reference runs" in smk.explain("cpu")
print(smk.__file__)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sdist", type=Path)
    sdist: Path = parser.parse_args().sdist
    check_content(sdist)
    with tempfile.TemporaryDirectory() as folder:
        installed = install(sdist.resolve(), folder)
        expect_once(BUILD_MESSAGE, installed)
        expect_once(USE_MESSAGE, use(folder))
    print(f"{sdist.name}: installs without a compiler as pure Python, and says so once; so does its first use")


def check_content(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    needed = (str(path.relative_to(ROOT)) for path in files if path.suffix not in BUILT)
    missing = [name for name in (*FILES, *needed) if name not in names]
    built = [name for name in names if name.endswith(BUILT)]
    if missing or built:
        sys.exit(f"{sdist.name} lacks {missing} and has built files {built}")


def install(sdist: Path, folder: str) -> str:
    """Install the sdist and return pip's output. The build has CMake and ninja, but no compiler."""
    command = [sys.executable, "-m", "pip", "install", "--verbose", "--no-deps", "--no-cache-dir", "--target", folder]
    environment = {**os.environ, "PATH": "/nonexistent", "CC": "/bin/false", "CXX": "/bin/false"}
    environment.pop("SIMPLEMATCH_REQUIRE_NATIVE", None)
    return run([*command, str(sdist)], environment)


def use(folder: str) -> str:
    """Use the package and return its output, ignoring .pth files, because an editable installation has the module."""
    path = os.pathsep.join([folder, *site.getsitepackages()])
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SIMPLEMATCH_", "TRITON_INTERPRET"))}
    printed = run([sys.executable, "-S", "-c", USE], {**environment, "PYTHONPATH": path}, cwd=folder)
    if folder not in printed:
        sys.exit(f"another installation was used:\n{printed}")
    return printed


def run(command: list[str], environment: dict[str, str], cwd: str | None = None) -> str:
    done = subprocess.run(
        command, env=environment, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.exit(f"{' '.join(command[:6])} ... failed:\n{done.stdout}")
    return done.stdout


def expect_once(message: str, printed: str) -> None:
    if printed.count(message) != 1:
        sys.exit(f"expected {message!r} once, got it {printed.count(message)} times in\n{printed}")


if __name__ == "__main__":
    main()
