"""Steps that a recorded graph needs in another form: without values, and for runtimes other than PyTorch."""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

_CHANNELS = 16  # whose differences exist at a time


def recording(x: Tensor) -> bool:
    """Whether Python may not ask for values: while a graph is recorded."""
    return torch.compiler.is_compiling() or (x.is_cuda and torch.cuda.is_current_stream_capturing())


def largest(x: Tensor, keepdim: bool = False) -> Tensor:
    """The greatest element of the last dimension, NaN if one is; ONNX promises nothing about the maximum of NaN."""
    if not torch.compiler.is_compiling():
        return x.amax(-1, keepdim=keepdim)
    return torch.where(x.isnan().any(-1, keepdim), torch.nan, x.amax(-1, keepdim=keepdim))


def first_of_largest(x: Tensor) -> Tensor:
    """Where the greatest element of the last dimension is, or the first NaN; of several the first."""
    if not torch.compiler.is_compiling():
        return x.argmax(-1)
    lost = x.isnan()
    return torch.where(lost.any(-1), first_of(lost), x.argmax(-1))


def first_of(chosen: Tensor) -> Tensor:
    """Where the first True of the last dimension is; 0 without one."""
    return chosen.to(torch.uint8 if not torch.compiler.is_compiling() else torch.int32).argmax(-1)


def plus(x: Tensor, small: float) -> Tensor:
    """x + small. The optimizer of PyTorch's ONNX exporter takes a 0-d constant up to 1e-8 for a zero, and drops it."""
    return x + x.new_full((1,), small) if torch.compiler.is_compiling() else x + small


def times(x: Tensor, number: float) -> Tensor:
    """x * number in float64. In an ONNX file a number is rounded to float32, so it is written as the sum of two."""
    if not torch.compiler.is_compiling():
        return x * number
    high, low = _halves(number)
    return x * high + x * low if low else x * high


def at_most(x: Tensor, number: float) -> Tensor:
    """x <= number in float64, in the same way."""
    if not torch.compiler.is_compiling():
        return x <= number
    high, low = _halves(number)
    return x - high <= low


def _halves(number: float) -> tuple[float, float]:
    """Two numbers, of which float32 holds the first, and the second to its precision; their sum is the number."""
    try:
        high: float = struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return math.inf, 0.0
    return high, number - high


def distances(q: Tensor, f: Tensor, power: int) -> Tensor:
    """sum_c |q[n, c] - f[c, m]|^power (B, N, M) for q (B, N, C) and f (B, C, M); power: 1 or 2.

    Of differences, so that equal vectors are at distance 0 and none is at less.
    """
    if not torch.compiler.is_compiling():
        mode = "donot_use_mm_for_euclid_dist"
        found: Tensor = torch.cdist(q, f.mT, p=float(power), compute_mode=mode)
        return found if power == 1 else found.square()
    total = torch.zeros((), dtype=q.dtype, device=q.device)
    for first in range(0, q.shape[2], _CHANNELS):  # not in every runtime is there a distance
        c = slice(first, first + _CHANNELS)
        difference = q[:, :, None, c] - f[:, c].mT[:, None]
        total = total + (difference.abs() if power == 1 else difference.square()).sum(-1)
    return total
