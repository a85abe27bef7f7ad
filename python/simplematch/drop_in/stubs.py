"""An import hook: modules that a clone imports and its matching functions don't need are stand-ins without content."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import isclass, isfunction
from types import ModuleType
from typing import Any


class Stub:
    """Has every attribute, can be called, indexed, inherited from and used as a decorator; nothing comes of it."""

    def __getattr__(self, name: str) -> Stub:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        decorated = len(arguments) == 1 and not options and (isclass(arguments[0]) or isfunction(arguments[0]))
        return arguments[0] if decorated else Stub()

    def __getitem__(self, key: Any) -> Stub:
        return Stub()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (object,) if len(bases) == 1 else ()


class StubModule(ModuleType):
    """A module whose every attribute is a `Stub`."""

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return []
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub()


class StubFinder(MetaPathFinder, Loader):
    """Finds the modules with these names, and those below them."""

    def __init__(self, names: Collection[str]) -> None:
        """Take the full names, such as "cv2" or "dust3r.utils"."""
        self._names = frozenset(names)

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        parts = fullname.split(".")
        below = any(".".join(parts[: i + 1]) in self._names for i in range(len(parts)))
        return ModuleSpec(fullname, self, is_package=True) if below else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextlib.contextmanager
def stubbed(names: Collection[str], modules: dict[str, ModuleType]) -> Iterator[None]:
    """Put stand-ins for `names`, and the given `modules`, in the place of what is or isn't installed."""
    finder = StubFinder(names)
    before = dict(sys.modules)
    for name in before:
        if any(name == x or name.startswith(f"{x}.") for x in names):
            del sys.modules[name]
    sys.modules.update(modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - set(before):
            if isinstance(sys.modules[name], StubModule) or name in modules:
                del sys.modules[name]
        sys.modules.update(before)
