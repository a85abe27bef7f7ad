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

RENAMED = {"--believe": "--annotations"}


def main(arguments: list[str] | None = None) -> None:
    """Run a command. An error that the user can fix prints one sentence to standard error and exits with status 2."""
    _log_to_standard_error()
    parser = ArgumentParser(prog="simplematch", description="Find keypoints of one image in another.")
    commands = parser.add_subcommands(required=True, dest="command")
    for name, function in COMMANDS.items():
        summary = str(function.__doc__).splitlines()[0]
        command = ArgumentParser(description=summary)
        command.add_function_arguments(function, as_positional=name in POSITIONAL)
        commands.add_subcommand(name, command, help=summary)
    given = [_with_underscores(x) for x in (sys.argv[1:] if arguments is None else arguments)]
    _check_names(given)
    chosen = parser.parse_args(given)
    try:
        COMMANDS[chosen.command](**chosen[chosen.command].as_dict())
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        _discard_output()
        sys.exit(1)
    except (OSError, ValueError) as error:  # includes WriteError, DataError and ImageError
        _print_error(_sentence(error))
        _discard_output()
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        _print_error(str(interruption) or "stopped")
        _discard_output()
        sys.exit(interruption.status if isinstance(interruption, Interrupted) else 130)


def _with_underscores(argument: str) -> str:
    """Write the name of an option as the parser does: --image-size as --image_size."""
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if name.startswith("--") else argument


def _check_names(arguments: list[str]) -> None:
    for name in (argument.partition("=")[0] for argument in arguments):
        if name in RENAMED:
            _print_error(f"option {name} must be given as {RENAMED[name]}, its new name")
            sys.exit(2)


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is closed
        print(f"simplematch: {text}", file=sys.stderr)


def _sentence(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError) or error.strerror is None:  # already a sentence
        return str(error)
    return f"{error.filename or 'standard output'}: {reason_of(error)}"


def _discard_output() -> None:
    """Redirect standard output and error to the null device if they fail: the flush at exit would change the status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _log_to_standard_error() -> None:
    console = Console(stderr=True)
    if console.is_terminal:  # RichHandler prints above a progress bar
        handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False)
    else:
        handler = logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it logs every file it saves


if __name__ == "__main__":
    main()
