"""An operator from its declaration: everything that torch and the backends have to know follows from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from .. import _backends
from . import _torch
from ._layout import Layout


class Arguments(Protocol):
    """The arguments of an operator, as a NamedTuple of tensors, of records of options, and at the end `backend`."""

    _fields: tuple[str, ...]
    backend: str

    def problem(self) -> Any:
        """What backends take."""

    def check_values(self) -> None:
        """Raise ValueError for values that only tensors on the CPU are asked for."""

    def empty_result(self) -> Any:
        """The result, not filled in."""


A = TypeVar("A", bound=Any)
R = TypeVar("R", bound=Any)


DEFINED: list[Operator[Any, Any]] = []
"""All operators whose files are imported."""


@dataclass(eq=False)
class Operator(Generic[A, R]):
    """`simplematch::NAME`, its backward `NAME_backward` and its forward-mode derivative `NAME_jvp`.

        NAME            arguments                                             ->  result
        NAME_backward   upstream, result, whether each is needed, arguments   ->  gradients
        NAME_jvp        tangents of the inputs, result, arguments             ->  tangents of the results

    All of them are opaque to torch.compile and torch.export, fold a mapped dimension of torch.vmap into the batch, and
    choose the backend when they run. NAME_jvp always runs on the reference. A derivative of the last two is an error.

    Attributes:
        name: of the operator, and of the function of a backend.
        arguments: a NamedTuple with the methods of `Arguments`.
        result: a NamedTuple of tensors, batch first.
        gradients: a NamedTuple with the names of the differentiable inputs.
        upstream: a NamedTuple with the names of the differentiable results.
        keeps_result: whether the backward reads the result.
        autocast: features that meet in one dtype under autocast.
        optional: differentiable results for which an empty tensor of one dimension stands where they aren't asked for.
    """

    name: str
    arguments: type[A]
    result: type[R]
    upstream: type[Any]
    gradients: type[Any]
    keeps_result: bool = True
    autocast: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    _layout: Layout[A] = field(init=False, repr=False)
    _operator: Any = field(init=False, repr=False)
    _rule: Any = field(init=False, repr=False)
    _plain_rule: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        DEFINED.append(self)
        self._layout = Layout(self.arguments)
        results = _outputs(self.result._fields)
        self._operator = _torch.define(self.name, f"({self._layout.schema}) -> {results}", self._forward, self._fake)
        backward = self._define_second("backward", _declare("grad_", self.upstream), self.gradients, "bool[] needs, ")
        self._rule = _derivative(self, self._layout, self._operator, backward)
        self._plain_rule = _derivative(self, self._layout, self._operator, backward, plain=True)
        _torch.set_derivative(self.name, self._operator, self._rule)
        _torch.set_vmap(self.name, self._operator)
        if self.autocast:
            _torch.set_autocast(self.name, self._operator, self._layout.places(self.autocast))

    def __call__(self, arguments: A) -> R:
        """Run the operator, through torch's dispatcher only if a transform or a mode needs it."""
        device = _device(arguments)
        if _torch.is_plain(arguments, device):
            if not _torch.needs_gradient(arguments):
                return self._run(arguments, device)
            outputs = self._plain_rule.apply(*self._layout.flatten(arguments))
        else:
            outputs = self._operator(*self._layout.flatten(arguments))
        result: R = self.result(outputs) if isinstance(outputs, Tensor) else self.result(*outputs)
        return result

    @property
    def overload(self) -> Any:
        """The operator as torch knows it."""
        return self._operator

    def decompose(self, *flat: Any) -> Any:
        """The reference on flat arguments, for a graph of other operators; it asks for no values."""
        backend = _backends.select("reference", _device(flat))
        return _unwrapped(getattr(backend, self.name)(self._layout.unflatten(flat).problem()))

    @cached_property
    def jvp(self) -> Any:
        """`NAME_jvp`, defined when first needed: most processes never do."""
        return self._define_second("jvp", _declare("tangent_", self.gradients), self.upstream, "")

    def _define_second(self, kind: str, arriving: str, leaving: type[Any], extra: str) -> Any:
        """The operator of a derivative."""
        name, kept = f"{self.name}_{kind}", ""
        if self.keeps_result:
            kept = "".join(f"Tensor result_{each}, " for each in self.result._fields)
        schema = f"({arriving}{kept}{extra}{self._layout.schema}) -> {_outputs(leaving._fields)}"
        operator = _torch.define(name, schema, getattr(self, f"_{kind}"), getattr(self, f"_{kind}_fake"))
        _torch.set_refusal(name, operator, self.name)
        _torch.set_vmap(name, operator)
        return operator

    # ---- what torch calls: flat arguments in, tensors out -----------------------------------------------------------

    def _forward(self, *flat: Any) -> Any:
        arguments = self._layout.unflatten(flat)
        return _unwrapped(self._run(arguments, _device(arguments)))

    def _run(self, arguments: A, device: torch.device) -> R:
        if device.type == "cpu":
            arguments.check_values()
        backend = _backends.select(arguments.backend, device)
        result: R = getattr(backend, self.name)(arguments.problem())
        return result

    def _fake(self, *flat: Any) -> Any:
        return _unwrapped(self._layout.unflatten(flat).empty_result())

    def _backward(self, *flat: Any) -> Any:
        upstream, result, (needs,), arguments = self._split(self.upstream, flat, extra=1)
        found = self._run_backward(arguments, result, upstream, needs)
        return _unwrapped([_or_empty(gradient, flat) for gradient in found])

    def _run_backward(self, arguments: A, result: list[Any], upstream: Sequence[Any], needs: Sequence[bool]) -> Any:
        backend = _backends.select(arguments.backend, _device(arguments))
        run = getattr(backend, f"{self.name}_backward")
        # Under vmap a result may be one image, expanded; backends rely on the layout that they gave it.
        kept = [type(each)(*(x.contiguous() for x in each)) for each in result]
        return run(arguments.problem(), *kept, self.upstream(*upstream), self.gradients(*needs))

    def _backward_fake(self, *flat: Any) -> Any:
        _, _, (needs,), arguments = self._split(self.upstream, flat, extra=1)
        inputs = (getattr(arguments, name) for name in self.gradients._fields)
        found = [_empty_like(x) if x is not None and need else None for x, need in zip(inputs, needs, strict=True)]
        return _unwrapped([_or_empty(gradient, flat) for gradient in found])

    def _jvp(self, *flat: Any) -> Any:
        tangents, result, _, arguments = self._split(self.gradients, flat, extra=0)
        backend = _backends.select("reference", _device(arguments))
        run = getattr(backend, f"{self.name}_jvp")
        return _unwrapped(run(arguments.problem(), *result, self.gradients(*tangents)))

    def _jvp_fake(self, *flat: Any) -> Any:
        arguments = self._split(self.gradients, flat, extra=0)[3]
        result = arguments.empty_result()
        return _unwrapped([getattr(result, name) for name in self.upstream._fields])

    def _split(self, arriving: type[Any], flat: Sequence[Any], extra: int) -> tuple[Any, list[Any], Any, A]:
        """What arrives, [result] or [], `extra` arguments, and the arguments of the operator itself."""
        first = len(arriving._fields)
        second = first + (len(self.result._fields) if self.keeps_result else 0)
        result = [self.result(*flat[first:second])] if self.keeps_result else []
        third = second + extra
        return flat[:first], result, flat[second:third], self._layout.unflatten(flat[third:])


def _derivative(
    operator: Operator[Any, Any], layout: Layout[Any], forward: Any, backward: Any, plain: bool = False
) -> type[_torch.Derivative]:
    """The autograd rule of an operator: it saves tensors and options by their places, and calls the derivatives.

    plain: its callers know that the call is plain, see `_torch.is_plain`.
    """
    fields = operator.result._fields
    wanted = [fields.index(name) for name in operator.upstream._fields]
    constant = [i for i in range(len(fields)) if i not in wanted]
    optional = [fields.index(name) for name in operator.optional]
    inputs = layout.places(operator.gradients._fields)
    tensors = layout.tensors

    def restored(ctx: Any) -> tuple[list[Any], tuple[Tensor, ...]]:
        """Flat arguments and results of the forward."""
        flat, saved = list(ctx.options), ctx.saved_tensors
        for place, tensor in zip(tensors, saved, strict=False):
            flat[place] = tensor
        return flat, saved[len(tensors) :]

    class OfOperator(_torch.Derivative):
        @staticmethod
        def forward(ctx: Any, *flat: Any) -> Any:
            device = _device(flat)
            if plain or _torch.is_plain(flat, device):
                outputs = _unwrapped(operator._run(layout.unflatten(flat), device))
            else:
                outputs = _torch.run_below(forward, flat)
            results = (outputs,) if isinstance(outputs, Tensor) else outputs
            saved = [*(flat[place] for place in tensors), *(results if operator.keeps_result else ())]
            ctx.save_for_backward(*saved)
            if _torch.in_forward_mode():  # else its results would hold themselves
                ctx.save_for_forward(*saved)
            ctx.options = list(flat)
            for place in tensors:
                ctx.options[place] = None
            ctx.set_materialize_grads(False)
            unasked = [results[i] for i in optional if results[i].dim() == 1] if optional else ()
            ctx.mark_non_differentiable(*(results[i] for i in constant), *unasked)
            return outputs

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor | None) -> Any:
            found: list[Tensor | None] = [None] * len(ctx.options)
            arriving = [upstream[i] for i in wanted]
            if all(gradient is None for gradient in arriving):
                return tuple(found)
            flat, results = restored(ctx)
            needed = ctx.needs_input_grad
            needs = [needed[place] for place in inputs]
            if not torch.is_grad_enabled() and _torch.is_plain((*arriving, *flat), _device(flat)):
                kept = [operator.result(*results)] if results else []
                gradients = operator._run_backward(layout.unflatten(flat), kept, arriving, needs)
            else:
                gradients = backward(*arriving, *results, needs, *flat)
                gradients = (gradients,) if isinstance(gradients, Tensor) else gradients
            for place, need, gradient in zip(inputs, needs, gradients, strict=True):
                found[place] = gradient if need else None
            return tuple(found)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
            flat, results = restored(ctx)
            outputs = operator.jvp(*(tangents[place] for place in inputs), *results, *flat)
            found: list[Tensor | None] = [None] * len(fields)
            for place, tangent in zip(wanted, (outputs,) if isinstance(outputs, Tensor) else outputs, strict=True):
                found[place] = tangent
            return tuple(found) if len(found) > 1 else found[0]

    return OfOperator


def _device(arguments: Sequence[Any]) -> torch.device:
    """Where the arguments of an operator are, all of them on one device."""
    for x in arguments:
        if isinstance(x, Tensor):
            return x.device
    raise AssertionError("every operator takes a tensor")


def _declare(prefix: str, record: type[Any]) -> str:
    return "".join(f"Tensor? {prefix}{name}, " for name in record._fields)


def _outputs(names: Sequence[str]) -> str:
    return "Tensor" if len(names) == 1 else f"({', '.join(f'Tensor {name}' for name in names)})"


def _unwrapped(outputs: Any) -> Any:
    """Several tensors as the tuple that an operator returns, one as itself."""
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _or_empty(gradient: Tensor | None, flat: Sequence[Any]) -> Tensor:
    """An operator can't return None: an empty tensor stands for a gradient that is not needed."""
    if gradient is not None:
        return gradient
    like = next(x for x in flat if isinstance(x, Tensor))
    return like.new_empty(0)


def _empty_like(x: Tensor) -> Tensor:
    """Room for the gradient of x, in its memory format; numbers (B, N), which may be one number expanded, are dense."""
    return x.new_empty(x.shape) if x.dim() == 2 else torch.empty_like(x)
