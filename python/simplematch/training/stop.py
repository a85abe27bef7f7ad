"""Ctrl-C and SIGTERM ask a run to stop at its next step, with a checkpoint, instead of ending it where it stands."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SECOND_REQUEST = 3.0  # seconds; sooner it is the same one: a launcher passes on what the terminal has sent to all


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
        elif now - self._since > SECOND_REQUEST:  # asked again: at once
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Receive SIGINT and SIGTERM while the block runs; outside of the main thread, where Python has none, never."""
    request = StopRequest()
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, request._receive)
    try:
        yield request
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
