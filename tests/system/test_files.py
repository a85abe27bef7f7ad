"""Atomic file writing and strict JSON reading."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simplematch import _files
from simplematch._files import DataError, NewFiles, WriteError, check_output, new_file, write_text
from simplematch._json import parse_json, read_json, read_lines, read_object, write_json


def fail_with(code: int) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_file(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text(path, "earlier")
    monkeypatch.setattr(_files.os, call, fail_with(errno.ENOSPC))
    with pytest.raises(
        WriteError, match=r"a\.json can't be written, no space left on device: free some space"
    ) as caught:
        write_text(path, "later")
    assert caught.value.errno == errno.ENOSPC and str(caught.value).endswith("(the file that was there is unchanged).")
    assert path.read_text() == "earlier" and os.listdir(tmp_path) == ["a.json"]


def test_a_limit_met_in_the_middle_of_a_file_leaves_the_earlier_one(tmp_path: Path) -> None:
    """As on a full disk, the system writes only the first 4096 bytes."""
    path = tmp_path / "a.txt"
    write_text(path, "earlier")
    code = (
        "import resource, sys; from simplematch._files import write_text; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); write_text(sys.argv[1], 'x' * 100000)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (
        run.returncode == 1 and "WriteError" in run.stderr and "file too large: raise the file size limit" in run.stderr
    )
    assert path.read_text() == "earlier" and os.listdir(tmp_path) == ["a.txt"]


def test_files_appear_together(tmp_path: Path) -> None:
    with NewFiles() as files:
        for name in ("a", "b"):
            files.add(tmp_path / name).write(b"new")
        assert not (tmp_path / "a").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}
    with pytest.raises(WriteError, match=r"b can't be written, no space"), NewFiles() as files:
        files.add(tmp_path / "a").write(b"newer")
        files.add(tmp_path / "b").write(b"newer")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


def test_every_crash_point_leaves_the_earlier_or_the_later_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check the file after every system call, where a power failure could happen."""
    path = tmp_path / "a"
    write_text(path, "earlier")
    seen = []
    for name in ("fsync", "replace", "chmod", "open"):
        whole = getattr(os, name)

        def watched(*arguments: Any, whole: Any = whole, **options: Any) -> Any:
            result = whole(*arguments, **options)
            seen.append(path.read_text())
            return result

        monkeypatch.setattr(_files.os, name, watched)
    write_text(path, "later")
    assert len(seen) >= 5 and set(seen) == {"earlier", "later"} and seen == sorted(seen)


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    mask = os.umask(0o027)
    try:
        write_text(path, "1")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write_text(path, "2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    for text in ("dangling so far", "again"):
        write_text(link, text)
        assert link.is_symlink() and target.read_text() == text and os.listdir(target.parent) == ["target"]
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(WriteError, match="too many levels of symbolic links: remove the link"):
        write_text(link, "x")


def test_streams_are_written_to_directly() -> None:
    code = "from simplematch._files import write_text; write_text('/dev/stdout', 'text')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "text"
    with pytest.raises(WriteError, match="/dev/full can't be written, no space left on device"):
        write_text("/dev/full", "x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/a", "no such file or directory: make its folder first"),
        ("file/a", "not a directory: make its folder first"),
        (".", "is a directory: name a file"),
        ("x" * 300, "file name too long: choose a shorter name"),
        ("a\0b", "is not a valid file name"),
    ],
)
def test_a_wrong_place_is_named_before_the_work(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (check_output, lambda path: write_text(path, "x")):
        with pytest.raises(WriteError, match=message):
            attempt(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    check_output(tmp_path / "a")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' appears twice in an object"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"[-1e999]", "the number -1e999 is too large"),
        (b"1" * 400, r"the number 1{60}\.\.\. is too large"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a":' * 100_000, "it is nested too deeply"),
        (b"", "Expecting value"),
        (b'{"a": ', "Expecting value"),
        (b'{"a": 1} x', "Extra data"),
        (b'"\xff"', "can't decode byte 0xff"),
    ],
)
def test_what_is_no_json_is_named(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=rf"a\.json can't be read as JSON: .*{message}") as caught:
        read_json(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 200


def test_json_of_a_wrong_kind_or_size(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert read_json(path) == [1, 2]
    with pytest.raises(DataError, match=r"a\.json must hold a JSON object, got list"):
        read_object(path)
    path.write_bytes(b"[" + b" " * (1 << 20) + b"]")
    with pytest.raises(DataError, match=r"a\.json can't be read as JSON: it is larger than 1 MiB"):
        read_json(path, largest=1 << 20)
    with pytest.raises(DataError, match=r"a\.json, line 1 is larger than 1 MiB"):
        list(read_lines(path, largest=1 << 20))
    for wrong, message in ((tmp_path / "none.json", "is missing"), (tmp_path, "can't be read as JSON: .*directory")):
        for read in (read_json, lambda path: list(read_lines(path))):
            with pytest.raises(DataError, match=message):
                read(wrong)


def test_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": NaN}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2 can't be read as JSON: NaN is not a JSON number"):
        list(read_lines(path))


def test_json_without_numbers_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert not os.listdir(tmp_path)
    write_json(tmp_path / "a.json", {"a": [1.5]})
    assert parse_json((tmp_path / "a.json").read_bytes(), "a.json") == {"a": [1.5]}
