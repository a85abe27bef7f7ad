"""A signal asks a run to stop at its next step, with a checkpoint, instead of ending it where it stands.

A second Ctrl-C, seconds later, ends it at once; other signals do not, for schedulers send several while a run saves.
The signals are Ctrl-C, SIGTERM, SIGHUP (the terminal is gone), SIGQUIT and SIGUSR1 (SLURM warns of a time limit).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1") if hasattr(signal, name)
)
SECOND_REQUEST = 3.0  # seconds; sooner it is the same one: a launcher passes on what the terminal has sent to all
GRACE = 60  # seconds that a process which reads images goes on after SIGTERM: its run needs it to finish a step


class Interrupted(KeyboardInterrupt):
    """A signal has ended a command in order; the text says what is left.

    Attributes:
        status: of the command, 128 plus the number of the signal, as shells have it: nothing takes it for done.
    """

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.status = 128 + (signal.SIGINT if number is None else number)


class StopRequest:
    """Whether somebody asked the run to stop, and with which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), now
        elif number == signal.SIGINT and now - self._since > SECOND_REQUEST:  # somebody doesn't want to wait
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Receive SIGNALS while the block runs; outside of the main thread, where Python has none, never.

    A signal that is ignored stays so: that is what `nohup` does with SIGHUP.
    """
    request = StopRequest()
    previous: dict[int, Any] = {}
    if _in_main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, request._receive)
        if hasattr(signal, "SIGCHLD"):
            previous[signal.SIGCHLD] = signal.getsignal(signal.SIGCHLD)
    try:
        yield request
    finally:
        for each, handler in previous.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


def defer_worker_errors() -> None:
    """Let the death of a process that reads images show when its batch is fetched.

    PyTorch's handler, which the first batch installs, raises an error wherever the run happens to be: inside a step,
    after half of the weights have moved. `stop_on_signals` puts the handler before it back.
    """
    if _in_main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def ignore_signals(_: int) -> None:
    """In a process that reads images: its run decides when it ends, for a signal to the group reaches both."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
