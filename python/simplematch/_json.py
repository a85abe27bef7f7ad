"""JSON read strictly and written whole: what the standard leaves open is an error that names the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._files import DataError, reason_of, write_text

LARGEST = 256 << 20  # bytes: more is no annotation, and takes ten times as much memory
_DIGITS = 308  # of a whole number that a float can hold


def read_json(path: Path | str, *, largest: int = LARGEST) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: the file is missing, unreadable, larger than `largest` bytes, or no JSON. NaN, Infinity, numbers too
            large for a float, a key that comes twice in an object, and nesting too deep to read are none.
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
    """The object in a JSON file; see `read_json`."""
    content = read_json(path, largest=largest)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a JSON {type(content).__name__}, where an object is needed.")
    return content


def read_lines(path: Path | str, *, largest: int = LARGEST) -> Iterator[Any]:
    """The value in each line of a file of JSON lines, of at most `largest` bytes each; see `read_json`."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(largest + 1), b""), start=1):
                if len(line) > largest:
                    raise DataError(f"{path}, line {number}, is larger than {largest >> 20} MiB.")
                yield parse_json(line, f"{path}, line {number},")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except OSError as error:
        raise DataError(f"{path} can't be read as JSON: {reason_of(error)}.") from error


def parse_json(content: bytes | str, where: Path | str) -> Any:
    """The value of a JSON text; `where` it comes from begins the message of an error."""
    try:
        return loads(content)
    except ValueError as error:
        raise DataError(f"{where} can't be read as JSON: {reason_of(error)}.") from error


def loads(content: bytes | str) -> Any:
    """`json.loads` without what the standard doesn't have, or leaves open; a ValueError says why."""
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
    """Write a JSON file whole or not at all.

    Raises:
        ValueError: a number is NaN or infinite, which JSON can't say.
        WriteError: see `write_bytes`.
    """
    write_text(path, to_json(content, indent=indent))


def to_json(content: Any, *, indent: int | None = None) -> str:
    """The JSON text of a value without NaN and infinities."""
    return json.dumps(content, indent=indent, allow_nan=False)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} comes twice in an object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:60]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"the number {text[:60]}... is too large")
    return int(text)
