"""A lock that allows one run per folder."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
PAUSE = 0.5  # seconds between attempts


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs; the system releases it when the process ends.

    Raises:
        ValueError: another run holds the lock.
    """
    with _lock(folder) as holder:
        if holder:
            raise ValueError(
                f"output {folder} is in use by {holder}: wait until that run has ended, or choose another folder"
            )
        yield


@contextmanager
def lock_after_waiting(folder: Path, wait: Callable[[str], bool]) -> Iterator[bool]:
    """Hold the folder's lock while the block runs, as soon as no other process has it.

    Args:
        folder: the folder, which is made.
        wait: called with the name of the process that has the lock, before each pause; False ends the waiting.

    Yields:
        Whether this process has the lock.
    """
    while True:
        with _lock(folder) as holder:
            if not holder:
                yield True
                return
        if not wait(holder):
            yield False
            return
        time.sleep(PAUSE)


@contextmanager
def _lock(folder: Path) -> Iterator[str]:
    """Hold the lock while the block runs, and yield ""; or yield the name of the process that has it."""
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl
        yield ""
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+") as file:
        try:  # not flock: workers would inherit the lock and outlive a killed run
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                yield file.read(200).strip() or "another process"
                return
            # otherwise the file system has no locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield ""
