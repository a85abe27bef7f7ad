"""Writes a project of Hugging Face's kernel builder, and what it would build: `python tools/hub/layout.py [FOLDER]`.

    FOLDER/build.toml, flake.nix, CARD.md, example.py, benchmarks/, tests/     copies
    FOLDER/torch-ext/simplematch_kernels/                                      the package, as the builder takes it
    FOLDER/build/torch-cpu/, torch-cuda/                                       builds, as `kernels` loads them

It contains no compiled code. The builder writes `_ops.py`, which names a build's operators, into the package, and
`metadata.json` into the builds; this script does so in its stead for the builds in FOLDER.
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PACKAGE = ROOT / "simplematch_kernels"
PROJECT = ("build.toml", "flake.nix", "CARD.md", "example.py", "benchmarks", "tests")
LEFT_OUT = shutil.ignore_patterns(  # `integrations` import packages that a kernel may not
    *("__pycache__", "*.so", "_C.pyi", "py.typed", "native", "numpy", "integrations", "__main__.py", "_ops.py")
)
OPS = '''"""The namespace of this build's operators in torch.ops."""

import torch

ops = getattr(torch.ops, "{identifier}")


def add_op_namespace_prefix(op_name: str) -> str:
    return f"{identifier}::{{op_name}}"
'''
OLDER = '''"""The names of the package in the folder above, for versions of `kernels` that look for them here."""

import importlib.util
import json
import sys
from pathlib import Path

_folder = Path(__file__).parent.parent
_name = json.loads((_folder / "metadata.json").read_text())["id"]
if _name not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_name, _folder / "__init__.py")
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])
__all__ = sys.modules[_name].__all__


def __getattr__(name: str) -> object:
    return getattr(sys.modules[_name], name)
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build" / "hub")
    parser.add_argument("--unique-id", help="end of the names of operators; by default the digest of the package")
    options = parser.parse_args()
    assemble(options.folder, options.unique_id)


def assemble(folder: Path, unique_id: str | None = None) -> None:
    """Write the project, and a build for each of its backends under `unique_id`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in PROJECT:
        source = HERE / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=LEFT_OUT)
        else:
            shutil.copy(source, folder)
    general: dict[str, Any] = tomllib.loads((HERE / "build.toml").read_text())["general"]
    module = general["name"].replace("-", "_")
    package = folder / "torch-ext" / module
    write_package(package)
    unique_id = unique_id or hashlib.sha256(json.dumps(digest(package)).encode()).hexdigest()[:12]
    for backend in general["backends"]:
        write_build(
            package, folder / "build" / f"torch-{backend}", general, backend, f"_{module}_{backend}_{unique_id}"
        )


def write_package(folder: Path) -> None:
    """The package as it is, with the layers among its public names and without compiled code."""
    shutil.copytree(PACKAGE, folder, ignore=LEFT_OUT)
    shutil.copy(HERE / "layers.py", folder)
    code = (PACKAGE / "__init__.py").read_text()
    before, lazily, after = code.partition("\nif not TYPE_CHECKING:")
    after, _, names = after.rpartition("__all__ = ")
    listed = "".join(f'    "{name}",\n' for name in sorted([*ast.literal_eval(names), "layers"]))
    (folder / "__init__.py").write_text(f"{before}\nfrom . import layers\n{lazily}{after}__all__ = [\n{listed}]\n")


def write_build(package: Path, folder: Path, general: dict[str, Any], backend: str, identifier: str) -> None:
    """What the builder makes of the package for a backend."""
    shutil.copytree(package, folder)
    (folder / "_ops.py").write_text(OPS.format(identifier=identifier))
    older = folder / package.name
    older.mkdir()
    (older / "__init__.py").write_text(OLDER)
    metadata = {
        "name": general["name"],
        "id": identifier,
        "version": general["version"],
        "license": general["license"],
        "python-depends": [],
        "backend": {"type": backend},
        "digest": {"algorithm": "sha256", "files": digest(folder)},
    }
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


def digest(folder: Path) -> dict[str, str]:
    """The SHA-256, base64, of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        for path in files
    }


if __name__ == "__main__":
    main()
