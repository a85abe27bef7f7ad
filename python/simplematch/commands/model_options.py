"""The options of commands that choose a model's encoder and its input."""

from __future__ import annotations

from typing import Any

from ..sizes import check_resize, checked_size


def model_options(encoder: str | None, block: int | None, image_size: str | None, resize: str | None) -> dict[str, Any]:
    """Return the options as arguments of `load_model`.

    Raises:
        ValueError: the size or the way to resize is no such.
    """
    if resize is not None:
        check_resize(resize)
    size = None if image_size is None else checked_size(image_size)
    return {"encoder": encoder, "block": block, "image_size": size, "resize": resize}
