"""How a kernel is launched: tile sizes, the products of a chip, and the one place that calls Triton."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from ._groups import MapStrides, Walk
from .similarity import similarity_kernel

LARGEST_INT32_OFFSET = 2**31 - 1
"""Images of which an element lies further than this from the first are addressed in 64 bits."""


def _platform() -> str:
    if not isinstance(similarity_kernel, triton.JITFunction):
        return "interpreter"
    return "amd" if torch.version.hip else "nvidia"


PLATFORM = _platform()


ALL_REGISTERS = 255
"""The most that a thread can have."""


@dataclass(frozen=True, slots=True)
class Tile:
    """BLOCK_N queries, BLOCK_M cells, BLOCK_C channels; warps and pipeline stages of a program."""

    n: int
    m: int
    c: int
    warps: int
    stages: int


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@lru_cache(maxsize=256)
def query_block(count: int, largest: int) -> int:
    """The smallest tile of queries that holds `count`: tensor cores take 16 rows at a time."""
    return min(largest, max(16, int(triton.next_power_of_2(count))))


@lru_cache(maxsize=64)
def multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 132
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def precision(accumulation: torch.dtype) -> str:
    """The product of `multiply`: float32-grade on every chip."""
    if PLATFORM == "interpreter":
        return "sum"
    if PLATFORM == "amd":
        return "sum" if accumulation == torch.float64 else "ieee"
    return "tf32x3"


def absolute_tile(dtype: torch.dtype, n: int, m: int, c: int) -> Tile:
    """Of the metric "l1", whose kernels hold blocks of n x m x c numbers; the interpreter takes as long for any."""
    if PLATFORM == "interpreter":
        return Tile(max(n, 16), max(m, 16), max(c, 16), 4, 1)
    return Tile(n, m, c // 2 if dtype == torch.float64 and c > 8 else c, 4, 1)


@lru_cache(maxsize=256)
def similarity_tile(
    dtype: torch.dtype, native: bool, B: int, N: int, M: int, processors: int, metric: str = "cosine"
) -> Tile:
    """Wide tiles of cells read the queries less often; narrower ones are there to fill the chip.

    Operands that go through float32 (all but `native` ones of 16 bits) take twice the registers a channel.
    """
    if metric == "l1":
        return absolute_tile(dtype, 16 if dtype == torch.float64 else query_block(N, 32), 64, 4)
    if dtype == torch.float64:
        return Tile(16, 32, 16, 4, 2)
    n = query_block(N, 64)
    depth = 32 if native and dtype != torch.float32 else 16
    if n == 64:
        fills = B * ceil_div(N, n) * ceil_div(M, 128) >= processors
        return Tile(n, 128, 2 * depth if depth == 32 else depth, 8, 3) if fills else Tile(n, 64, depth, 4, 4)
    for m, warps in ((256, 8), (128, 4)):
        if B * ceil_div(N, n) * ceil_div(M, m) * 10 >= 9 * processors:
            return Tile(n, m, depth, warps, 4)
    return Tile(n, 64, depth, 4, 4)


@lru_cache(maxsize=256)
def target_backward_tile(dtype: torch.dtype, N: int, metric: str = "cosine") -> Tile:
    if metric == "l1":
        return absolute_tile(dtype, 4, 32, 32)
    if dtype == torch.float64:
        return Tile(16, 32, 32, 4, 2)
    return Tile(query_block(N, 32), 32, 32 if dtype == torch.float16 else 64, 4, 2)


@lru_cache(maxsize=256)
def query_backward_tile(dtype: torch.dtype, N: int, metric: str = "cosine") -> Tile:
    if metric == "l1":
        return absolute_tile(dtype, 16, 4, 32)
    if dtype == torch.float64:
        return Tile(16, 16, 32, 4, 2)
    return Tile(query_block(N, 32), 64, 64, 8, 3)


def similarity_registers(tile: Tile) -> int | None:
    """All, where few programs run at a time: small problems, and tiles of 64 queries."""
    return ALL_REGISTERS if 64 in (tile.m, tile.n) else None


def target_backward_registers(dtype: torch.dtype, channels_last: bool, whole_map: bool, metric: str) -> int | None:
    """All where Triton 3.6 or 3.9 would spill on some chip; `whole_map`: without windows."""
    spills = metric == "l1" or dtype == torch.float64 or dtype == (torch.float32 if channels_last else torch.float16)
    return ALL_REGISTERS if spills or whole_map else None


def query_backward_registers(
    dtype: torch.dtype, channels_last: bool, strides: MapStrides, descriptors: bool, metric: str
) -> int | None:
    """All for float64 and l1, for rows of 16 bits not aligned to 16 bytes, which come through registers, and for
    descriptors whose target is channels_last.
    """
    through_registers = dtype.itemsize == 2 and (descriptors if channels_last else strides.c % 8 != 0)
    return ALL_REGISTERS if through_registers or dtype == torch.float64 or metric == "l1" else None


@lru_cache(maxsize=256)
def query_backward_splits(dtype: torch.dtype, B: int, N: int, C: int, M: int, processors: int) -> int:
    """Parts of the map that are summed apart, so that few queries still fill the chip.

    The cost of a choice is that of its waves of programs, plus a little for every part.
    """
    tile = query_backward_tile(dtype, N)
    programs = B * ceil_div(N, tile.n) * ceil_div(C, tile.c)
    most = max(1, min(8, M // (4 * tile.m)))
    return min(range(1, most + 1), key=lambda parts: ceil_div(programs * parts, processors) / parts + 0.01 * parts)


@lru_cache(maxsize=256)
def source_backward_tile(dtype: torch.dtype, channels_last: bool) -> Tile:
    if dtype == torch.float64:
        return Tile(128, 32, 32, 4, 1)
    return Tile(128, 64, 64, 4, 1) if channels_last else Tile(128, 128, 32, 4, 1)


@lru_cache(maxsize=256)
def row_block(entries: int, most: int = 1024) -> int:
    """Entries that a program of one query takes at a time."""
    return min(most, max(32, int(triton.next_power_of_2(entries))))


def row_warps(block: int) -> int:
    return max(1, min(8, block // 128))


@dataclass(frozen=True, slots=True)
class Layout:
    """How (B, C, H, W) maps lie: see `Walk`."""

    channels_last: bool
    flat: bool
    wide: bool

    def walk(self, wide: bool = False, even_c: bool = False) -> Walk:
        return Walk(self.channels_last, self.flat, self.wide or wide, even_c)


def describe_maps(*tensors: Tensor) -> tuple[Layout, list[MapStrides]]:
    """One walk for maps of one shape, that of the first, flat and wide as all of them allow; the strides of each.

    A flat map has no use for the stride of its rows: 0, so that kernels aren't compiled for each.
    """
    flattened = [_flat_strides(t) for t in tensors]
    flat = all(s is not None for s in flattened)
    wide = any(is_wide(t) for t in tensors)
    chosen = [s if flat and s is not None else MapStrides(*t.stride()) for s, t in zip(flattened, tensors, strict=True)]
    first = tensors[0]
    cell_stride = chosen[0].w if first.shape[3] > 1 or flat else chosen[0].h
    channels_last = first.shape[1] > 1 and chosen[0].c < max(1, cell_stride)
    return Layout(channels_last, flat, wide), chosen


def _flat_strides(x: Tensor) -> MapStrides | None:
    b, c, h, w = x.stride()
    H, W = x.shape[2:]
    if W == 1 and H > 1:
        return MapStrides(b, c, 0, h)
    return MapStrides(b, c, 0, w) if H == 1 or h == W * w else None


def is_wide(x: Tensor) -> bool:
    """Whether elements of x[0] lie too far apart for 32-bit offsets."""
    if x.untyped_storage().nbytes() <= LARGEST_INT32_OFFSET:
        return False
    extent = sum((size - 1) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True))
    return extent > LARGEST_INT32_OFFSET


def compiler_options(warps: int, stages: int, registers: int | None) -> dict[str, Any]:
    """Options of a launch. Where it lets more programs run at a time, ptxas puts a few values on the stack, unless it
    is told how many `registers` a thread may use.
    """
    options: dict[str, Any] = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    if registers is not None and PLATFORM == "nvidia":
        options["maxnreg"] = registers
    return options


def launch(
    kernel: Any,
    programs: int,
    device: torch.device,
    arguments: Mapping[str, Any],
    warps: int = 4,
    stages: int = 2,
    registers: int | None = None,
) -> None:
    """Run `kernel` on the tensors' device and its current stream. Nothing else in this package calls Triton."""
    options = compiler_options(warps, stages, registers)
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            kernel[(programs,)](**arguments, **options)
    else:
        kernel[(programs,)](**arguments, **options)
