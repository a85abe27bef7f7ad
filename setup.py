"""Builds the compiled module with CMake; everything else about the package is in pyproject.toml.

SIMPLEMATCH_CUDA=auto|on|off says whether the CUDA kernels are built: where nvcc is found, always, or never.
Without a compiler the package installs without the module, as pure Python, and says so.
SIMPLEMATCH_REQUIRE_NATIVE=1 makes that an error. SIMPLEMATCH_BUILD names the folder of CMake; builds that share it
compile the kernels once. `python setup.py build_ext --inplace` builds into the checkout with
the cmake, ninja and pybind11 that are there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
REQUIRED = os.environ.get("SIMPLEMATCH_REQUIRE_NATIVE", "0").lower() not in ("", "0", "false", "off", "no")


_EXPLANATION = """
{line}
simplematch-kernels: the compiled CPU kernels could not be built ({reason}).
Installing without them: the package works, with PyTorch and Triton only, and is slower on the CPU.
Needed: GCC or Clang with C++17, cmake, ninja, pybind11. SIMPLEMATCH_REQUIRE_NATIVE=1 stops here instead.
{line}
"""


class BuildWithCMake(build_ext):
    """Builds `simplematch_kernels._C` where setuptools wants it."""

    def build_extension(self, ext: Extension) -> None:
        """Configures and builds; on failure raises, or goes on without the module."""
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        try:
            self._build(output)
        except (OSError, subprocess.CalledProcessError) as error:
            if REQUIRED:
                raise
            print(_EXPLANATION.format(reason=_summary(error), line="=" * 100), file=sys.stderr, flush=True)

    def _build(self, output: Path) -> None:
        build = Path(os.environ.get("SIMPLEMATCH_BUILD") or Path(self.build_temp) / "cmake").resolve()
        cmake, ninja = _program("cmake"), _program("ninja", "ninja-build")
        if cmake is None:
            raise OSError("no cmake found")
        configure = [
            cmake,
            *("-S", str(ROOT), "-B", str(build)),
            "-DSIMPLEMATCH_PYTHON=ON",
            "-DSIMPLEMATCH_INSTALL=OFF",
            "-DSIMPLEMATCH_TESTS=OFF",
            f"-DSIMPLEMATCH_CUDA={os.environ.get('SIMPLEMATCH_CUDA') or 'auto'}",
            f"-DSIMPLEMATCH_OUTPUT={output.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={_pybind11_directory()}",
        ]
        if ninja is not None:
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        try:
            _run(configure)
        except subprocess.CalledProcessError:
            if not build.exists():
                raise
            shutil.rmtree(build)  # what an earlier build left may name another compiler or a Python that is gone
            _run(configure)
        _run([cmake, "--build", str(build), "--target", "_C"])
        if not output.exists():
            raise OSError(f"the build left no {output.name}")


def _summary(error: Exception) -> str:
    return "CMake failed, see above" if isinstance(error, subprocess.CalledProcessError) else str(error)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)


def _pybind11_directory() -> str:
    try:
        import pybind11
    except ImportError as error:
        raise OSError("no pybind11 found") from error
    return pybind11.get_cmake_dir()


def _program(*names: str) -> str | None:
    """Beside this Python first, which need not be on the PATH."""
    for name in names:
        found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        if found:
            return found
    return None


setup(
    ext_modules=[Extension("simplematch_kernels._C", sources=[], optional=not REQUIRED)],
    cmdclass={"build_ext": BuildWithCMake},
)
