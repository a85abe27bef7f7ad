"""Writes the package in the layout of Hugging Face's `kernels` library: `python tools/hub/layout.py [FOLDER]`.

    FOLDER/build.toml                                a copy
    FOLDER/torch-ext/simplematch_kernels/            the input of the kernel builder
    FOLDER/build/torch-cpu/, torch-cuda/             the layers that `kernels` loads, with metadata.json

Each has an `__init__.py` with the public names, and the package as its subpackage `op`, because the builder writes
files of its own, such as `_ops.py`, beside `__init__.py`. It contains no compiled code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "simplematch_kernels"
BUILD = Path(__file__).parent / "build.toml"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.so", "_C.pyi", "native", "numpy", "__main__.py")
INIT = '''"""{summary}"""

from .op import *  # noqa: F403
from .op import __all__ as __all__
from .op import __version__ as __version__
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build" / "hub")
    assemble(parser.parse_args().folder)


def assemble(folder: Path) -> None:
    general: dict[str, Any] = tomllib.loads(BUILD.read_text())["general"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(BUILD, folder)
    name = general["name"].replace("-", "_")
    write_layer(folder / "torch-ext" / name)
    for backend in general["backends"]:
        variant = folder / "build" / f"torch-{backend}"
        write_layer(variant)
        (variant / "metadata.json").write_text(json.dumps(metadata(general, backend, digest(variant)), indent=2) + "\n")


def write_layer(folder: Path) -> None:
    shutil.copytree(PACKAGE, folder / "op", ignore=LEFT_OUT)
    summary = (PACKAGE / "__init__.py").read_text().split('"""')[1].splitlines()[0]
    (folder / "__init__.py").write_text(INIT.format(summary=summary))


def metadata(general: dict[str, Any], backend: str, content: str) -> dict[str, Any]:
    """Make the metadata; `id` is the layer's import name, unique for each content and backend."""
    return {
        "name": general["name"],
        "id": f"_{general['name'].replace('-', '_')}_{backend}_{content[:12]}",
        "version": general["version"],
        "license": general["license"],
        "python-depends": [],
        "backend": {"type": backend},
    }


def digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return whole.hexdigest()


if __name__ == "__main__":
    main()
