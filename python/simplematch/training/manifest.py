"""Numbered folders, of which the newest whole one counts: each lists its files with their sizes and digests.

FOLDER/000007/manifest.json     written last, before the folder gets its name
FOLDER/000008.part/             being written, or left by a process that was killed

A folder is written under another name, forced to the disk, and then renamed, and older ones are removed after that. So
a process that is killed at any moment leaves a whole folder, and a damaged file is noticed before anything reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .._files import DataError, sync_folder
from .._json import read_object, write_json

MANIFEST = "manifest.json"
_NUMBER = re.compile(r"\d{6,}")


def numbered(folder: Path) -> list[Path]:
    """The finished folders inside `folder`, the newest first."""
    found = [x for x in folder.iterdir() if x.is_dir() and _NUMBER.fullmatch(x.name)] if folder.is_dir() else []
    return sorted(found, key=lambda x: int(x.name), reverse=True)


def next_part(folder: Path) -> Path:
    """Where the next folder is written; `finish` gives it its name."""
    newest = numbered(folder)
    number = int(newest[0].name) + 1 if newest else 1
    return folder / f"{number:06d}.part"


def discard(folder: Path) -> None:
    """Remove what was not finished."""
    for part in folder.glob("*.part"):
        shutil.rmtree(part, ignore_errors=True)


def finish(part: Path, keep: int) -> Path:
    """Write the manifest, force all to the disk, give the folder its name, and remove all but the `keep` newest.

    Raises:
        OSError: there is no room, or the disk fails; nothing has been removed.
    """
    files = {}
    for path in _files_of(part):
        with open(path, "rb") as file:
            files[path.relative_to(part).as_posix()] = {
                "bytes": os.fstat(file.fileno()).st_size,
                "sha256": _digest(file),
            }
            os.fsync(file.fileno())
    write_json(part / MANIFEST, {"files": files}, indent=1)
    for inner in {part, *(path.parent for path in _files_of(part))}:
        sync_folder(inner)
    finished = part.with_suffix("")
    os.rename(part, finished)
    sync_folder(part.parent)
    for old in numbered(part.parent)[keep:]:
        aside = old.with_suffix(".part")  # a half-removed folder must not count
        os.rename(old, aside)
        shutil.rmtree(aside, ignore_errors=True)
    return finished


def check(folder: Path) -> None:
    """Compare a finished folder with its manifest.

    Raises:
        DataError: a file is missing, damaged, or not in the manifest.
    """
    files = read_object(folder / MANIFEST).get("files")
    if not isinstance(files, dict):
        raise DataError(f"{folder / MANIFEST} must list the files of the folder under 'files'.")
    there = {path.relative_to(folder).as_posix() for path in _files_of(folder)} - {MANIFEST}
    for name in sorted(there - set(files)):
        raise DataError(f"{folder / name} is not in {MANIFEST}: it was put there later.")
    for name, known in files.items():
        path = folder / name
        if name not in there:
            raise DataError(f"{path} is missing.")
        with open(path, "rb") as file:
            damaged = not isinstance(known, dict) or known.get("sha256") != _digest(file)
        if damaged:
            raise DataError(f"{path} is damaged: it is not what {MANIFEST} says of it.")


def _digest(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def _files_of(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink())
