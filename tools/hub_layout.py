"""Assembles the package as the `kernels` library of Hugging Face loads it: `python tools/hub_layout.py [FOLDER]`.

    FOLDER/build.toml                                a copy
    FOLDER/torch-ext/simplematch_kernels/            what the kernel builder starts from
    FOLDER/build/torch-cpu/, torch-cuda/             what `kernels` loads: the same, and metadata.json

Each holds an `__init__.py` with the public names, and the package as its subpackage `op`: beside `__init__.py` the
builder writes an `_ops.py` of its own, a name that the package uses too. Nothing compiled is part of it.
Needs Python 3.11 or newer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "simplematch_kernels"
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
    general: dict[str, Any] = tomllib.loads((ROOT / "build.toml").read_text())["general"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "build.toml", folder)
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
    """`id` is the name under which the layer is imported: one of its own for every content and backend."""
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
