"""Files written whole or not at all: each is written beside its place, forced to the disk, and then renamed."""

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
    errno.EFBIG: "raise the limit of the file's size, or write to another place",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "make its folder first",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove the link",
}
_AS_THEY_ARE = ("/dev/std", "/dev/fd/", "/proc/")  # streams of this process, even where a file lies behind them


class DataError(ValueError):
    """A file is missing, or doesn't hold what it must."""


class WriteError(OSError):
    """A file can't be written. One sentence names it, the reason and the remedy; `errno` is that of the reason."""


class NewFiles:
    """Files that appear together: all are written beside their places, and renamed once every one is on the disk.

    An error, Ctrl-C or a killed process leaves the earlier files as they were. A file that replaces another keeps its
    mode. A symbolic link stays, and the file that it leads to is replaced. What is no regular file, such as a pipe or
    /dev/stdout, is written to directly.

    >>> with NewFiles() as files:  # doctest: +SKIP
    ...     files.add(Path("a.json")).write(b"{}")
    ...     files.add(Path("a.csv")).write(b"x,y")
    """

    def __init__(self, *, sync: bool = True) -> None:
        """Begin without files; `sync=False` leaves it to the system when they get to the disk."""
        self._sync = sync
        self._files: list[tuple[Path, Path, Path, BinaryIO]] = []  # name, place, written beside it, open file

    def add(self, path: Path | str) -> BinaryIO:
        """The open file to write to.

        Raises:
            WriteError: its folder is missing or takes no files, or the name is that of a folder.
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
        """Close what is open, and remove what wasn't renamed."""
        for _, place, beside, file in self._files:
            with contextlib.suppress(OSError):
                file.close()  # writes what is buffered, for which there may be no room
            if beside != place:
                with contextlib.suppress(OSError):
                    beside.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(path: Path | str) -> Iterator[BinaryIO]:
    """One file of `NewFiles`.

    >>> with new_file("table.csv") as file:  # doctest: +SKIP
    ...     file.write(b"x,y")
    """
    with NewFiles() as files:
        yield files.add(path)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        WriteError: there is no room, no folder or no permission; an earlier file is unchanged.
    """
    with new_file(path) as file:
        file.write(content)


def write_text(path: Path | str, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode())


def check_output(path: Path | str) -> None:
    """Raise a WriteError now if `write_bytes` would, before hours of work are done for it.

    It doesn't foresee a full disk.
    """
    path = Path(path)
    if _is_stream(path):
        return
    with writing(path):
        beside, file = _open_beside(target_of(path))
        file.close()
        beside.unlink()


def target_of(path: Path) -> Path:
    """The file itself: what a symbolic link leads to, whether or not it is there yet."""
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return place


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, so that a renamed file survives a crash; a file system may not offer it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_error(path: Path, error: OSError) -> WriteError:
    """The sentence for an error of the system."""
    remedy = _REMEDIES.get(error.errno or 0, "choose another place")
    there = " (the file that was there is unchanged)" if os.path.isfile(path) and not _is_stream(path) else ""
    found = WriteError(f"{path} can't be written, {reason_of(error)}: {remedy}{there}.")
    found.errno = error.errno
    return found


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fails in the block becomes a WriteError that names the path."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise WriteError(f"{str(path)!r} can't be the name of a file: {reason_of(error)}.") from error


def reason_of(error: Exception) -> str:
    """Why, without the names of files that the system adds."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error).rstrip(".") or type(error).__name__


def _open_beside(place: Path) -> tuple[Path, BinaryIO]:
    """A new file in the folder of another, with its mode."""
    beside = place.with_name(f".{secrets.token_hex(6)}.part")  # short: the other's name may be as long as names can be
    file = open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")  # noqa: SIM115
    with contextlib.suppress(OSError):  # there is no other yet, or the file system has no modes
        os.chmod(beside, stat.S_IMODE(place.stat().st_mode))
    return beside, file


def _is_stream(path: Path) -> bool:
    if str(path).startswith(_AS_THEY_ARE):
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
