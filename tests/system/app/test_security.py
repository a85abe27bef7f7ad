"""Who may call the server."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from simplematch.app.security import HEADERS, allowed_names, is_allowed


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9000", "LOCALHOST", "[::1]:8000"])
def test_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1"]
)
def test_names_that_another_site_owns_are_refused(client: TestClient, host: str) -> None:
    """A site whose name leads to this machine (DNS rebinding) gets no answer."""
    for path in ("/", "/api/status", "/static/main.js"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 403 and "another name" in answer.json()["error"]
        assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8000"])
def test_other_origins_are_refused(client: TestClient, origin: str) -> None:
    answer = client.post("/api/sessions", headers={"origin": origin})
    assert answer.status_code == 403 and "pages that it served itself" in answer.json()["error"]


def test_own_origin_is_answered_without_cors(client: TestClient) -> None:
    answer = client.post("/api/sessions", headers={"origin": "http://127.0.0.1:8000"})
    assert answer.status_code == 201
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.options("/api/sessions", headers={"origin": "http://127.0.0.1:8000"}).status_code == 405


def test_bound_to_every_address_it_answers_addresses_and_the_own_name() -> None:
    names = allowed_names("0.0.0.0")
    assert is_allowed("192.168.1.5:8000", names, any_address=True)
    assert is_allowed("[fe80::1]:8000", names, any_address=True)
    assert not is_allowed("evil.example:8000", names, any_address=True)
    assert is_allowed("Box.Lan:80", allowed_names("box.lan"), any_address=True)
    assert allowed_names("127.0.0.1") == {"127.0.0.1", "localhost", "::1"}
