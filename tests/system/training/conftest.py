"""Fixtures of the training tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from simplematch.training.stop import SIGNALS

from .runs import Server


@pytest.fixture(autouse=True, scope="session")
def signals_of_a_terminal() -> Iterator[None]:
    """Restore default signal handlers: nohup and background shells ignore some signals, which a run respects."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()
