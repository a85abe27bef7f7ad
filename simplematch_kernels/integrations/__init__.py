"""Our operators in the place of functions of other codebases.

    with simplematch_kernels.integrations.patch("cats"):          # or: p = patch("cats") ... p.unpatch()
        model(images)

The clone of the codebase must be importable: its folder on `sys.path`, or a package that is installed. Nothing is
replaced if the environment variable SIMPLEMATCH_INTEGRATIONS is "off". docs/integrations.md lists what is replaced, and
how results, time and memory compare.
"""

from __future__ import annotations

from importlib import import_module

from ._patching import Integration, Patch, PatchError, Replacement, apply

_FILES = {
    "cats": "cats",
    "chm": "chm",
    "co_tracker": "co_tracker",
    "dift": "dift",
    "geoaware_sc": "geoaware_sc",
    "glue_factory": "glue_factory",
    "hyperfeatures": "hyperfeatures",
    "kornia": "kornia",
    "lightglue": "lightglue",
    "loftr": "loftr",
    "marco": "marco",
    "mast3r": "mast3r",
    "roma": "roma",
    "sd4match": "sd4match",
    "sd_dino": "sd_dino",
    "semantic_correspondence": "sd4match",
    "simplematch": "simplematch",
    "tapnet": "tapnet",
    "xfeat": "xfeat",
}

NAMES = tuple(_FILES)
"""The codebases that `patch` knows."""


def integration(name: str) -> Integration:
    """What `patch(name)` replaces.

    Raises:
        ValueError: the name is none of `NAMES`.
    """
    if name not in _FILES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    known: tuple[Integration, ...] = import_module(f".{_FILES[name]}", __name__).INTEGRATIONS
    return next(x for x in known if x.name == name)


def patch(name: str) -> Patch:
    """Replace functions of another codebase by ours, all or none; log a line for each.

    Functions that its loaded modules imported by name are replaced there too. `unpatch()` of the result, or the end of
    a `with` block, restores every one.

    Args:
        name: one of `NAMES`.

    Raises:
        ValueError: the name is unknown, or SIMPLEMATCH_INTEGRATIONS is neither "on" nor "off".
        PatchError: a module can't be imported, or a function is missing, has other parameters or is replaced already;
            the sentence says which module, function and parameters were looked for.
    """
    return apply(integration(name))


__all__ = ["NAMES", "Integration", "Patch", "PatchError", "Replacement", "integration", "patch"]
