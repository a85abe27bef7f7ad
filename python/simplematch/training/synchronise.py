"""Synchronised batch norm on any device: several processes train like one process with the joint batch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._torchvision import import_torchvision

import_torchvision()
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm  # noqa: E402  (it imports torchvision)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Synchronise every batch norm of a module; on CUDA with PyTorch's own layer, which is CUDA-only."""
    if device.type == "cuda":
        converted: nn.Module = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.forward = partial(_forward, norm)  # type: ignore[method-assign]
    return module


def _forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    if norm.training:
        normalised = _normalise(norm, x)
    else:
        normalised = nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    if isinstance(norm, BatchNormAct2d):
        normalised = norm.act(norm.drop(normalised))
    return normalised


def _normalise(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise x with the mean and variance over all processes, and update the running statistics."""
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    axes = [0, *range(2, x.dim())]
    shape = (1, -1, *[1] * (x.dim() - 2))
    cells = torch.tensor([float(x.numel() // x.shape[1])], dtype=wide.dtype, device=x.device)
    total = _sum(torch.cat((wide.sum(axes), cells)))
    count = total[-1].detach()
    mean = total[:-1] / count
    centred = wide - mean.view(shape)
    variance = _sum(centred.square().sum(axes)) / count
    _move_statistics(norm, mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
    scaled = centred * torch.rsqrt(variance + norm.eps).view(shape)
    return (scaled * norm.weight.view(shape) + norm.bias.view(shape)).to(x.dtype)


@torch.no_grad()
def _move_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked or 1)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), momentum)


def _sum(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """Sums over processes; its gradient is summed too, because every process's loss depends on every summand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total
