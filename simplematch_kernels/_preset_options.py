"""What presets share: the keyword arguments of the functions, options that several have, and the check of changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar, cast

from ._check_options import check_choice
from ._options import DescriptorKeywords, LocalizeKeywords, MatchKeywords
from ._signatures import unknown_argument


class MatchPreset(MatchKeywords[Any], total=False):
    """Keyword arguments of `sparse_window_match`."""

    backend: str | None


class DescriptorPreset(DescriptorKeywords[Any], total=False):
    """Keyword arguments of `match_descriptors`."""

    backend: str | None


class LocalizePreset(LocalizeKeywords[Any], total=False):
    """Keyword arguments of `localize`."""

    backend: str | None


class MatchAllPreset(TypedDict, total=False):
    """Keyword arguments of `match_all`."""

    num_a: Any
    num_b: Any
    valid_a: Any
    valid_b: Any
    metric: str
    eps: float
    eps_mode: str
    temperature: Any
    bin_score: Any
    return_log_sum_exp: bool
    return_second: bool
    backend: str | None


Preset = TypeVar("Preset", MatchPreset, DescriptorPreset, LocalizePreset, MatchAllPreset)

COSINE_OF_CELLS: MatchPreset = {
    "source_coords": "corner",
    "target_coords": "corner",
    "sampling": "floor",
    "metric": "cosine",
    "eps": 1e-8,
    "eps_mode": "add",
}
UPSAMPLED: MatchPreset = {
    "source_coords": "half_pixel",
    "target_coords": "half_pixel",
    "sampling": "bilinear",
    "sampling_padding": "border",
    "metric": "cosine",
    "eps": 1e-12,
    "eps_mode": "clamp",
    "localization": "argmax",
}


def of_sd4match(mode: str) -> MatchPreset:
    check_choice("mode", mode, ("nn", "bilinear", "softargmax", "kernelsoftargmax"))
    options: MatchPreset = {
        "source_coords": "align_corners",
        "target_coords": "align_corners",
        "sampling": "bilinear",
        "sampling_padding": "zeros",
        "metric": "cosine",
        "eps": 1e-6,
        "eps_mode": "add",
        "localization": "argmax",
    }
    if mode == "bilinear":
        options["source_interpolation"] = "matches"
    if mode == "softargmax":
        options |= {"localization": "global", "temperature": 0.04}
    if mode == "kernelsoftargmax":
        options |= {"localization": "gaussian", "sigma": 7.0, "temperature": 0.04}
    return options


def changed(name: str, known: type[Preset], options: Preset, changes: Mapping[str, Any]) -> Preset:
    """The options of the preset `name` and `changes`, or a TypeError for one that its function doesn't have."""
    accepted = known.__annotations__
    for option in changes:
        if option not in accepted:
            raise unknown_argument(name, option, list(accepted))
    return cast(Preset, {**options, **changes})
