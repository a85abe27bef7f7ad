"""What the checks of two sets of tensors and of arrays share: the sentence of each error."""

from __future__ import annotations

from collections.abc import Sequence

SET = "(B, N, C) or (B, C, H, W)"


def counts_out_of_range(name: str, of: str, most: int, counts: object) -> ValueError:
    return ValueError(f"{name} must lie between 0 and the number of descriptors of {of}, {most}, got {counts}")


def temperature_not_above_zero(value: float) -> ValueError:
    return ValueError(f"temperature must be above zero, got {value}")


def wrong_number_shape(name: str, kind: str, batch: int, got: Sequence[int]) -> ValueError:
    return ValueError(f"{name} must be a number, a 0-d {kind} or of shape (B,) = ({batch},), got {tuple(got)}")


def no_index() -> ValueError:
    return ValueError("index_a or index_b must be given, got None for both")


def index_out_of_range(name: str, of: str, count: int, got: int) -> ValueError:
    return ValueError(
        f"{name} must be below the number of descriptors of {of}, {count}, or negative for padding, got {got}"
    )


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
