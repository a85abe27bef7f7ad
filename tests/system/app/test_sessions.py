"""The memory of the server is bounded."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from simplematch.app.pictures import StoredPicture
from simplematch.app.sessions import GoneError, Session, Sessions


def stored(side: int = 10) -> StoredPicture:
    return StoredPicture(Image.new("RGB", (side, side)), b"jpeg", (side, side), ())


def test_the_least_recently_used_session_is_dropped() -> None:
    sessions = Sessions(most=2)
    first, second = sessions.new(), sessions.new()
    sessions.get(first)
    third = sessions.new()
    assert sessions.get(first) and sessions.get(third) and len(sessions) == 2
    with pytest.raises(GoneError, match="no longer has this page's pictures"):
        sessions.get(second)
    assert len(first) >= 32 and first != third


def test_sessions_are_dropped_by_bytes_but_never_the_last() -> None:
    sessions = Sessions(most_bytes=5000)
    for _ in range(3):
        name = sessions.new()
        sessions.get(name).add(stored(30))  # 2704 bytes
        sessions.trim()
    assert len(sessions) == 1
    sessions.get(name).add(stored(100))
    sessions.trim()
    assert sessions.get(name).bytes > 30000


def test_a_session_keeps_a_few_pictures_and_their_maps() -> None:
    session, calls = Session(), []

    def encode(picture: StoredPicture) -> torch.Tensor:
        calls.append(picture)
        return torch.zeros(1, 2, 3, 3)

    first = session.add(stored())
    for _ in range(2):
        session.features(first, "model", encode)
    session.features(first, "other", encode)
    assert len(calls) == 2 and session.bytes == 304 + 2 * 72
    others = [session.add(stored()) for _ in range(4)]
    with pytest.raises(GoneError, match="no longer has this picture"):
        session.features(first, "model", encode)
    assert session.bytes == 4 * 304  # its maps went with it
    for name in others:
        for model in ("one", "two"):
            session.features(name, model, encode)
    assert session.bytes == 4 * 304 + 6 * 72
