"""Default weights without a network: one sentence at once, which names the file to give."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from simplematch.models import SimpleMatch, default_weights, load_model, preset

SECONDS = 2.0


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def _use(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub whose port refuses connections."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        _use(closed.getsockname()[1], monkeypatch)
        yield


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("dinov2-s14-252", "vit_small_patch14_dinov2.lvd142m"),
        ("resnet101-256", "resnet101.tv_in1k"),
        ("dinov3-b16-448-nn", "vit_base_patch16_dinov3.lvd1689m"),
    ],
)
def test_a_hub_that_refuses_connections(name: str, encoder: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=re.escape(f"{encoder!r} can't be downloaded")) as raised:
        load_model(name)
    assert time.perf_counter() - start < SECONDS
    text = str(raised.value)
    assert f"model.safetensors of https://huggingface.co/timm/{encoder} " in text and "--weights" in text
    assert ("github.com/facebookresearch/dinov3" in text) == ("dinov3" in name) and "\n" not in text


@pytest.mark.usefixtures("refusing")
def test_any_encoder_names_its_file() -> None:
    start = time.perf_counter()
    with pytest.raises(
        ValueError, match=r"model.safetensors of https://huggingface.co/timm/beit_base_patch16_224\.in22k"
    ):
        load_model(encoder="beit_base_patch16_224")
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("403 Forbidden\r\nX-Error-Code: GatedRepo", "accept its licence there and run `hf auth login`, or download"),
        ("503 Service Unavailable", "download model.safetensors of"),
        ("", "download model.safetensors of"),  # the connection closes
    ],
)
def test_a_hub_is_asked_once(status: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        _use(server.getsockname()[1], monkeypatch)

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(4096))
                    connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode() if status else b"")

        threading.Thread(target=answer, daemon=True).start()
        start = time.perf_counter()
        with pytest.raises(ValueError, match=re.escape(remedy)):
            default_weights.check_available("vit_small_patch16_dinov3.lvd1689m")
        assert time.perf_counter() - start < SECONDS
        server.shutdown(socket.SHUT_RDWR)
    assert len(asked) == 1


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match=r"can't be downloaded \(OfflineModeIsEnabled\): download model.safetensors of"
    ):
        SimpleMatch.from_config(preset("resnet101-256"))


def test_a_cached_file_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--timm--resnet101.tv_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "model.safetensors").touch()
    default_weights.check_available("resnet101.tv_in1k")


def test_default_weights_are_named() -> None:
    assert default_weights.with_tag("vit_small_patch16_dinov3") == "vit_small_patch16_dinov3.lvd1689m"
    assert default_weights.with_tag("resnet101.tv_in1k") == "resnet101.tv_in1k"
    assert "bytedance/ibot" in default_weights.weight_origin("vit_base_patch16_224")
    assert "timm's hub, resnet101.tv_in1k" in default_weights.weight_origin("resnet101.tv_in1k")
