"""A lock that allows one run per folder."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs; the system releases it when the process ends.

    Raises:
        ValueError: another run holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+") as file:
        try:  # not flock: workers would inherit the lock and outlive a killed run
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                holder = file.read(200).strip() or "another process"
                raise ValueError(
                    f"output {folder} is in use by {holder}: wait until that run has ended, or choose another folder"
                ) from error
            # otherwise the file system has no locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
