"""Example pictures: photographs that come with scikit-image, and turned copies of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Example:
    """A pair of pictures, each made by a function; `label` is what the page shows."""

    label: str
    pictures: tuple[Callable[[], bytes], Callable[[], bytes]]


@cache
def examples() -> dict[str, Example]:
    """Return the examples by name; none if scikit-image isn't installed."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "data"
    found = {
        "cat": Example("Cat, turned", _with_turned_copy(folder / "chelsea.png")),
        "motorcycle": Example(
            "Motorcycle, two views",
            ((folder / "motorcycle_left.png").read_bytes, (folder / "motorcycle_right.png").read_bytes),
        ),
        "astronaut": Example("Astronaut, turned", _with_turned_copy(folder / "astronaut.png")),
    }
    files = {"cat": "chelsea", "motorcycle": "motorcycle_right", "astronaut": "astronaut"}
    return {name: example for name, example in found.items() if (folder / f"{files[name]}.png").is_file()}


def turned(image: Image.Image, degrees: float = 14.0, scale: float = 0.86) -> Image.Image:
    """Return a copy of the same size, turned about its centre and made smaller, on grey."""
    width, height = image.size
    smaller = image.convert("RGB").resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    copy = Image.new("RGB", (width, height), (127, 127, 127))
    copy.paste(smaller, ((width - smaller.width) // 2, (height - smaller.height) // 2))
    return copy.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(127, 127, 127))


def _with_turned_copy(path: Path) -> tuple[Callable[[], bytes], Callable[[], bytes]]:
    def copy() -> bytes:
        content = io.BytesIO()
        with Image.open(path) as image:
            turned(image).save(content, "PNG")
        return content.getvalue()

    return path.read_bytes, copy
