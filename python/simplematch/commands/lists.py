"""Options that take several values: "a,b,c"."""

from __future__ import annotations


def names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(option: str, text: str) -> list[int]:
    """The whole numbers above zero in a list with commas.

    Raises:
        ValueError: something else is in it.
    """
    found = names(text)
    if not found or not all(part.isdecimal() and int(part) > 0 for part in found):
        raise ValueError(f"{option} must be whole numbers above zero with commas between them, got {text!r}")
    return [int(part) for part in found]
