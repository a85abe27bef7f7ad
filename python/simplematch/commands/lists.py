"""Parsing of comma-separated options: "a,b,c"."""

from __future__ import annotations


def names(text: str) -> list[str]:
    """Split a comma-separated list of names."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(option: str, text: str) -> list[int]:
    """Split a comma-separated list of positive integers.

    Raises:
        ValueError: an item is not a positive integer.
    """
    found = names(text)
    if not found or not all(part.isdecimal() and int(part) > 0 for part in found):
        raise ValueError(f"{option} must be comma-separated whole numbers above zero, got {text!r}")
    return [int(part) for part in found]
