"""How an operator is made known to torch: definition, implementation, fake, gradient and autocast rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, library
from torch.autograd import forward_ad

_PACKAGE = __name__.rpartition(".")[0]
NAMESPACE = "simplematch" if _PACKAGE == "simplematch_kernels" else "simplematch_" + re.sub(r"\W", "_", _PACKAGE)
"""Of the operators: a copy of this package under another name, as kernel loaders make, has a namespace of its own."""

_library = library.Library(NAMESPACE, "DEF")
operators = getattr(torch.ops, NAMESPACE)


def register(
    name: str,
    schema: str,
    implementation: Callable[..., Any],
    fake: Callable[..., Any],
    gradient: Callable[..., Any],
    setup_context: Callable[..., None],
) -> None:
    """Define an operator. `gradient` and `setup_context` are those of a torch.autograd.Function.

    The autograd rule is put under the Autograd key by hand: torch's own `register_autograd` walks the schema in Python
    at every call, which for this many arguments costs more than a small call's arithmetic.
    """
    _library.define(f"{name}{schema}", tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, implementation, "CompositeExplicitAutograd")
    library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    operator = getattr(operators, name).default

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                outputs = operator(*arguments)
            setup_context(ctx, arguments, outputs)
            return outputs

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return gradient(ctx, *gradients)

    def autograd(*arguments: Any) -> Any:
        if forward_ad._current_level >= 0:
            _refuse_tangents(name, arguments)
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
            return Function.apply(*arguments)  # type: ignore[no-untyped-call]
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*arguments)

    _library.impl(name, autograd, "Autograd")


def _refuse_tangents(name: str, arguments: Sequence[Any]) -> None:
    """Without a forward-mode rule the tangent of an input would be dropped, and the result's be zero, in silence."""
    for argument in arguments:
        if isinstance(argument, Tensor) and forward_ad.unpack_dual(argument).tangent is not None:
            raise RuntimeError(
                f"{NAMESPACE}::{name} has no forward-mode derivative: torch.func.jvp, jacfwd, linearize and dual "
                "tensors are not supported; use reverse mode, torch.autograd.grad or Tensor.backward"
            )


def register_backward(name: str, schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Define the backward of operator `name`, whose own derivative is an error."""

    def refuse(*_: Any) -> None:
        raise RuntimeError(f"{NAMESPACE}::{name} has no second derivative: double backward is not supported")

    register(f"{name}_backward", schema, implementation, fake, refuse, lambda *_: None)


def register_autocast(name: str, first: int, second: int) -> None:
    """Under autocast, two feature arguments of different dtypes meet in the autocast dtype.

    Features of one dtype run as they are: casting would copy a whole map, and keypoints are pixels, which
    bfloat16 can't count.
    """
    operator = getattr(operators, name).default

    def for_device(device_type: str, key: str) -> None:
        keyset = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def autocast(*arguments: Any) -> Any:
            values = list(arguments)
            if values[first].dtype != values[second].dtype:
                dtype = torch.get_autocast_dtype(device_type)
                values[first], values[second] = values[first].to(dtype), values[second].to(dtype)
            with torch._C._ExcludeDispatchKeyGuard(keyset):
                return operator(*values)

        _library.impl(name, autocast, key)

    for_device("cuda", "AutocastCUDA")
    for_device("cpu", "AutocastCPU")
