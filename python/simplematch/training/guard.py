"""Keeps a step whose loss or gradient is NaN or infinite from the weights and from the statistics of batch norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class StepGuard:
    """Makes a bad step one with a gradient of zero, on all processes alike, and takes its statistics back.

    A GPU needn't wait: nothing is read from it.

    Args:
        network: whose parameters and batch norms are guarded.
        total: the sum of a tensor over all processes; None: there is one.
        scaled: a gradient scaler of fp16 looks after the gradients, whose infinities are how it finds its scale.
    """

    def __init__(
        self, network: nn.Module, total: Callable[[Tensor], Tensor] | None = None, scaled: bool = False
    ) -> None:
        self.network, self.total, self.scaled = network, total, scaled
        self._bad: Tensor | None = None  # of the batches since `begin` that made one step
        self._live: list[Tensor] = []
        self._kept: list[Tensor] = []

    def begin(self) -> None:
        """A batch comes; the first one of a step finds the statistics to go back to."""
        if self._bad is None:
            self._live = _statistics(self.network)
            self._kept = [x.clone() for x in self._live]

    def add_loss(self, loss: Tensor) -> None:
        """Record the loss of a batch, after its backward."""
        bad = ~torch.isfinite(loss.detach()).all()
        self._bad = bad if self._bad is None else self._bad | bad

    def end(self) -> Tensor:
        """Call it before the optimizer's step, and before gradients are clipped.

        Returns:
            NaN if the step was bad and has no effect now, else 0.
        """
        assert self._bad is not None, "call add_loss first"
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        bad, self._bad = self._bad, None
        if gradients and not self.scaled:
            largest = torch.stack([x.detach().abs().amax().float() for x in gradients if x.numel()])
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
    """What the forward moves."""
    norms = [x for x in network.modules() if isinstance(x, _BatchNorm) and x.training]
    found = [x for norm in norms for x in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
    return [x for x in found if x is not None]
