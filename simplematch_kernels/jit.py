"""Lets `torch.jit.script` compile calls of the public functions, which have keyword-only options.

.. code-block:: python

    import simplematch_kernels as smk
    import simplematch_kernels.jit

    @torch.jit.script
    def match(source, target, keypoints):
        matches = smk.sparse_window_match(source, target, keypoints, window_size=15)
        return matches.keypoints, matches.score

A compiled call is an operator of torch that calls the public function, with its checks and gradients. Sizes and numbers
are no tensors there, discs have whole sizes, and results are those of `Matches` alone. A saved program needs a process
with Python that imports this module. PyTorch calls TorchScript deprecated: new code should use `torch.export` or
`torch.compile`, which need none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, library

from ._options import LocalizationOptions
from .functional.gather import gather_keypoints
from .functional.local_correlation import local_correlation
from .functional.match_all import match_all
from .functional.matching import cosine_similarity, localize, match_descriptors, sparse_window_match
from .operators import _torch

_SIZES = "int[]? target_shape=None, str? layout=None"
_ROWS = "Tensor? num_keypoints=None, Tensor? valid=None, Tensor? target_mask=None"
_METRIC = "str? metric=None, float? eps=None, str? eps_mode=None"
_SAMPLING = (
    "int[]? source_size=None, str? source_coords=None, str? sampling=None, str? sampling_padding=None, "
    "int[]? source_shape=None"
)
_LOCALIZATION = (
    f"str? localization=None, int[2] window_size={LocalizationOptions().window_size}, str? window_shape=None, "
    "str? disc_edge=None, str? border=None, float? outside_value=None, float? sigma=None, int[]? target_size=None, "
    "str? target_coords=None, float? output_offset=None, float? temperature=None"
)
_SET = "Tensor? num_a=None, Tensor? num_b=None, Tensor? valid_a=None, Tensor? valid_b=None"
_MATCHES = "(Tensor keypoints, Tensor score, Tensor peak, Tensor log_sum_exp)"

_library = library.Library(f"{_torch.NAMESPACE}_jit", "DEF")


def _define(function: Callable[..., Any], tensors: str, options: list[str], result: str) -> None:
    """An operator that calls a public function with those options that are given, and stands for it in scripts."""
    name = function.__name__

    def call(*arguments: Any, **given: Any) -> Any:
        found = function(*arguments, **{key: value for key, value in given.items() if value is not None})
        return found if isinstance(found, Tensor) else tuple(x for x in found if x is not None)

    _library.define(f"{name}({tensors}, *, {', '.join(options)}) -> {result}")
    _library.impl(name, call, "CompositeImplicitAutograd")
    _torch.set_script(function, f"{_library.ns}::{name}")


_define(
    sparse_window_match,
    "Tensor source, Tensor target, Tensor keypoints",
    [_SIZES, _ROWS, _SAMPLING, _METRIC, _LOCALIZATION],
    _MATCHES,
)
_define(match_descriptors, "Tensor descriptors, Tensor target", [_SIZES, _ROWS, _METRIC, _LOCALIZATION], _MATCHES)
_define(localize, "Tensor scores", [_ROWS, _LOCALIZATION], _MATCHES)
_define(cosine_similarity, "Tensor descriptors, Tensor target", [_SIZES, _METRIC], "Tensor")
_define(
    gather_keypoints,
    "Tensor features, Tensor keypoints",
    ["str? layout=None, int[]? shape=None, int[]? size=None, str? coords=None, str? sampling=None, str? padding=None"],
    "Tensor",
)
_define(
    match_all,
    "Tensor a, Tensor b",
    [_SET, _METRIC, "float? temperature=None, float? bin_score=None"],
    "(Tensor index_a, Tensor score_a, Tensor log_sum_exp_a, Tensor index_b, Tensor score_b, Tensor log_sum_exp_b, "
    "Tensor mutual)",
)
_define(
    local_correlation,
    "Tensor queries, Tensor target, Tensor coords",
    [
        "int[]? radius=None, Tensor? offsets=None, Tensor? num_keypoints=None, Tensor? valid=None",
        "int[]? target_size=None, str? target_coords=None, str? sampling=None, str? padding=None, float? scale=None",
        _METRIC,
    ],
    "Tensor",
)
