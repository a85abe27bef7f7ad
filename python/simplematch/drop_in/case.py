"""What is compared: a call of a clone's function, with its inputs and what its result means."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

from torch import Generator, Tensor


class Work(NamedTuple):
    """A call, repeatable.

    Attributes:
        call: runs functions of the clone, which it looks up each time, since they are replaced in between.
        read: the tensors of a result: coordinates in pixels or scores as floats, matches as integers.
        inputs: tensors that the result is differentiated for.
    """

    call: Callable[[], Any]
    read: Callable[[Any], tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Case:
    """A function of a codebase at shapes that it is used at.

    Attributes:
        title: the function and the shapes.
        unit: "px" (coordinates), "score" or "match" (indices: the differences are counted).
        make: draws the inputs from a generator.
    """

    title: str
    unit: str
    make: Callable[[Generator], Work]


@dataclass(frozen=True)
class Codebase:
    """How to import a codebase, and its cases.

    Attributes:
        stubs: modules that it imports and the cases don't need.
        provides: modules that the cases need and that exist only compiled or in older versions, made here.
        requires: packages that the cases need.
    """

    cases: tuple[Case, ...]
    stubs: tuple[str, ...] = ()
    provides: Mapping[str, Callable[[], ModuleType]] = field(default_factory=dict)
    requires: tuple[str, ...] = ()


def look_up(place: str) -> Any:
    """The function or class "module:name" of the clone, as it is now."""
    module, _, name = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
