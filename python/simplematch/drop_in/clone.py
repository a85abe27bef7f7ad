"""The clone of a codebase, importable inside a `with` block and nowhere else."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from simplematch_kernels.integrations import Integration

from .._files import DataError
from .case import Codebase
from .stubs import stubbed


@contextlib.contextmanager
def opened(integration: Integration, codebase: Codebase, folder: Path) -> Iterator[None]:
    """Make the modules of a clone importable; all that it changes in this process is restored.

    Raises:
        DataError: the folder is no clone, or a package that the functions need isn't installed.
    """
    _check_folder(integration, folder)
    for package in codebase.requires:
        if find_spec(package) is None:
            raise DataError(
                f"{integration.name} needs the package {package}, which is not installed (pip install {package})."
            )
    provided = {name: make() for name, make in codebase.provides.items()}
    with _on_path(folder), stubbed(codebase.stubs, provided), _without_gpu():
        yield


def version_of(folder: Path) -> str | None:
    """The commit of a clone, None if it has none."""
    try:
        head = (folder / ".git" / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            head = (folder / ".git" / head.removeprefix("ref: ")).read_text().strip()
    except OSError:
        return None
    return head


def _check_folder(integration: Integration, folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; it must be a clone of {integration.repository}.")
    for module in {x.module for x in integration.replacements}:
        file = Path(*module.split("."))
        if not (folder / file.with_suffix(".py")).is_file():
            raise DataError(f"{folder} is no clone of {integration.repository}: it has no {file.with_suffix('.py')}.")


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Put the folder first on sys.path, and hide loaded modules of other places that have names of its modules."""
    root = folder.resolve()
    if str(root) in sys.path:  # where packages are installed
        yield
        return
    names = {path.stem for path in root.iterdir() if path.is_dir() or path.suffix == ".py"}
    hidden = {
        name: module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in names and name != "__main__" and not _lies_in(module, root)
    }
    before = set(sys.modules)
    path = list(sys.path)
    for name in hidden:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        new = set(sys.modules) - (before - set(hidden))
        for name in [x for x in new if x.partition(".")[0] in names and _lies_in(sys.modules[x], root)]:
            del sys.modules[name]
        sys.modules.update(hidden)


def _lies_in(module: ModuleType, root: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(isinstance(place, str) and Path(place).resolve().is_relative_to(root) for place in places)


def _same(x: Any, *arguments: Any, **options: Any) -> Any:
    return x


@contextlib.contextmanager
def _without_gpu() -> Iterator[None]:
    """Tensors stay where they are when a clone moves them to a GPU: all is measured on the CPU."""
    with mock.patch.object(torch.Tensor, "cuda", _same), mock.patch.object(torch.nn.Module, "cuda", _same):
        yield
