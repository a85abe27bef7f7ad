"""Atomic writes: each file is written under another name, flushed to disk, and then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

_REMEDIES = {
    errno.ENOSPC: "free some space, or write to another place",
    errno.EDQUOT: "free some space, or write to another place",
    errno.EFBIG: "raise the file size limit, or write to another place",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "make its folder first",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove the link",
}
_STREAMS = ("/dev/std", "/dev/fd/", "/proc/")  # streams of this process, even if they lead to a regular file


class DataError(ValueError):
    """A file is missing or has invalid contents."""


class WriteError(OSError):
    """A file can't be written. The message names the file, the reason and a remedy; `errno` is the system's."""


class NewFiles:
    """Writes several files atomically: all are written under other names, and renamed once every one is on disk.

    An error, Ctrl-C or a killed process leaves the earlier files unchanged. A new file keeps the mode of the file it
    replaces. A symbolic link is kept and its target replaced. Pipes and devices such as /dev/stdout are written
    directly.

    >>> with NewFiles() as files:  # doctest: +SKIP
    ...     files.add(Path("a.json")).write(b"{}")
    ...     files.add(Path("a.csv")).write(b"x,y")
    """

    def __init__(self, *, sync: bool = True) -> None:
        """Start without files. `sync=False` doesn't wait until the files are on disk."""
        self._sync = sync
        self._files: list[tuple[Path, Path, Path, BinaryIO]] = []  # given path, target, temporary path, open file

    def add(self, path: Path | str) -> BinaryIO:
        """Open a file for writing.

        Raises:
            WriteError: the folder is missing or not writable, or the path is a folder.
        """
        path = Path(path)
        with writing(path):
            place = target_of(path)
            if _is_stream(path):
                beside, file = place, cast(BinaryIO, open(path, "wb"))  # noqa: SIM115  # __exit__ closes it
            else:
                beside, file = _open_beside(place)
            self._files.append((path, place, beside, file))
        return file

    def __enter__(self) -> NewFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()
        if isinstance(error, OSError) and not isinstance(error, WriteError) and self._files:
            raise write_error(self._files[-1][0], error) from error

    def _finish(self) -> None:
        for path, place, beside, file in self._files:
            with writing(path):
                file.flush()
                if self._sync and beside != place:
                    os.fsync(file.fileno())
                file.close()
        for path, place, beside, _ in self._files:
            if beside != place:
                with writing(path):
                    os.replace(beside, place)
        for folder in {place.parent for _, place, beside, _ in self._files if beside != place}:
            if self._sync:
                sync_folder(folder)

    def _discard(self) -> None:
        """Close all files, and remove those that weren't renamed."""
        for _, place, beside, file in self._files:
            with contextlib.suppress(OSError):
                file.close()  # flushes, which fails on a full disk
            if beside != place:
                with contextlib.suppress(OSError):
                    beside.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(path: Path | str) -> Iterator[BinaryIO]:
    """Write one file atomically; see `NewFiles`.

    >>> with new_file("table.csv") as file:  # doctest: +SKIP
    ...     file.write(b"x,y")
    """
    with NewFiles() as files:
        yield files.add(path)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        WriteError: the disk is full, or the folder is missing or not writable; an earlier file is unchanged.
    """
    with new_file(path) as file:
        file.write(content)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8 atomically; see `write_bytes`."""
    write_bytes(path, text.encode())


def check_output(path: Path | str) -> None:
    """Raise the WriteError that `write_bytes` would raise, unless the disk is full; call it before a long run."""
    path = Path(path)
    if _is_stream(path):
        return
    with writing(path):
        beside, file = _open_beside(target_of(path))
        file.close()
        beside.unlink()


def target_of(path: Path) -> Path:
    """Resolve symbolic links; the target need not exist."""
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return place


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a crash, if the file system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_error(path: Path, error: OSError) -> WriteError:
    """Make a WriteError of a system error."""
    remedy = _REMEDIES.get(error.errno or 0, "choose another place")
    there = " (the file that was there is unchanged)" if os.path.isfile(path) and not _is_stream(path) else ""
    found = WriteError(f"{path} can't be written, {reason_of(error)}: {remedy}{there}.")
    found.errno = error.errno
    return found


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors in the block into a WriteError that names the path."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    except ValueError as error:  # a NUL or a lone surrogate
        raise WriteError(f"{str(path)!r} is not a valid file name: {reason_of(error)}.") from error


def reason_of(error: Exception) -> str:
    """Return an error's reason without the file names that the system adds."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error).rstrip(".") or type(error).__name__


def _open_beside(place: Path) -> tuple[Path, BinaryIO]:
    """Open a new file in the folder of `place`, with the mode of `place`."""
    beside = place.with_name(f".{secrets.token_hex(6)}.part")  # short: `place` may be as long as allowed
    file = open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")  # noqa: SIM115
    with contextlib.suppress(OSError):  # `place` doesn't exist yet, or the file system has no modes
        os.chmod(beside, stat.S_IMODE(place.stat().st_mode))
    return beside, file


def _is_stream(path: Path) -> bool:
    if str(path).startswith(_STREAMS):
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
