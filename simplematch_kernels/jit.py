"""Once imported, lets `torch.jit.script` compile calls of the public functions, which have keyword-only options.

.. code-block:: python

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

import importlib
import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

from torch import Tensor, library

from ._ops import add_op_namespace_prefix
from ._types import AllMatches, Matches
from .operators import NAMESPACE, _torch

_library = library.Library(NAMESPACE, "FRAGMENT")


def _define(function: Callable[..., Any], *results: str) -> None:
    """An operator that calls a public function with those options that are given, and stands for it in scripts.

    results: the fields of its result, a NamedTuple; none if it is a tensor.
    """
    name, returned = f"{function.__name__}_in_script", ", ".join(f"Tensor {each}" for each in results)

    def call(*arguments: Any, **given: Any) -> Any:
        found = function(*arguments, **{key: value for key, value in given.items() if value is not None})
        return tuple(getattr(found, each) for each in results) if results else found

    _library.define(f"{name}({_arguments(function)}) -> {f'({returned})' if results else 'Tensor'}")
    _library.impl(name, call, "CompositeImplicitAutograd")
    _torch.set_script(function, add_op_namespace_prefix(name))


def _arguments(function: Callable[..., Any]) -> str:
    """The schema of the tensors and of the options that a script can give; None stands for a default."""
    hints, tensors, options = get_type_hints(inspect.unwrap(function)), [], []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name] if isinstance(parameter.annotation, str) else parameter.annotation
        if parameter.kind is not parameter.KEYWORD_ONLY:
            tensors.append(f"Tensor? {name}" if type(None) in get_args(hint) else f"Tensor {name}")
        elif name != "backend" and (declared := _declared(name, hint, parameter.default)):
            options.append(declared)
    return ", ".join((*tensors, "*", *options))


def _declared(name: str, hint: Any, default: Any) -> str | None:
    """An option in a schema; None for counts and switches, which ask for further results."""
    kinds = get_args(hint) or (hint,)
    if any("Sequence" in str(kind) for kind in kinds):
        return f"int[]? {name}=None" if default is None else f"int[2] {name}={default}"
    for kind, declared in ((float, "float"), (str, "str"), (Tensor, "Tensor")):
        if kind in kinds:
            return f"{declared}? {name}=None"
    return None


def _define_all() -> None:
    package = importlib.import_module(__name__.rpartition(".")[0])
    for name in package.__all__:
        function = getattr(package, name)
        result = get_type_hints(inspect.unwrap(function)).get("return") if inspect.isfunction(function) else None
        if result is Tensor:
            _define(function)
        elif result in (Matches, AllMatches):
            _define(function, *(field for field in result._fields if not field.startswith("second")))


_define_all()
