"""An application with the small preset, and a pair of pictures with known matches."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

MISSING = [name for name in ("starlette", "uvicorn", "httpx2") if find_spec(name) is None]
collect_ignore_glob = ["test_[!i]*.py"] if MISSING else []  # test_installed.py gives the reason

if TYPE_CHECKING or not MISSING:
    from starlette.testclient import TestClient

    from simplematch.app.models import Models
    from simplematch.app.server import make_app

MODEL = "efficientnet-lite0-256-nn"
SHIFT = 24  # pixels between the two pictures


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.fixture(scope="session")
def crops() -> tuple[Image.Image, Image.Image]:
    """Two crops of one image of smooth blobs, 320 x 240; the second lies SHIFT pixels further right and down."""
    coarse = np.random.default_rng(5).integers(0, 256, (14, 18, 3), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((360, 280), Image.Resampling.BICUBIC)
    first, second = (whole.crop((left, left, left + 320, left + 240)) for left in (0, SHIFT))
    return first, second


@pytest.fixture(scope="session")
def models() -> Models:
    return Models([MODEL], "cpu")


@pytest.fixture
def client(models: Models) -> Iterator[TestClient]:
    with TestClient(make_app(models), base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


@dataclass(frozen=True)
class Page:
    """A session with both pictures, as an open page has it."""

    client: TestClient
    path: str
    a: str
    b: str

    def asked(self, **changes: Any) -> dict[str, Any]:
        fields = {"a": self.a, "b": self.b, "model": MODEL, "backend": "auto", "window": 5, "temperature": 0.02}
        return fields | {"points": [[120, 100]]} | changes

    def match(self, **changes: Any) -> Any:
        return self.client.post(f"{self.path}/matches", json=self.asked(**changes))


@pytest.fixture
def page(client: TestClient, crops: tuple[Image.Image, Image.Image]) -> Page:
    path = f"/api/sessions/{client.post('/api/sessions').json()['session']}"
    names = [client.post(f"{path}/pictures", content=encoded(crop)).json()["picture"] for crop in crops]
    return Page(client, path, *names)
