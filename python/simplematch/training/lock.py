"""One run to a folder."""

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
    """Hold the folder's lock while the block runs. The system frees it when the process ends, however it ends.

    Raises:
        ValueError: another run holds it.
    """
    try:
        import fcntl
    except ImportError:  # no locks of this kind on Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+") as file:
        try:  # not flock: processes that read images would inherit it, and outlive a killed run by seconds
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                holder = file.read(200).strip() or "another process"
                raise ValueError(
                    f"output {folder} is in use by {holder}: wait until that run has ended, or name another folder"
                ) from error
            # else the file system has no locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
