"""Checks of mappings that become dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def check_fields(kind: type[Any], fields: Mapping[str, Any], required: Sequence[str], source: str) -> None:
    """Check that `fields` has only names of the dataclass `kind`, and all `required` ones.

    Args:
        kind: the dataclass.
        fields: values by name.
        required: names without a default.
        source: where the fields come from, for error messages.

    Raises:
        ValueError: a name is unknown or missing.
    """
    known = {x.name for x in dataclasses.fields(kind)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"{source} has the unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    missing = [name for name in required if name not in fields]
    if missing:
        raise ValueError(f"{source} must have the field {missing[0]!r}, got {', '.join(sorted(fields)) or 'none'}")


def from_fields(kind: type[T], fields: Mapping[str, Any], required: Sequence[str], source: str) -> T:
    """Make a dataclass of a mapping after `check_fields`; errors of its own checks begin with `source`."""
    check_fields(kind, fields, required, source)
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from error
