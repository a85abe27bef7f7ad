"""The matching step: keypoints gathered, projected, compared with the target, and localised (eq. 6-12).

"fused" is the operators of `simplematch_kernels`. The others are what the paper compares in Table 11, in plain
PyTorch: "dense" compares and localises all source cells with whole score maps, "dense-window" cuts windows out of
them, "sparse" does so for the keypoints alone. All give the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simplematch_kernels import Matches, gather_keypoints, match_descriptors, sparse_window_match

EPS = 1e-8


class GroupMatches(NamedTuple):
    """Every image's keypoints matched in every image of its group.

    Attributes:
        matches: in pixels, of shape (B, G targets, G sources, P).
        log_probability: (B, G, G, P), of the cell in which the target has the same keypoint itself, under the softmax
            of all cells; None where the softmax sees a window alone.
    """

    matches: Matches
    log_probability: Tensor | None


class KeypointMatcher(nn.Module):
    """Finds keypoints of a source map in a target map of one scale.

    Args:
        channels: C of both maps; `proj` is a Linear(C, C) over descriptors.
        window: side of the window in cells, or None for the whole map.
        temperature: T of the softmax inside the window.
        matching: "fused", "sparse", "dense-window" or "dense".
    """

    def __init__(self, channels: int, window: int | None, temperature: float, matching: str) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, channels)
        self.window = window
        self.temperature = temperature
        self.matching = matching

    def forward(
        self, source: Tensor, target: Tensor, keypoints: Tensor, num_keypoints: Tensor | None, image_size: int
    ) -> Matches:
        """Project and match: of the source only the rows at keypoints are projected, of the target every cell.

        Args:
            source, target: (B, C, h, w) maps of the decoder.
            keypoints: (B, N, 2) as (x, y) in pixels.
            num_keypoints: (B,) integers; rows past them are padding. None: no padding.
            image_size: side in pixels of the image that keypoints and answers refer to.

        Returns:
            `Matches`, in pixels.
        """
        projected = self.project(target)
        if self.matching.startswith("dense"):
            return self.match(self.project(source), projected, keypoints, num_keypoints, image_size)
        return self._match_rows(self._project_rows(source, keypoints, image_size), projected, num_keypoints, image_size)

    def match_groups(self, features: Tensor, keypoints: Tensor, image_size: int) -> GroupMatches:
        """Match the keypoints of every image of a group in every image of it, the same one included.

        Args:
            features: (B * G, C, h, w) maps of the decoder, the groups one after the other.
            keypoints: (B, G, P, 2) as (x, y) in pixels; what lies outside is taken at the border.
            image_size: side in pixels of the image that keypoints and answers refer to.

        Raises:
            ValueError: `matching` is one of the dense ones, which match all cells of a single source.
        """
        if self.matching.startswith("dense"):
            raise ValueError(f'matching must be "fused" or "sparse" for groups of images, got {self.matching!r}')
        groups, size, points = keypoints.shape[:3]
        rows = self._project_rows(features, keypoints.flatten(0, 1).clamp(0, image_size - 1), image_size)
        queries = rows.view(groups, 1, size * points, -1).expand(-1, size, -1, -1).flatten(0, 1)
        matches = self._match_rows(queries, self.project(features), None, image_size)
        matches = Matches(*(x.unflatten(1, (size, points)).unflatten(0, (groups, size)) for x in matches))
        if self.window is not None:
            return GroupMatches(matches, None)
        unit = _unit(rows.float()).unflatten(0, (groups, size))  # of every image at its own keypoints
        truth = torch.einsum("btpc,bspc->btsp", unit, unit)
        return GroupMatches(matches, truth / self.temperature - matches.log_sum_exp)

    def _project_rows(self, source: Tensor, keypoints: Tensor, image_size: int) -> Tensor:
        """Projected descriptors (B, N, C) at keypoints (B, N, 2)."""
        if self.matching == "sparse":
            rows = _rows(source, _cells(keypoints, source, image_size))
        else:
            rows = gather_keypoints(source, keypoints, size=(image_size, image_size))
        projected: Tensor = self.proj(rows)
        return projected

    def _match_rows(self, queries: Tensor, target: Tensor, num_keypoints: Tensor | None, image_size: int) -> Matches:
        if self.matching == "sparse":
            return self._localize(queries, target, num_keypoints, image_size)
        return match_descriptors(
            queries,
            target,
            num_keypoints=num_keypoints,
            target_size=(image_size, image_size),
            localization="global" if self.window is None else "window",
            window_size=self.window or 1,
            temperature=self.temperature,
            eps=EPS,
        )

    def project(self, features: Tensor) -> Tensor:
        """`proj` on every cell of (B, C, h, w)."""
        return F.conv2d(features, self.proj.weight[:, :, None, None], self.proj.bias)

    def match(
        self, source: Tensor, target: Tensor, keypoints: Tensor, num_keypoints: Tensor | None, image_size: int
    ) -> Matches:
        """Match maps that `project` made; the arguments are otherwise those of `forward`."""
        if self.matching == "fused":
            return sparse_window_match(
                source,
                target,
                keypoints,
                num_keypoints=num_keypoints,
                source_size=(image_size, image_size),
                target_size=(image_size, image_size),
                localization="global" if self.window is None else "window",
                window_size=self.window or 1,
                temperature=self.temperature,
                eps=EPS,
            )
        cells = _cells(keypoints, source, image_size)
        if self.matching == "sparse":
            return self._localize(_rows(source, cells), target, num_keypoints, image_size)
        every_cell = self._localize(source.flatten(2).transpose(1, 2), target, None, image_size)
        index = cells[..., None].expand(-1, -1, 2)
        picked = Matches(every_cell.keypoints.gather(1, index), *(x.gather(1, cells) for x in every_cell[1:]))
        return _blank_padding(picked, num_keypoints)

    def _localize(self, queries: Tensor, target: Tensor, num_keypoints: Tensor | None, image_size: int) -> Matches:
        """Queries (B, N, C) in target (B, C, h, w), in plain PyTorch."""
        height, width = target.shape[-2:]
        scores = _unit(queries) @ _unit(target.flatten(2).transpose(1, 2)).transpose(1, 2)  # (B, N, M)
        best, peak = scores.max(-1)
        maps = scores.unflatten(2, (height, width))
        if self.matching == "dense":
            y, x = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
            support = maps.masked_fill(_outside_window(peak, height, width, self.window), -torch.inf)
        else:
            y, x = _window_axes(peak, height, width, self.window)
            support = _cut(maps, y, x)
        logits = support / self.temperature
        probability = logits.flatten(2).softmax(-1).view_as(logits)
        points = torch.stack(
            (
                (probability.sum(-2) * x).sum(-1) * (image_size / width),  # of a cell's corner
                (probability.sum(-1) * y).sum(-1) * (image_size / height),
            ),
            -1,
        )
        return _blank_padding(Matches(points, best, peak, logits.logsumexp((-2, -1))), num_keypoints)


def _unit(descriptors: Tensor) -> Tensor:
    unit: Tensor = descriptors / (descriptors.norm(dim=-1, keepdim=True) + EPS)
    return unit


def _cells(keypoints: Tensor, features: Tensor, image_size: int) -> Tensor:
    """Flat index (B, N) of the cell that holds each keypoint (B, N, 2)."""
    height, width = features.shape[-2:]
    x = (keypoints[..., 0] * width / image_size).long().clamp(0, width - 1)
    y = (keypoints[..., 1] * height / image_size).long().clamp(0, height - 1)
    return y * width + x


def _rows(features: Tensor, cells: Tensor) -> Tensor:
    """Descriptors (B, N, C) of features (B, C, h, w) at flat indices (B, N)."""
    rows = features.flatten(2).transpose(1, 2)
    return rows.gather(1, cells[..., None].expand(-1, -1, rows.shape[2]))


def _window_start(centre: Tensor, window: int | None, cells: int) -> tuple[Tensor, int]:
    """First cell and side, on one axis, of the window around each centre, moved inside the map."""
    side = cells if window is None else min(window, cells)
    start = torch.zeros_like(centre) if window is None else (centre - window // 2).clamp(0, cells - side)
    return start, side


def _window_axes(peak: Tensor, height: int, width: int, window: int | None) -> tuple[Tensor, Tensor]:
    """Rows (B, N, kh) and columns (B, N, kw) of the map that the window around each peak (B, N) holds."""
    top, rows = _window_start(peak // width, window, height)
    left, columns = _window_start(peak % width, window, width)
    y = top[..., None] + torch.arange(rows, device=peak.device)
    return y, left[..., None] + torch.arange(columns, device=peak.device)


def _cut(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Windows (B, N, kh, kw) of maps (B, N, h, w): rows, then columns, for then the backward keeps only y and x."""
    rows = maps.gather(2, y[..., None].expand(-1, -1, -1, maps.shape[3]))
    return rows.gather(3, x[:, :, None].expand(-1, -1, y.shape[2], -1))


def _outside_window(peak: Tensor, height: int, width: int, window: int | None) -> Tensor:
    """(B, N, h, w) bool: the cells of the map that are not in the window around each peak."""
    top, rows = _window_start(peak // width, window, height)
    left, columns = _window_start(peak % width, window, width)
    y, x = torch.arange(height, device=peak.device), torch.arange(width, device=peak.device)
    inside_rows = (y >= top[..., None]) & (y < top[..., None] + rows)
    inside_columns = (x >= left[..., None]) & (x < left[..., None] + columns)
    return ~(inside_rows[..., None] & inside_columns[..., None, :])


def _blank_padding(matches: Matches, num_keypoints: Tensor | None) -> Matches:
    """Rows past `num_keypoints` hold what the operators put there."""
    if num_keypoints is None:
        return matches
    padding = torch.arange(matches.score.shape[1], device=num_keypoints.device) >= num_keypoints[:, None]
    return Matches(
        matches.keypoints.masked_fill(padding[..., None], -1.0),
        matches.score.masked_fill(padding, 0.0),
        matches.peak.masked_fill(padding, -1),
        matches.log_sum_exp.masked_fill(padding, 0.0),
    )
