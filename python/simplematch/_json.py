"""Strict JSON reading and atomic writing; errors name the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._files import DataError, reason_of, write_text

LARGEST = 256 << 20  # bytes; parsing takes ten times as much memory
_DIGITS = 308  # of the largest integer that a float can hold


def read_json(path: Path | str, *, largest: int = LARGEST) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing, unreadable, larger than `largest` bytes, or not valid JSON. NaN, Infinity,
            numbers too large for a float, duplicate keys and too deep nesting are invalid.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(largest + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {reason_of(error)}.") from error
    if len(content) > largest:
        raise DataError(f"{path} can't be read as JSON: it is larger than {largest >> 20} MiB.")
    return parse_json(content, path)


def read_object(path: Path | str, *, largest: int = LARGEST) -> dict[str, Any]:
    """Read a JSON file that holds an object; see `read_json`."""
    content = read_json(path, largest=largest)
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object, got {type(content).__name__}.")
    return content


def read_lines(path: Path | str, *, largest: int = LARGEST) -> Iterator[Any]:
    """Yield the values of a JSON lines file, with lines of at most `largest` bytes; see `read_json`."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(largest + 1), b""), start=1):
                if len(line) > largest:
                    raise DataError(f"{path}, line {number} is larger than {largest >> 20} MiB.")
                yield parse_json(line, f"{path}, line {number}")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except OSError as error:
        raise DataError(f"{path} can't be read as JSON: {reason_of(error)}.") from error


def parse_json(content: bytes | str, where: Path | str) -> Any:
    """Parse a JSON text; error messages begin with `where`."""
    try:
        return loads(content)
    except ValueError as error:
        raise DataError(f"{where} can't be read as JSON: {reason_of(error)}.") from error


def loads(content: bytes | str) -> Any:
    """Parse a JSON text strictly; a ValueError gives the reason why it is invalid."""
    try:
        return json.loads(
            content,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_json(path: Path | str, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: a number is NaN or infinite.
        WriteError: see `write_bytes`.
    """
    write_text(path, to_json(content, indent=indent))


def to_json(content: Any, *, indent: int | None = None) -> str:
    """Serialise a value without NaN or infinities."""
    return json.dumps(content, indent=indent, allow_nan=False)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} appears twice in an object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:60]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"the number {text[:60]}... is too large")
    return int(text)
