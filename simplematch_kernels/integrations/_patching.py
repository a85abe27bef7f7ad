"""Replaces functions of another codebase by ours: lookup, check of the signature, replacement, restoration."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

LOGGER = logging.getLogger("simplematch_kernels")
SWITCH = "SIMPLEMATCH_INTEGRATIONS"
_SITE_FOLDERS = ("site-packages", "dist-packages")
_MARK = "__replaced_by_integration__"


class PatchError(RuntimeError):
    """A function of another codebase can't be replaced; the message says what was looked for and what was found."""


@dataclass(frozen=True)
class Replacement:
    """A function of another codebase, and ours.

    Attributes:
        place: "module:function" or "module:Class.method".
        parameters: its parameters with their defaults, without annotations: "corr, beta=0.02".
        ours: takes the same arguments, and returns the same.
        needs_theirs: whether `ours` takes their function before these arguments, to call it for what ours can't do.
    """

    place: str
    parameters: str
    ours: Callable[..., Any]
    needs_theirs: bool = False

    @property
    def module(self) -> str:
        return self.place.partition(":")[0]

    @property
    def function(self) -> str:
        return self.place.partition(":")[2]

    @property
    def sought(self) -> str:
        return f"{self.function}({self.parameters}) in module {self.module}"


@dataclass(frozen=True)
class Integration:
    """The functions of one codebase that ours can replace."""

    name: str
    repository: str
    replacements: tuple[Replacement, ...]


class Patch:
    """Replaced functions of a codebase; `unpatch()`, or the end of a `with` block, restores theirs."""

    def __init__(self, name: str, found: list[_Found]) -> None:
        """Replace what was found."""
        self.name = name
        self.replaced = tuple(x.replacement.place for x in found)
        self._found = found
        for x in found:
            x.replace()
            LOGGER.info("%s: %s is replaced", name, x.replacement.place)

    def unpatch(self) -> None:
        """Put the original functions back, also where our functions were imported by name since; once is enough."""
        for x in self._found:
            x.restore()
            LOGGER.debug("%s: %s is restored", self.name, x.replacement.place)
        self._found = []

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unpatch()


def apply(integration: Integration) -> Patch:
    """Replace all functions of an integration, or none if one of them isn't as expected.

    Raises:
        PatchError: a module can't be imported, a function is missing, has other parameters or is replaced already.
        ValueError: the environment variable SIMPLEMATCH_INTEGRATIONS is neither "on" nor "off".
    """
    switch = os.environ.get(SWITCH, "on")
    if switch not in ("on", "off"):
        raise ValueError(f"{SWITCH} must be on or off, got {switch!r}")
    if switch == "off":
        LOGGER.info("%s: nothing is replaced, %s is off", integration.name, SWITCH)
        return Patch(integration.name, [])
    return Patch(integration.name, [_find(integration, x) for x in integration.replacements])


def parameters_of(function: Callable[..., Any]) -> str:
    """Show the parameters of a function with their defaults, without annotations."""
    signature = inspect.signature(function)
    bare = [x.replace(annotation=inspect.Parameter.empty) for x in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))[1:-1]


class _Found:
    """A function of another codebase, where it is, and what takes its place."""

    def __init__(self, replacement: Replacement, module: ModuleType, owner: type | None, raw: Any) -> None:
        self.replacement = replacement
        self._module, self._owner, self._raw = module, owner, raw
        self._name = replacement.function.rpartition(".")[2]
        patched = _wrapped(replacement, _plain(raw))
        self._patched = type(raw)(patched) if isinstance(raw, classmethod | staticmethod) else patched

    def replace(self) -> None:
        if self._owner is not None:
            setattr(self._owner, self._name, self._patched)
        else:
            _exchange(self._module, self._raw, self._patched)

    def restore(self) -> None:
        if self._owner is None:
            _exchange(self._module, self._patched, self._raw)
        elif vars(self._owner).get(self._name) is self._patched:
            setattr(self._owner, self._name, self._raw)


def _find(integration: Integration, replacement: Replacement) -> _Found:
    looked_for = f"patch({integration.name!r}) looked for {replacement.sought} of {integration.repository}"
    try:
        module = _module(replacement.module)
    except Exception as error:
        raise PatchError(
            f"{looked_for}, which can't be imported ({type(error).__name__}: {error}); the folder of the clone "
            "must be on sys.path"
        ) from error
    owner: Any = None
    *classes, name = replacement.function.split(".")
    for part in classes:
        owner = vars(module if owner is None else owner).get(part)
        if not isinstance(owner, type):
            raise PatchError(f"{looked_for}, which has no class {part}; it is another version of the code")
    raw = vars(module if owner is None else owner).get(name)
    function = _plain(raw)
    if not callable(function):
        raise PatchError(f"{looked_for}, which has no such function; it is another version of the code")
    if hasattr(function, _MARK):
        raise PatchError(f"{looked_for}, which is replaced already; call unpatch() first")
    found = parameters_of(function)
    if found != replacement.parameters:
        raise PatchError(f"{looked_for}, which has {name}({found}); it is another version of the code")
    return _Found(replacement, module, owner, raw)


def _module(name: str) -> ModuleType:
    """The module, or the program that runs if it is this module."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if main is not None and file is not None and Path(file).stem == name:
        return main
    return importlib.import_module(name)


def _plain(raw: Any) -> Any:
    return raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw


def _wrapped(replacement: Replacement, theirs: Callable[..., Any]) -> Callable[..., Any]:
    ours = functools.partial(replacement.ours, theirs) if replacement.needs_theirs else replacement.ours

    def call(*arguments: Any, **options: Any) -> Any:
        return ours(*arguments, **options)

    replaced: Any = functools.wraps(theirs)(call)
    setattr(replaced, _MARK, replacement.place)
    replaced.__prepare_scriptable__ = lambda: theirs  # torch.jit.script compiles theirs
    found: Callable[..., Any] = replaced
    return found


def _exchange(module: ModuleType, old: Any, new: Any) -> None:
    """Set every name for `old` in the loaded modules of a codebase to `new`: `from module import f` made more."""
    for other in _relatives(module):
        for name, value in list(vars(other).items()):
            if value is old:
                setattr(other, name, new)


def _relatives(module: ModuleType) -> Iterator[ModuleType]:
    """The loaded modules of the same package, and those beside it, unless that is where packages are installed."""
    package = module.__name__.partition(".")[0]
    root = _root(module)
    for other in [x for x in list(sys.modules.values()) if isinstance(x, ModuleType)]:
        file = vars(other).get("__file__")
        beside = root is not None and isinstance(file, str) and Path(file).resolve().is_relative_to(root)
        if other is module or beside or other.__name__.partition(".")[0] == package:
            yield other


def _root(module: ModuleType) -> Path | None:
    """The folder from which a module was imported, None where packages are installed."""
    file = vars(module).get("__file__")
    if not isinstance(file, str):
        return None
    depth = module.__name__.count(".") + Path(file).name.startswith("__init__.")
    root = Path(file).resolve().parents[depth]
    return None if root.name in _SITE_FOLDERS else root
