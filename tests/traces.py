"""How tests ask torch about operators: the calls inside a block, opcheck of them, and which compiler to try.

A trace runs the fake of an operator, whatever the backend, and meets a kernel only through its results, whose sizes and
strides opcheck compares with the fake's on every backend. So the parts that take nearly all of the time, traces with
symbolic shapes and code of inductor, run on one backend.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library
from torch.utils._python_dispatch import TorchDispatchMode

from .samples import BACKENDS

TRACED = BACKENDS[-1]
_ON_ALL = ("test_schema", "test_autograd_registration", "test_faketensor")
_ON_ONE = (*_ON_ALL, "test_aot_dispatch_dynamic")


class Calls(TorchDispatchMode):
    """Every call of our operators inside, as (operator, arguments)."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if operator.namespace == "simplematch":
            self.made.append((operator, arguments))
        return operator(*arguments, **(keywords or {}))

    def check(self, backend: str) -> None:
        """Schema, fake tensors and autograd registration of each call, and on one backend a trace of it."""
        for operator, arguments in self.made:
            differentiable = not operator.name().endswith("_backward")
            leaves = tuple(
                x.detach().requires_grad_(differentiable and x.is_floating_point()) if isinstance(x, Tensor) else x
                for x in arguments
            )
            library.opcheck(operator, leaves, test_utils=_ON_ONE if backend == TRACED else _ON_ALL)


def compiler(backend: str) -> str:
    """For torch.compile: inductor takes seconds for the first graph of its kind, and is tried with one backend."""
    return "inductor" if backend == TRACED else "aot_eager"


def compiled(function: Any, backend: str) -> Any:
    """The function in one graph, without anything left of earlier ones."""
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=compiler(backend))
