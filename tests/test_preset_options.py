"""Presets are plain dictionaries; changes replace their options, and wrong ones are named in one sentence."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable
from typing import Any

import pytest

import simplematch_kernels as smk
from simplematch_kernels import _preset_options, presets

ALL: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    name: (getattr(presets, name), {"source_size": (8, 8), "upsample": (8, 8)} if name == "dift" else {})
    for name in presets.__all__
}
MODES = {
    "sd4match": ("nn", "bilinear", "softargmax", "kernelsoftargmax"),
    "semantic_correspondence": ("nn", "bilinear", "softargmax", "kernelsoftargmax"),
    "geoaware": ("argmax", "window", "global", "gaussian"),
    "hyperfeatures": ("find_nn_source_correspondences", "compute_clip_loss"),
    "xfeat": ("match", "dual_softmax_loss", "subpix_softmax2d"),
    "mast3r": ("bruteforce_reciprocal_nns", "InfoNCE"),
    "kornia": (
        "match_nn",
        "match_mnn",
        "match_snn",
        "match_smnn",
        "spatial_soft_argmax2d",
        "spatial_expectation2d",
    ),
}


def function_of(preset: Any, mode: str | None) -> str:
    """The function that a preset is for, by its docstring."""
    if mode in ("subpix_softmax2d", "spatial_soft_argmax2d", "spatial_expectation2d"):
        return "localize"
    if mode == "compute_clip_loss":
        return "match_all"
    return str(preset.__doc__).split("`")[1]


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name in presets.__all__ for mode in MODES.get(name, (None,))]
)
def test_options_are_a_new_dictionary_that_changes_replace(name: str, mode: str | None) -> None:
    preset, needed = ALL[name]
    chosen = () if mode is None else (mode,)
    options = preset(*chosen, **needed)
    assert type(options) is dict and options is not preset(*chosen, **needed)
    assert set(options) <= set(inspect.signature(getattr(smk, function_of(preset, mode))).parameters)
    for option in options.keys() - {"upsample"}:  # with which a size may come
        changed = object()
        assert preset(*chosen, **{**needed, option: changed}) == {**options, option: changed}
    others = {"backend": "reference"}
    assert preset(*chosen, **needed, **others) == options | others
    assert preset(*chosen, **needed) == options  # a change stays in its own dictionary


@pytest.mark.parametrize("name", presets.__all__)
def test_unknown_options_and_modes_are_named(name: str) -> None:
    preset, needed = ALL[name]
    chosen = MODES.get(name, ())[:1]
    near = {"localize": ("windw_size", "window_size"), "match_all": ("temprature", "temperature")}
    wrong, right = near.get(function_of(preset, None), ("target_sizes", "target_size"))
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an .*'{wrong}'; did you mean '{right}'\?$"):
        preset(*chosen, **needed, **{wrong: 3})
    if name in MODES:
        with pytest.raises(ValueError, match=r"^mode must be one of ") as caught:
            preset("fastest")
        assert set(str(caught.value).split("'")[1::2]) == {*MODES[name], "fastest"}


def test_dift_needs_the_sizes() -> None:
    for given in ({}, {"source_size": (8, 8)}, {"upsample": (8, 8)}):
        with pytest.raises(TypeError, match=r"^dift\(\) needs source_size and upsample, \(height, width\) of"):
            presets.dift(**given)  # type: ignore[arg-type]


def test_hyperfeatures_upsamples_both_maps_alike() -> None:
    assert presets.hyperfeatures()["source_size"] == presets.hyperfeatures()["upsample"] == (512, 512)
    assert presets.hyperfeatures(upsample=(224, 224))["source_size"] == (224, 224)


def test_keywords_are_those_of_the_functions() -> None:
    """A type checker takes a preset for its function and for no other."""
    for keywords, function in (
        (_preset_options.MatchPreset, smk.sparse_window_match),
        (_preset_options.DescriptorPreset, smk.match_descriptors),
        (_preset_options.LocalizePreset, smk.localize),
        (_preset_options.MatchAllPreset, smk.match_all),
    ):
        parameters = inspect.signature(function).parameters.values()
        assert set(typing.get_type_hints(keywords)) == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_presets_need_no_torch_and_serve_numpy() -> None:
    code = """
import sys; sys.modules["torch"] = None
import numpy as np, simplematch_kernels as smk, simplematch_kernels.numpy as smn
scores = np.zeros((1, 1, 9, 9)); scores[..., 4, 2] = 9
print(smn.localize(scores, **smk.presets.tapir()).keypoints.tolist())
a = np.eye(3)[None]
print(smn.match_all(a, a[:, ::-1], **smk.presets.kornia()).index_a.tolist())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.split("\n")[:2] == ["[[[2.5, 4.5]]]", "[[2, 1, 0]]"], found.stderr
