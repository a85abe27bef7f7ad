"""Checks of the JSON that the page sends: every field has its type and range, in one sentence otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._json import loads
from ..data.records import FloatArray, Size
from .matching import Settings

MOST_POINTS = 4096
LARGEST_BODY = 4 << 20
_LARGEST_SIDE = 100_000
_LONGEST_TEXT = 300


@dataclass(frozen=True)
class MatchRequest:
    """Points (N, 2) of picture `a` to find in picture `b`."""

    a: str
    b: str
    model: str
    points: FloatArray
    settings: Settings


def read_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: it is none.
    """
    if len(content) > LARGEST_BODY:
        raise ValueError(f"the request must have at most {LARGEST_BODY >> 20} MiB")
    try:
        found = loads(content)
    except ValueError as error:
        raise ValueError(f"the request must be a JSON object: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"the request must be a JSON object, got {type(found).__name__}")
    return found


def match_request(fields: Mapping[str, Any]) -> MatchRequest:
    """Check the fields of a request for matches.

    Raises:
        ValueError: a field is missing, of another type, or out of range.
    """
    settings = Settings(whole(fields, "window"), number(fields, "temperature"), text(fields, "backend"))
    a, b, model = (text(fields, name) for name in ("a", "b", "model"))
    return MatchRequest(a, b, model, points(fields, "points"), settings)


def points(fields: Mapping[str, Any], name: str) -> FloatArray:
    """Return a field of points (N, 2), each [x, y]."""
    rows = _list(fields, name)
    if not all(isinstance(row, list) and len(row) == 2 and all(map(_is_number, row)) for row in rows):
        raise ValueError(f"{name} must be pairs of numbers [x, y]")
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def inside(found: FloatArray, size: Size, name: str) -> FloatArray:
    """Check that points lie in a picture of (height, width)."""
    height, width = size
    if not ((found >= 0) & (found <= (width, height))).all():
        raise ValueError(f"{name} must lie in the picture of {width} x {height} pixels")
    return found


def whole(fields: Mapping[str, Any], name: str) -> int:
    """Return a field that is a whole number."""
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, got {_short(value)}")
    return value


def number(fields: Mapping[str, Any], name: str) -> float:
    """Return a field that is a number."""
    value: Any = fields.get(name)
    if not _is_number(value):
        raise ValueError(f"{name} must be a number, got {_short(value)}")
    return float(value)


def text(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text of at most 300 characters."""
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{name} must be a text of at most {_LONGEST_TEXT} characters, got {_short(value)}")
    return value


def side(fields: Mapping[str, Any], name: str) -> int:
    """Return a field that is the width or height of a picture."""
    value = whole(fields, name)
    if not 1 <= value <= _LARGEST_SIDE:
        raise ValueError(f"{name} must be 1 to {_LARGEST_SIDE} pixels, got {value}")
    return value


def objects(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a field that is a list of objects."""
    rows = _list(fields, name)
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{name} must be a list of objects")
    return rows


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    rows = fields.get(name)
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_POINTS:
        raise ValueError(f"{name} must be a list of 1 to {MOST_POINTS} items")
    return rows


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
