"""Existing fused kernels that do a part of the work: attention whose values are the cells' coordinates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from simplematch_kernels import Matches

TEMPERATURE = 0.02


def unit_rows(source: Tensor, target: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Return normalised descriptors (B, N, C) and cells (B, M, C)."""
    batch = torch.arange(len(source), device=source.device)[:, None]
    queries = source[batch, :, keypoints[..., 1].long(), keypoints[..., 0].long()]
    cells = target.flatten(2).transpose(1, 2)
    return tuple(x / (x.norm(dim=2, keepdim=True) + 1e-8) for x in (queries, cells))


def match_by_attention(source: Tensor, target: Tensor, keypoints: Tensor) -> Matches:
    """Match with a softmax over all cells, by `scaled_dot_product_attention`."""
    queries, cells = unit_rows(source, target, keypoints)
    found = F.scaled_dot_product_attention(queries, cells, _coordinates(target, cells), scale=1 / TEMPERATURE)
    return _coordinates_alone(found)


def match_by_keops(source: Tensor, target: Tensor, keypoints: Tensor) -> Matches:
    """Match with a softmax over all cells, by a reduction of KeOps, which never stores the scores."""
    from pykeops.torch import LazyTensor

    queries, cells = unit_rows(source, target, keypoints)
    scores = (LazyTensor(queries[:, :, None]) | LazyTensor(cells[:, None].contiguous())) / TEMPERATURE
    found = scores.sumsoftmaxweight(LazyTensor(_coordinates(target, cells).contiguous()[:, None]), dim=2)
    return _coordinates_alone(found)


def match_by_flex_attention(source: Tensor, target: Tensor, keypoints: Tensor, window: int) -> Matches:
    """Match with FlexAttention, whose mask is each query's window; a separate product finds the peaks."""
    queries, cells = unit_rows(source, target, keypoints)
    height, width = target.shape[2:]
    score, peak = (queries.detach() @ cells.detach().transpose(1, 2)).max(-1)
    rows, columns = min(window, height), min(window, width)
    top = (peak // width - window // 2).clamp(0, height - rows)
    left = (peak % width - window // 2).clamp(0, width - columns)

    def inside(b: Tensor, head: Tensor, query: Tensor, cell: Tensor) -> Tensor:
        y, x = cell // width - top[b, query], cell % width - left[b, query]
        return (y >= 0) & (y < rows) & (x >= 0) & (x < columns)

    mask = create_block_mask(inside, len(source), None, queries.shape[1], cells.shape[1], device=str(source.device))
    values = F.pad(_coordinates(target, cells), (0, 14))  # sixteen is the least size of values
    found = flex_attention(queries[:, None], cells[:, None], values[:, None], block_mask=mask, scale=1 / TEMPERATURE)
    assert isinstance(found, Tensor)
    return Matches(found[:, 0, :, :2].float(), score, peak, found.new_zeros(()))


def _coordinates(target: Tensor, cells: Tensor) -> Tensor:
    """Return x and y of every cell (B, M, 2), in the dtype of the cells."""
    y, x = torch.meshgrid(*(torch.arange(n, device=target.device) for n in target.shape[2:]), indexing="ij")
    return torch.stack((x, y), -1).reshape(1, -1, 2).to(cells.dtype).expand(len(cells), -1, -1)


def _coordinates_alone(found: Tensor) -> Matches:
    empty = found.new_zeros(())  # these kernels return neither scores nor peaks
    return Matches(found.float(), empty, empty, empty)
