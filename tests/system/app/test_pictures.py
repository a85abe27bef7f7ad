"""Uploads: the right picture, or one sentence."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from simplematch.app import pictures, server

from .conftest import encoded


def picture() -> Image.Image:
    """Left half red, right half blue, 60 x 40."""
    image = Image.new("RGB", (60, 40), (200, 30, 30))
    image.paste((30, 30, 200), (30, 0, 60, 40))
    return image


@pytest.fixture
def path(client: TestClient) -> str:
    return f"/api/sessions/{client.post('/api/sessions').json()['session']}/pictures"


def shown(client: TestClient, path: str, content: bytes) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """What the server tells of an upload, and the pixels that it shows."""
    answer = client.post(path, content=content)
    assert answer.status_code == 201, answer.text
    image = client.get(f"{path}/{answer.json()['picture']}")
    assert image.headers["content-type"] == "image/jpeg"
    return answer.json(), np.array(Image.open(io.BytesIO(image.content)))


def turned_jpeg() -> bytes:
    """The picture stored on its side, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95, subsampling=0)


def grey_16_bits() -> bytes:
    values = np.full((40, 60), 50000, np.uint16)
    values[:, 30:] = 10000
    return encoded(Image.fromarray(values))


def animation() -> bytes:
    frames = [picture(), Image.new("RGB", (60, 40), "lime")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def cmyk() -> bytes:
    """Pillow stores it inverted, as Adobe's programs do."""
    return encoded(picture().convert("CMYK"), "JPEG", quality=95, subsampling=0)


@pytest.mark.parametrize(
    ("content", "left", "right", "note"),
    [
        (encoded(picture()), (200, 30, 30), (30, 30, 200), None),
        (encoded(picture(), "TIFF"), (200, 30, 30), (30, 30, 200), None),
        (turned_jpeg(), (200, 30, 30), (30, 30, 200), None),
        (grey_16_bits(), (195,) * 3, (39,) * 3, None),
        (animation(), (200, 30, 30), (30, 30, 200), "only the first"),
        (encoded(picture().convert("RGBA"), "WEBP", lossless=True), (200, 30, 30), (30, 30, 200), None),
    ],
    ids=["png", "tiff", "turned", "16-bit", "animated", "webp"],
)
def test_the_right_picture(
    client: TestClient, path: str, content: bytes, left: tuple[int, ...], right: tuple[int, ...], note: str | None
) -> None:
    facts, pixels = shown(client, path, content)
    assert (facts["width"], facts["height"], pixels.shape) == (60, 40, (40, 60, 3))
    assert np.abs(pixels[5:35, 5:25] - np.array(left)).max() < 12
    assert np.abs(pixels[5:35, 35:55] - np.array(right)).max() < 12
    assert [note in text for text in facts["notes"]] == ([True] if note else [])


def test_cmyk_is_the_right_way_round(client: TestClient, path: str) -> None:
    _, pixels = shown(client, path, cmyk())
    red, blue = pixels[20, 10].astype(int), pixels[20, 50].astype(int)
    assert red[0] > red[2] + 80 and blue[2] > blue[0] + 80


def test_points_are_in_pixels_of_the_upload(client: TestClient, path: str) -> None:
    facts, pixels = shown(client, path, encoded(Image.new("RGB", (5000, 2500), "navy"), "JPEG"))
    assert (facts["width"], facts["height"]) == (5000, 2500) and pixels.shape == (1024, 2048, 3)


def huge_png() -> bytes:
    """A small file that promises 30000 x 30000 pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(90))))
    parts = [struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the picture can't be read: the file is empty."),
        (b"hello", "the picture can't be read: the file is damaged, or is not one of the formats"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not one of the formats"),
        (encoded(picture())[:-30], "the picture can't be read:"),
        (encoded(picture(), "JPEG")[:400], "the picture can't be read:"),
        (huge_png(), "it has more than 64 million pixels; save a smaller copy."),
        (
            encoded(Image.new("1", (9000, 9000))),
            "it has 9000 x 9000 pixels, more than 64 million; save a smaller copy.",
        ),
        (encoded(Image.fromarray(np.ones((20, 20), np.float32)), "TIFF"), "floats"),
    ],
    ids=["empty", "text", "svg", "cut png", "cut jpeg", "bomb", "large", "floats"],
)
def test_bad_uploads_are_one_sentence(client: TestClient, path: str, content: bytes, message: str) -> None:
    answer = client.post(path, content=content)
    assert answer.status_code == 422 and answer.json()["code"] == "picture"
    text = answer.json()["error"]
    assert message in text and text.endswith(".") and "\n" not in text and "BytesIO" not in text


def test_too_many_bytes_stop_early(client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST_BYTES", 1000)
    sent = 0

    def parts() -> Any:
        nonlocal sent
        for _ in range(10):
            sent += 1
            yield b"x" * 400

    answer = client.post(path, content=parts())
    assert answer.status_code == 413 and answer.json()["error"].startswith("the picture must have at most 64 MiB")
    with pytest.raises(pictures.ImageError, match="at most 64 MiB"):
        pictures.store_picture(bytes(pictures.LARGEST_BYTES + 1))


def test_small_pictures_are_matched_with_a_note(client: TestClient, path: str) -> None:
    facts, _ = shown(client, path, encoded(picture().resize((12, 300))))
    assert "matches and confidences are unreliable" in facts["notes"][0]
