"""What `simplematch COMMAND` runs: one function for each command, whose arguments are its options."""

from __future__ import annotations

from collections.abc import Callable

from .ablate import ablate
from .data import prepare, stats
from .doctor import doctor
from .draw import curve, draw
from .evaluate import evaluate
from .match import match
from .train import train

COMMANDS: dict[str, Callable[..., None]] = {
    "match": match,
    "eval": evaluate,
    "train": train,
    "ablate": ablate,
    "draw": draw,
    "curve": curve,
    "stats": stats,
    "prepare": prepare,
    "doctor": doctor,
}
POSITIONAL = ("match", "ablate", "curve")
"""Commands whose arguments without a default need no name."""
