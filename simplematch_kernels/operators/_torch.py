"""What torch is told of an operator: its schema, kernel, fake, derivatives, and rules for autocast and vmap.

This is the only file that uses private names of torch, where it has no public ones. The custom operators that torch
makes from Python functions walk their schema in Python at every call, which takes longer than a small call's
arithmetic, and don't support the transforms of torch.func. tests/test_private_names.py checks the installed torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, library
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from .._ops import add_op_namespace_prefix, ops

NAMESPACE = add_op_namespace_prefix("").removesuffix("::")
_library = library.Library(NAMESPACE, "DEF")
_TENSORS = (Tensor, torch.nn.Parameter)  # others have their own way to run an operator
below_autograd = torch._C._AutoDispatchBelowAutograd
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)  # not in torch 2.6


def is_plain(tensors: Iterable[Any], device: torch.device) -> bool:
    """Whether only autograd may record a call: no transform, trace, profiler, tensor subclass or other mode is active.

    Such a call skips torch's dispatcher, whose overhead equals the arithmetic of a small call.
    """
    if torch.compiler.is_compiling():
        return False
    watched = (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._get_tracing_state() is not None
        or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
        or torch.is_autocast_enabled(device.type)
        or in_forward_mode()
    )
    if watched:
        return False
    for x in tensors:  # a loop: a generator would take longer than what it does
        kind = type(x)
        if kind in _TENSORS:
            if _is_legacy_batched(x):  # what is_grads_batched=True makes
                return False
        elif kind not in _PLAIN and isinstance(x, Tensor):
            return False
    return True


def has_values(x: Tensor) -> bool:
    """Whether the values of a tensor can be read: not of one that stands for several or none, under vmap or a trace."""
    if torch.compiler.is_compiling() or type(x) not in _TENSORS:
        return False
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(x) or _is_legacy_batched(x)
    return not wrapped


_PLAIN = frozenset((type(None), str, bool, int, float))
_is_legacy_batched = torch._C._functorch.is_legacy_batchedtensor


def needs_gradient(arguments: Sequence[Any]) -> bool:
    """Whether autograd records the call."""
    if torch.is_grad_enabled():
        for a in arguments:
            if type(a) not in _PLAIN and isinstance(a, Tensor) and a.requires_grad:
                return True
    return False


class Derivative(_SingleLevelFunction):
    """Base of the rules that `define` takes: `forward`, `backward` and `jvp` of one level of autograd.

    Transforms of torch.func call the operator once for each of their levels, so a rule has to know of one only.
    """


def run_below(operator: Any, arguments: Sequence[Any]) -> Any:
    """Run an operator from the forward of its rule. The levels of torch.func further out differentiate it too."""
    if not torch._C._are_functorch_transforms_active():
        with below_autograd():
            return operator(*arguments)
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True), below_autograd():
        return operator(*arguments)


def define(name: str, schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """A new operator that runs `kernel` on tensors of every device."""
    _library.define(f"{name}{schema}", tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, kernel, "CompositeExplicitAutograd")
    _library.impl(name, fake, "Meta")  # as register_fake does, which also looks up lines of source at every import
    return getattr(ops, name).default


def set_derivative(name: str, operator: Any, derivative: Any) -> None:
    """Run `derivative` where an argument requires a gradient or carries a tangent, else the operator alone."""

    def autograd(*arguments: Any) -> Any:
        if not needs_gradient(arguments) and not (in_forward_mode() and _has_tangents(arguments)):
            with below_autograd():
                return operator(*arguments)
        if torch._C._are_functorch_transforms_active():
            with enable_single_level_autograd_function():
                return derivative.apply(*arguments)
        return derivative.apply(*arguments)

    _library.impl(name, autograd, "Autograd")


def set_script(function: Callable[..., Any], operator: str) -> None:
    """Let `torch.jit.script` compile calls of a function as those of an operator, "NAMESPACE::NAME"."""
    torch.jit._builtins._register_builtin(function, operator)


def in_forward_mode() -> bool:
    """Whether anything can carry a tangent."""
    return forward_ad._current_level >= 0


def _has_tangents(arguments: Sequence[Any]) -> bool:
    return any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in arguments)


def set_refusal(name: str, operator: Any, of: str) -> None:
    """Raise RuntimeError where somebody wants the derivative of `name`, itself a derivative of the operator `of`."""

    def refuse(*_: Any) -> Any:
        raise RuntimeError(
            f"{add_op_namespace_prefix(of)} has no second derivative: double backward is not supported, nor are "
            "forward mode over reverse mode and reverse mode over forward mode"
        )

    class Refusal(Derivative):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            return run_below(operator, arguments)

        backward = jvp = staticmethod(refuse)  # type: ignore[assignment]

    set_derivative(name, operator, Refusal)


def set_autocast(name: str, operator: Any, places: Sequence[int]) -> None:
    """Under autocast, features of different dtypes at `places` among the arguments meet in the autocast dtype.

    Features of one dtype run as they are: casting would copy a whole map, and keypoints are pixels, which
    bfloat16 can't count.
    """

    def for_device(device_type: str, key: str) -> None:
        keyset = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def autocast(*arguments: Any) -> Any:
            values = list(arguments)
            if len({values[place].dtype for place in places}) > 1:
                dtype = torch.get_autocast_dtype(device_type)
                for place in places:
                    values[place] = values[place].to(dtype)
            with torch._C._ExcludeDispatchKeyGuard(keyset):
                return operator(*values)

        _library.impl(name, autocast, key)

    for_device("cuda", "AutocastCUDA")
    for_device("cpu", "AutocastCPU")


def set_vmap(name: str, operator: Any) -> None:
    """torch.vmap makes the mapped dimension part of the batch, which every tensor of the operators has in front."""

    def vmap(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        folded = [
            _fold(argument, dim, size) if isinstance(argument, Tensor) else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        outputs = operator(*folded)
        if isinstance(outputs, Tensor):
            return _unfold(outputs, size)
        found = [_unfold(output, size) for output in outputs]
        return tuple(output for output, _ in found), tuple(dim for _, dim in found)

    library.register_vmap(add_op_namespace_prefix(name), vmap, lib=_library)


def _fold(x: Tensor, dim: int | None, size: int) -> Tensor:
    """(size, B, ...) as (size * B, ...)."""
    mapped = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    return mapped.flatten(0, 1)


def _unfold(x: Tensor, size: int) -> tuple[Tensor, int | None]:
    if x.dim() == 1 and x.numel() == 0:  # stands for a gradient that isn't needed
        return x, None
    return x.unflatten(0, (size, -1 if size else 0)), 0
