"""Numbered folders with a manifest of their files' sizes and digests.

FOLDER/000007/manifest.json     written last, before the folder is renamed
FOLDER/000008.part/             unfinished, or left by a killed process

A folder is written under another name, flushed to disk, and then renamed; older folders are removed afterwards. A
process that is killed at any moment leaves an intact folder, and a damaged file is detected before it is read.
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
    """List the finished folders inside `folder`, the newest first."""
    found = [x for x in folder.iterdir() if x.is_dir() and _NUMBER.fullmatch(x.name)] if folder.is_dir() else []
    return sorted(found, key=lambda x: int(x.name), reverse=True)


def next_part(folder: Path) -> Path:
    """Return the path of the next, unfinished folder; `finish` renames it."""
    newest = numbered(folder)
    number = int(newest[0].name) + 1 if newest else 1
    return folder / f"{number:06d}.part"


def discard(folder: Path) -> None:
    """Remove unfinished folders."""
    for part in folder.glob("*.part"):
        shutil.rmtree(part, ignore_errors=True)


def finish(part: Path, keep: int) -> Path:
    """Write the manifest, flush to disk, rename the folder, and remove all but the `keep` newest.

    Raises:
        OSError: the disk is full or fails; nothing is removed.
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
        aside = old.with_suffix(".part")  # so that a partly removed folder doesn't count as finished
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
        raise DataError(f"{folder / name} is not in {MANIFEST}: it was added later.")
    for name, known in files.items():
        path = folder / name
        if name not in there:
            raise DataError(f"{path} is missing.")
        with open(path, "rb") as file:
            damaged = not isinstance(known, dict) or known.get("sha256") != _digest(file)
        if damaged:
            raise DataError(f"{path} is damaged: its digest differs from {MANIFEST}.")


def _digest(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def _files_of(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink())
