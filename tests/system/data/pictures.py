"""Makes small images of formats that Pillow doesn't write, and colour profiles."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from simplematch.data.images import read_picture

WHITE, RED, GREEN, BLUE = (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """A smooth image with all grey levels."""
    coarse = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    image[0, 0], image[0, 1] = 0, 255
    return Image.fromarray(image)


def grey() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array(picture().convert("L"))


def read(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read the pixels of an image that must have no notes."""
    found = read_picture(path)
    assert not found.notes and found.pixels.mode == "RGB"
    return np.array(found.pixels)


def note(path: Path) -> str:
    """Return the only note of an image."""
    (sentence,) = read_picture(path).notes.values()
    assert sentence.startswith(f"image {path} ") and sentence.endswith(".")
    return sentence


def write_png(path: Path, pixels: np.ndarray[Any, Any], colour: int, key: bytes = b"") -> Path:
    """Write a 16-bit PNG; Pillow writes only grey ones. `colour` is PNG's colour type."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"tRNS", key) if key else b""]
    path.write_bytes(b"".join([*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]))
    return path


def write_tiff(path: Path, pixels: np.ndarray[Any, Any], **tags: int) -> Path:
    """Write an uncompressed TIFF of any samples; `tags` replaces photometric, sample_format and planes."""
    height, width, *channels = pixels.shape
    count, planes = channels[0] if channels else 1, tags.get("planes", 1)
    data = (np.moveaxis(pixels, -1, 0) if planes == 2 else pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    strips = count if planes == 2 else 1
    values: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [8 * pixels.itemsize] * count, 259: [1],
        262: [tags.get("photometric", 2 if count == 3 else 1)],
        273: [8 + i * len(data) // strips for i in range(strips)],
        277: [count], 278: [height], 279: [len(data) // strips] * strips, 284: [planes],
        339: [tags.get("sample_format", kind)] * count,
    }  # fmt: skip
    entries, extra = b"", b""
    start = 8 + len(data) + 2 + 12 * len(values) + 4
    for tag, numbers in values.items():
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, extra = struct.pack("<I", start + len(extra)), extra + packed
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", 0) + extra
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    return path


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def red_is_blue() -> bytes:
    """A profile like sRGB with its red and blue primaries swapped."""
    return srgb().replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def linear_grey() -> bytes:
    """A linear grey profile."""
    white = struct.pack(">4sIIII", b"XYZ ", 0, 0xF6D6, 0x10000, 0xD32D)
    curve = struct.pack(">4sIIHH", b"curv", 0, 1, 0x0100, 0)
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    header = struct.pack(">I4sI4s4s4s12x4s28xIII48x", 156 + len(white) + len(curve), b"", 0x02100000, b"mntr", b"GRAY",
                         b"XYZ ", b"acsp", 0xF6D6, 0x10000, 0xD32D)  # fmt: skip
    return header + table + white + curve
