"""A last line in model cards: it tells which weights a card describes, and whether somebody has edited the card."""

from __future__ import annotations

import hashlib
import re

_LINE = re.compile(
    r"<!-- Written by simplematch for the weights ([0-9a-f]{64}), text ([0-9a-f]{64})\. "
    r"An edited card is never overwritten\. -->\n?\Z"
)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def sign(text: str, weights: str) -> str:
    """Add the line to a card.

    Args:
        text: the card.
        weights: `digest` of the file of weights that it describes.
    """
    text = text.rstrip() + "\n\n"
    return (
        f"{text}<!-- Written by simplematch for the weights {weights}, text {digest(text.encode())}. "
        "An edited card is never overwritten. -->\n"
    )


def weights_of(card: str) -> str | None:
    """Return the digest of the weights that a card describes, or None if it doesn't say."""
    found = _LINE.search(card)
    return found[1] if found else None


def is_edited(card: str) -> bool:
    """Tell whether a card differs from what `sign` returned, or comes from elsewhere."""
    found = _LINE.search(card)
    return found is None or found[2] != digest(card[: found.start()].encode())
