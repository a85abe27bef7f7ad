"""The functions behind `simplematch COMMAND`; their arguments are the command's options."""

from __future__ import annotations

from collections.abc import Callable

from .ablate import ablate
from .app import app
from .calibrate import calibrate
from .data import prepare, stats
from .doctor import doctor
from .draw import curve, draw
from .evaluate import evaluate
from .export import export
from .integrations import integrations, verify_drop_in
from .match import match
from .train import train

COMMANDS: dict[str, Callable[..., None]] = {
    "match": match,
    "app": app,
    "eval": evaluate,
    "calibrate": calibrate,
    "train": train,
    "ablate": ablate,
    "export": export,
    "draw": draw,
    "curve": curve,
    "stats": stats,
    "prepare": prepare,
    "doctor": doctor,
    "verify-drop-in": verify_drop_in,
    "integrations": integrations,
}
POSITIONAL = ("match", "ablate", "curve", "verify-drop-in")
"""Commands that take their arguments without a default by position."""
