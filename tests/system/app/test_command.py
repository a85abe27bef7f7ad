"""`simplematch app`: its errors, and what `simplematch doctor` says of it."""

from __future__ import annotations

import socket
from importlib import import_module
from importlib.util import find_spec

import pytest

from simplematch.app.serve import address_of, open_port
from simplematch.cli import main

command, doctor = (import_module(f"simplematch.commands.{name}") for name in ("app", "doctor"))


def fails(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["app", *arguments])
    printed = capsys.readouterr().err
    assert exit_.value.code == 2 and message in printed and len(printed.splitlines()) == 1, printed


def test_errors_are_one_sentence_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        fails(["--port", str(port)], f"port {port} of 127.0.0.1 is in use; choose another one with --port", capsys)
    fails(["--port", "70000"], "port must be 0 to 65535, got 70000", capsys)
    fails(["--host", "192.0.2.1"], "host must be an address of this machine, got '192.0.2.1'", capsys)
    fails(["--host", "no such host"], "host must be an address or a name of this machine, got 'no such host'", capsys)
    fails(["--model", "nothing"], "model must be the folder of a checkpoint", capsys)


def test_without_the_extra_it_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def without_starlette(name: str) -> object:
        return None if name == "starlette" else find_spec(name)

    monkeypatch.setattr(command, "find_spec", without_starlette)
    fails([], "simplematch app needs starlette: pip install 'simplematch-kernels[train,app]'", capsys)


def test_any_free_port_and_its_address() -> None:
    with open_port("127.0.0.1", 0) as bound:
        assert address_of(bound, "127.0.0.1") == f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert address_of(bound, "0.0.0.0").startswith("http://127.0.0.1:")
        assert address_of(bound, "::1").startswith("http://[::1]:")


def test_doctor_names_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main(["doctor"])
    printed = capsys.readouterr().out
    assert "starlette " in printed and "uvicorn " in printed
    versions = doctor.version

    def without_uvicorn(name: str) -> str:
        if name == "uvicorn":
            raise doctor.PackageNotFoundError(name)
        return versions(name)

    monkeypatch.setattr(doctor, "version", without_uvicorn)
    main(["doctor"])
    printed = capsys.readouterr().out
    assert "missing for simplematch app: uvicorn (pip install 'simplematch-kernels[app]')" in printed
