"""A record of tensors and options as the flat arguments of a torch operator, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, get_type_hints

from torch import Tensor

Record = TypeVar("Record", bound=Any)

SCHEMA_TYPES: dict[Any, str] = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    str: "str",
    bool: "bool",
    int: "int",
    float: "float",
    float | None: "float?",
    int | None: "SymInt?",
    Sequence[float] | None: "float[]?",
    int | Sequence[int]: "SymInt[]",
    Sequence[int]: "SymInt[]",
    Sequence[int] | None: "SymInt[]?",
}
"""How operators declare a field, by its type."""


class Layout(Generic[Record]):
    """The flat arguments of a NamedTuple whose fields may be NamedTuples again.

    Attributes:
        names: of the arguments, in order.
        schema: their declaration, "Tensor features, Tensor? valid, ...".
        tensors: the places of tensors among them.
    """

    def __init__(self, record: type[Record]) -> None:
        self.record = record
        self.names: list[str] = []
        self._parts: list[tuple[Any, int, int]] = []  # of each field: its record or None, where it starts and ends
        types: list[str] = []
        for name, hint in get_type_hints(record).items():
            start, group = len(self.names), hint if hasattr(hint, "_fields") else None
            fields = {name: hint} if group is None else get_type_hints(group)
            self.names += fields
            types += [SCHEMA_TYPES[each] for each in fields.values()]
            self._parts.append((group, start, len(self.names)))
        self.schema = ", ".join(f"{kind} {name}" for kind, name in zip(types, self.names, strict=True))
        self.tensors = [i for i, kind in enumerate(types) if kind.startswith("Tensor")]
        self._sizes = [i for i, kind in enumerate(types) if "[]" in kind]

    def places(self, names: Iterable[str]) -> list[int]:
        """Where the arguments of these names stand."""
        return [self.names.index(name) for name in names]

    def flatten(self, record: Record) -> list[Any]:
        values: list[Any] = []
        for value, (group, _, _) in zip(record, self._parts, strict=True):
            if group is None:
                values.append(value)
            else:
                values.extend(value)
        return values

    def unflatten(self, values: Sequence[Any]) -> Record:
        """The record of flat arguments; sizes, which torch makes lists, are tuples again."""
        plain = list(values)
        for place in self._sizes:
            if plain[place] is not None:
                plain[place] = tuple(plain[place])
        fields = [plain[start] if group is None else group(*plain[start:stop]) for group, start, stop in self._parts]
        record: Record = self.record(*fields)
        return record
