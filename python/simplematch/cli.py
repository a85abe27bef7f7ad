"""The command line: `simplematch COMMAND`, see `simplematch.commands`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.logging import RichHandler

from ._files import reason_of
from .commands import COMMANDS, POSITIONAL
from .training.stop import Interrupted


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what the user can mend is one sentence on standard error, and status 2."""
    _log_to_standard_error()
    parser = ArgumentParser(prog="simplematch", description="Keypoints of one photograph found in another.")
    commands = parser.add_subcommands(required=True, dest="command")
    for name, function in COMMANDS.items():
        summary = str(function.__doc__).splitlines()[0]
        command = ArgumentParser(description=summary)
        command.add_function_arguments(function, as_positional=name in POSITIONAL)
        commands.add_subcommand(name, command, help=summary)
    chosen = parser.parse_args(arguments)
    try:
        COMMANDS[chosen.command](**chosen[chosen.command].as_dict())
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read what is printed has seen enough
        _drop_output()
        sys.exit(1)
    except (OSError, ValueError) as error:  # WriteError, DataError and ImageError too
        _say(_sentence(error))
        _drop_output()
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        _say(str(interruption) or "stopped")
        _drop_output()
        sys.exit(interruption.status if isinstance(interruption, Interrupted) else 130)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone
        print(f"simplematch: {text}", file=sys.stderr)


def _sentence(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError) or error.strerror is None:  # a sentence already
        return str(error)
    return f"{error.filename or 'what is printed'}: {reason_of(error)}"


def _drop_output() -> None:
    """What couldn't be printed isn't tried again at the end, which would print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _log_to_standard_error() -> None:
    console = Console(stderr=True)
    if console.is_terminal:  # lines stay above a progress bar
        handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False)
    else:
        handler = logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it names every file of a state


if __name__ == "__main__":
    main()
