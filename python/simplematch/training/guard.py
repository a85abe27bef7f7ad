"""Keeps NaN and infinite losses and gradients out of the weights and batch norm statistics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .sharding import local


class StepGuard:
    """Zeroes the gradients of a non-finite step on all processes, and restores its batch norm statistics.

    It never synchronises with the GPU.

    Args:
        network: the network to guard.
        total: sums a tensor over all processes; None: there is one process.
        scaled: leave gradients to the fp16 gradient scaler, which needs their infinities to adjust its scale.
    """

    def __init__(
        self, network: nn.Module, total: Callable[[Tensor], Tensor] | None = None, scaled: bool = False
    ) -> None:
        self.network, self.total, self.scaled = network, total, scaled
        self._bad: Tensor | None = None  # over the batches of the current step
        self._live: list[Tensor] = []
        self._kept: list[Tensor] = []

    def begin(self) -> None:
        """Start a batch; the first batch of a step saves the statistics."""
        if self._bad is None:
            self._live = _statistics(self.network)
            self._kept = [x.clone() for x in self._live]

    def add_loss(self, loss: Tensor) -> None:
        """Record the loss of a batch, after its backward."""
        bad = ~torch.isfinite(loss.detach()).all()
        self._bad = bad if self._bad is None else self._bad | bad

    def end(self) -> Tensor:
        """End a step; call it before gradient clipping and the optimizer's step.

        Returns:
            NaN if the step is non-finite and therefore has no effect, else 0.
        """
        assert self._bad is not None, "call add_loss first"
        gradients = [local(p.grad) for p in self.network.parameters() if p.grad is not None]
        gradients = [x for x in gradients if x.numel()]  # a process may have no part of a small tensor
        bad, self._bad = self._bad, None
        if gradients and not self.scaled:
            largest = torch.stack([x.detach().abs().amax().float() for x in gradients])
            bad = bad | ~torch.isfinite(largest).all()
        if self.total is not None:
            bad = self.total(bad.float()) > 0
        if bad.device.type != "cpu" or bool(bad):
            self._undo(bad, [] if self.scaled else gradients)
        return torch.zeros((), device=bad.device).masked_fill(bad, torch.nan)

    @torch.no_grad()
    def _undo(self, bad: Tensor, gradients: list[Tensor]) -> None:
        for gradient in gradients:
            gradient.masked_fill_(bad, 0)
        for live, kept in zip(self._live, self._kept, strict=True):
            live.copy_(torch.where(bad, kept, live))


def _statistics(network: nn.Module) -> list[Tensor]:
    """Return the batch norm statistics that the forward updates."""
    norms = [x for x in network.modules() if isinstance(x, _BatchNorm) and x.training]
    found = [x for norm in norms for x in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
    return [x for x in found if x is not None]
