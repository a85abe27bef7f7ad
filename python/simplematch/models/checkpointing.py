"""Activation checkpointing that updates the running statistics of batch norm once, not twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, forward: Callable[..., Tensor], *inputs: object, **named: Any) -> Tensor:
    """Compute `forward(*inputs, **named)` without storing activations; the backward recomputes them.

    Args:
        module: the module of `forward`; recomputation doesn't update its batch norm statistics.
        forward: a function of the module.
        inputs, named: its arguments.
    """
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    if torch.compiler.is_compiling():  # the compiler updates the statistics once, after the forward
        compiled: Tensor = checkpoint(forward, *inputs, use_reentrant=False, **named)
        return compiled
    contexts = partial(_contexts, module)
    result: Tensor = checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)
    return result


def checkpoint_blocks(network: nn.Module) -> None:
    """Checkpoint every block of a network: the members of its outermost `nn.Sequential`s and lists `blocks`."""
    for block in _blocks(network):
        block.forward = partial(checkpointed, block, block.forward)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) or (isinstance(child, nn.ModuleList) and name == "blocks"):
            # Skip bare activations, which may modify the checkpoint's stored input in place.
            yield from (block for block in child if any(True for _ in block.children()))
        else:
            yield from _blocks(child)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _frozen_statistics(module)


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    norms = [x for x in module.modules() if isinstance(x, _BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Momentum 0 runs and saves the same tensors as the forward, and keeps the statistics.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
