"""Checks of the options, shared by torch and NumPy: one sentence that names the option, what came and what may come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

from . import _check_shapes
from ._check_shapes import TokenShape


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_size(name: str, value: object, or_else: str = "(B, 2) integers or None") -> tuple[int, int] | None:
    """(height, width) in pixels, or None. One size an image, (B, 2), has its own checks."""
    if value is None or (type(value) is tuple and len(value) == 2 and _is_count(value[0]) and _is_count(value[1])):
        return value
    pair = _as_pair(value)
    if pair is None:
        raise TypeError(f"{name} must be (height, width) in whole pixels, {or_else}, got {shown(value)}")
    if pair[0] < 1 or pair[1] < 1:
        raise ValueError(f"{name} must be at least 1 x 1 pixel, got {pair}")
    return pair


def check_upsample(value: object, metric: str = "cosine") -> tuple[int, int] | None:
    """(H, W) of the upsampled map, or None."""
    size = check_size("upsample", value, "or None")
    if size is not None and metric == "l1":
        raise ValueError(
            "metric must be 'cosine', 'dot' or 'l2' with upsample, because 'l1' of an upsampled map isn't made of "
            "that of the map; upsample the map yourself, got 'l1'"
        )
    if size is not None:
        _check_shapes.check_limit("upsample", "cells", size[0] * size[1])
    return size


def check_no_token_shape(name: str, value: object) -> None:
    """A map has its own (H, W)."""
    if value is not None:
        raise ValueError(
            f"{name} must be None for layout 'map', got {shown(value)}; for tokens (B, H*W, C), pass layout='tokens'"
        )


def check_token_shape(name: str, value: object) -> TokenShape:
    """The (H, W) of tokens, given as the argument `name`."""
    if value is None:
        raise ValueError(f"{name} must be given, as (H, W) in cells, for layout 'tokens', got None")
    pair = _as_pair(value)
    if pair is None:
        raise TypeError(f"{name} must be (H, W) in whole cells, got {shown(value)}")
    if pair[0] < 1 or pair[1] < 1:
        raise ValueError(f"{name} must be at least 1 x 1 cell, got {pair}")
    return TokenShape(name, *pair)


def check_window_size(value: object, remedy: str = "") -> tuple[int, int]:
    """k or (kh, kw) as (kh, kw) cells; `remedy` says where real numbers may come."""
    if _is_count(value):
        return value, value
    side = as_integer(value)
    pair = _as_pair(value) if side is None else (side, side)
    if pair is None:
        remedy = "" if _as_reals(value) is None else remedy
        raise TypeError(f"window_size must be a whole number of cells, or (height, width), got {shown(value)}{remedy}")
    if pair[0] < 1 or pair[1] < 1:
        raise ValueError(f"window_size must be at least 1 cell, got {shown(value)}")
    return pair


def check_disc_size(value: object) -> tuple[float, float]:
    """Real k or (kh, kw) as (kh, kw) cells."""
    pair = _as_reals(value)
    if pair is None:
        raise TypeError(f"window_size must be a number of cells, or (height, width), for a disc, got {shown(value)}")
    if not all(1 <= side < math.inf for side in pair):  # NaN fails every comparison
        raise ValueError(f"window_size must be a finite number of cells of at least 1, got {shown(value)}")
    return pair


def check_whole(name: str, value: object, at_least: int, unit: str = "", or_else: str = "") -> int:
    """A whole number; `unit`: of what, `or_else`: what the option takes besides."""
    number = as_integer(value)
    if number is None:
        raise TypeError(f"{name} must be a whole number{unit and f' of {unit}s'}{or_else}, got {shown(value)}")
    if number < at_least:
        plural = "s" if at_least != 1 else ""
        raise ValueError(f"{name} must be at least {at_least}{unit and f' {unit}{plural}'}, got {number}")
    return number


def check_switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return value


def _is_count(value: object) -> TypeGuard[int]:
    """Whether it is a Python int above 0, as most sizes are."""
    return type(value) is int and value > 0


def _as_pair(value: object) -> tuple[int, int] | None:
    """Two whole numbers: a tuple, a list, or an array or a tensor of shape (2,)."""
    items: Any = value
    if not isinstance(value, (tuple, list)):
        items = value.tolist() if getattr(value, "shape", None) == (2,) and hasattr(value, "tolist") else ()
    if len(items) != 2:
        return None
    first, second = (as_integer(item) for item in items)
    return None if first is None or second is None else (first, second)


def _as_reals(value: object) -> tuple[float, float] | None:
    """One real number twice, or two: a tuple, a list, or an array or a tensor of shape (2,)."""
    items: Any = value
    side = as_number(value)
    if side is not None:
        items = (side, side)
    elif not isinstance(value, (tuple, list)):
        items = value.tolist() if getattr(value, "shape", None) == (2,) and hasattr(value, "tolist") else ()
    if len(items) != 2:
        return None
    first, second = (as_number(item) for item in items)
    return None if first is None or second is None else (float(first), float(second))


def as_integer(value: Any) -> int | None:
    """A whole number as an int, or as the torch.SymInt that stands for one while a function is exported; else None."""
    number = as_number(value)
    return number if isinstance(number, int) or type(number).__name__ == "SymInt" else None


def as_number(value: Any) -> Any:
    """A real number as Python's int or float: also NumPy's, and the only element of an array or a tensor of shape () or
    (1,). Symbolic numbers of torch stay what they are, told by name, without torch. None for what is no number.
    """
    if isinstance(value, (int, float)):
        return None if isinstance(value, bool) else value
    if type(value).__name__ in ("SymInt", "SymFloat"):
        return value
    if isinstance(value, (tuple, list, str)) or getattr(value, "shape", None) not in ((), (1,)):
        return None
    return as_number(value.item()) if hasattr(value, "item") else None


def shown(value: object) -> str:
    """A value in one line of an error: arrays and tensors of several elements by type and shape."""
    shape = getattr(value, "shape", None)
    return repr(value) if shape in (None, (), (1,)) else f"{type(value).__name__} of shape {tuple(shape)}"


def check_number(
    name: str, value: object, *, above: float = -math.inf, at_least: float = -math.inf, or_minus_infinity: bool = False
) -> float:
    """A finite number within the bounds, as a Python float, or -inf."""
    if type(value) is float and above < value < math.inf and value >= at_least:
        return value
    number = as_number(value)
    if number is None:
        raise TypeError(f"{name} must be a number, got {_kind(value)}")
    if or_minus_infinity and number == -math.inf:
        return -math.inf
    if not (above < number < math.inf and number >= at_least):  # NaN fails every comparison
        bound = f" above {above}" if above != -math.inf else f" of at least {at_least}" if at_least != -math.inf else ""
        other = "-inf or " if or_minus_infinity else ""
        raise ValueError(f"{name} must be {other}a finite number{bound}, got {number}")
    return float(number)


def _kind(value: object) -> str:
    return shown(value) if getattr(value, "shape", ()) != () else type(value).__name__
