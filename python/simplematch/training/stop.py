"""Turns signals into a request to stop after the current step, with a checkpoint.

A second Ctrl-C, some seconds later, stops at once. Other signals don't, because schedulers send several while a run
saves. The signals are Ctrl-C, SIGTERM, SIGHUP (terminal closed), SIGQUIT and SIGUSR1 (SLURM's time limit warning).
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
SECOND_REQUEST = 3.0  # seconds; an earlier one is the same Ctrl-C, passed on by a launcher
GRACE = 60  # seconds that a data loader worker continues after SIGTERM, so that its run can finish a step


class Interrupted(KeyboardInterrupt):
    """A signal has stopped a command, which has saved its state; the message says what is left to do.

    Attributes:
        status: the exit status, 128 plus the signal number as in shells.
    """

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.status = 128 + (signal.SIGINT if number is None else number)


class StopRequest:
    """The signal that asked the run to stop, if any."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), now
        elif number == signal.SIGINT and now - self._since > SECOND_REQUEST:  # stop without waiting for the step
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Receive SIGNALS while the block runs; outside the main thread it does nothing, as Python has no signals there.

    Ignored signals stay ignored, such as SIGHUP under `nohup`.
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
    """Report the death of a data loader worker only when its batch is fetched.

    PyTorch's handler, installed with the first batch, raises an error at any point, for example inside an optimizer
    step that has updated half of the weights. `stop_on_signals` restores the previous handler.
    """
    if _in_main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def ignore_signals(_: int) -> None:
    """Ignore signals in a data loader worker: a signal to the process group reaches it too, but its run ends it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
