"""Saving a model leaves the old one or the new one, even if the process is killed."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from simplematch._files import WriteError
from simplematch.models import storage
from simplematch.models.signed import sign

FILES = ["README.md", "config.json", "model.safetensors"]
FILE_OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def save(folder: Path, mark: int) -> None:
    """Save a model whose configuration, weights and card depend on `mark`."""
    weights = {"weights": torch.full((5000,), float(mark))}
    storage.save(folder, {"mark": mark}, weights, lambda digest: sign(f"Card {mark}", digest))


def mark_of(folder: Path) -> int:
    fields, state = storage.load(folder)
    assert str(storage.read_card(folder)).startswith(f"Card {fields['mark']}\n"), "the card is of another model"
    assert (state["weights"] == fields["mark"]).all(), "configuration and weights are of two models"
    mark: int = fields["mark"]
    return mark


def save_until(operation: int, folder: Path, mark: int) -> bool:
    """Save in a process that is killed before a given file operation; return whether it finished."""

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal operation
        if event in FILE_OPERATIONS and str(folder) in str(arguments[0]):
            operation -= 1
            if operation < 0:
                os._exit(9)

    child = os.fork()
    if child == 0:
        sys.addaudithook(count)
        try:
            save(folder, mark)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_killed_before_any_file_operation(tmp_path: Path) -> None:
    """The new model is loaded from some operation on, and the next save succeeds."""
    found: list[int] = []
    ended = False
    while not ended:
        folder = tmp_path / str(len(found))
        save(folder, 1)
        (folder / "notes.txt").write_text("mine")
        ended = save_until(len(found), folder, 2)
        found.append(mark_of(folder))
        save(folder, 3)
        assert mark_of(folder) == 3
        assert sorted(x.name for x in folder.iterdir()) == [*FILES, "notes.txt"]
    assert len(found) > 8 and found == sorted(found) and {1, 2} == set(found)


def test_a_card_that_is_edited_after_a_kill_stays(tmp_path: Path) -> None:
    save(tmp_path, 1)
    operation = 0
    while not (tmp_path / storage.NEXT).exists():
        save_until(operation, tmp_path, 2)
        operation += 1
    (tmp_path / "README.md").write_text("mine")
    save(tmp_path, 3)
    assert (tmp_path / "README.md").read_text() == "mine" and storage.load(tmp_path)[0]["mark"] == 3


def test_without_room_the_old_model_stays(tmp_path: Path) -> None:
    save(tmp_path, 1)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(
            WriteError, match=r"model.safetensors can't be written, file too large: .* that was there is unchanged"
        ):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert mark_of(tmp_path) == 1
    assert sorted(x.name for x in tmp_path.iterdir()) == FILES
    save(tmp_path, 2)
    assert mark_of(tmp_path) == 2


def test_a_linked_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "best").symlink_to(tmp_path / "disk")
    save(tmp_path / "best", 1)
    assert (tmp_path / "best").is_symlink() and mark_of(tmp_path / "disk") == 1


def test_a_save_syncs_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure after the rename must not leave empty files."""
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    save(tmp_path, 1)
    files = [name for name in events[: events.index("rename")] if name.endswith(".part")]
    assert len(files) >= 2 and events[events.index("rename") + 1] == tmp_path.name
