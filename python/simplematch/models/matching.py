"""The matching step: gathers keypoints, projects them, compares them with the target and localises them (eq. 6-12).

"fused" uses the operators of `simplematch_kernels`. The others are the variants of Table 11 of the paper in plain
PyTorch: "dense" matches all source cells on whole score maps, "dense-window" on windows of them, and "sparse" matches
only the keypoints on windows. All give the same numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simplematch_kernels import (
    Matches,
    gather_keypoints,
    match_descriptors,
    match_descriptors_cross_entropy,
    sparse_window_match,
)

from ..sizes import ImageSize, height_width

EPS = 1e-8


class GroupMatches(NamedTuple):
    """Matches of every image's keypoints in every image of its group.

    Attributes:
        matches: matches in pixels, of shape (B, G targets, G sources, P).
        log_probability: (B, G, G, P) log probability of the target's true cell under the softmax over all cells; None
            if the softmax covers only a window.
    """

    matches: Matches
    log_probability: Tensor | None


class KeypointMatcher(nn.Module):
    """Matches keypoints of a source map in a target map at one scale.

    Args:
        channels: C of both maps; `proj` is a Linear(C, C) of the descriptors.
        window: side of the window in cells, or None for the whole map.
        temperature: temperature of the softmax inside the window.
        matching: "fused", "sparse", "dense-window" or "dense".
    """

    def __init__(self, channels: int, window: int | None, temperature: float, matching: str) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, channels)
        self.window = window
        self.temperature = temperature
        self.matching = matching

    def forward(
        self, source: Tensor, target: Tensor, keypoints: Tensor, num_keypoints: Tensor | None, image_size: ImageSize
    ) -> Matches:
        """Project the source at its keypoints and the target at every cell, then match.

        Args:
            source, target: (B, C, h, w) maps of the decoder.
            keypoints: (B, N, 2) as (x, y) in pixels.
            num_keypoints: (B,) integers; rows past them are padding. None: no padding.
            image_size: size in pixels of the image that keypoints and matches refer to.

        Returns:
            `Matches` in pixels.
        """
        projected = self.project(target)
        if self.matching.startswith("dense"):
            return self.match(self.project(source), projected, keypoints, num_keypoints, image_size)
        return self._match_rows(self._project_rows(source, keypoints, image_size), projected, num_keypoints, image_size)

    def cross_entropy(
        self,
        source: Tensor,
        target: Tensor,
        keypoints: Tensor,
        truth: Tensor,
        num_keypoints: Tensor | None,
        image_size: ImageSize,
        **gaussian: Any,
    ) -> Tensor:
        """Compute the mean cross entropy between the softmax over the whole target and a Gaussian round the truth.

        Args:
            truth: (B, N, 2), the true points in pixels of the target.
            gaussian: `kernel_size` and `sigma` of `simplematch_kernels.sparse_match_cross_entropy`.

        The other arguments are those of `forward`. The window of this scale plays no part.
        """
        rows = self._project_rows(source, keypoints, image_size)
        options = {"num_keypoints": num_keypoints, **gaussian}
        return self._cross_entropy(rows, self.project(target), truth, image_size, **options)

    def cross_entropy_of_groups(
        self, features: Tensor, keypoints: Tensor, valid: Tensor, image_size: ImageSize, **gaussian: Any
    ) -> Tensor:
        """Compute `cross_entropy` over all pairs of images of each group where `valid` (B, G, G, P) is True.

        The other arguments are those of `match_groups`; the truth is the target's own keypoints.
        """
        size = keypoints.shape[1]
        queries = _for_each_image(self._rows_of_groups(features, keypoints, image_size), size)
        truth = keypoints[:, :, None].expand(-1, -1, size, -1, -1).flatten(0, 1).flatten(1, 2)
        options = {"valid": valid.flatten(0, 1).flatten(1, 2), **gaussian}
        return self._cross_entropy(queries, self.project(features), truth, image_size, **options)

    def _cross_entropy(
        self, queries: Tensor, target: Tensor, truth: Tensor, image_size: ImageSize, **options: Any
    ) -> Tensor:
        size = height_width(image_size)
        loss: Tensor = match_descriptors_cross_entropy(
            queries, target, truth, target_size=size, temperature=self.temperature, eps=EPS, **options
        )
        return loss

    def match_groups(self, features: Tensor, keypoints: Tensor, image_size: ImageSize) -> GroupMatches:
        """Match the keypoints of every image of a group in every image of the group, itself included.

        Args:
            features: (B * G, C, h, w) maps of the decoder, group after group.
            keypoints: (B, G, P, 2) as (x, y) in pixels; points outside are clamped to the border.
            image_size: size in pixels of the image that keypoints and matches refer to.

        Raises:
            ValueError: `matching` is "dense" or "dense-window".
        """
        if self.matching.startswith("dense"):
            raise ValueError(f'matching must be "fused" or "sparse" for groups of images, got {self.matching!r}')
        groups, size, points = keypoints.shape[:3]
        rows = self._rows_of_groups(features, keypoints, image_size)
        matches = self._match_rows(_for_each_image(rows, size), self.project(features), None, image_size)
        matches = Matches(*(x.unflatten(1, (size, points)).unflatten(0, (groups, size)) for x in matches))
        if self.window is not None:
            return GroupMatches(matches, None)
        unit = _unit(rows.float()).unflatten(0, (groups, size))  # each image at its own keypoints
        truth = torch.einsum("btpc,bspc->btsp", unit, unit)
        return GroupMatches(matches, truth / self.temperature - matches.log_sum_exp)

    def _rows_of_groups(self, features: Tensor, keypoints: Tensor, image_size: ImageSize) -> Tensor:
        """Project the descriptors of every image of groups at its own keypoints to (B * G, P, C)."""
        height, width = height_width(image_size)
        x, y = keypoints.flatten(0, 1).unbind(-1)
        inside = torch.stack((x.clamp(0, width - 1), y.clamp(0, height - 1)), -1)
        return self._project_rows(features, inside, image_size)

    def _project_rows(self, source: Tensor, keypoints: Tensor, image_size: ImageSize) -> Tensor:
        """Project the descriptors at keypoints (B, N, 2) to (B, N, C)."""
        if self.matching == "sparse":
            rows = rows_of(source, cells_of(keypoints, source, image_size))
        else:
            rows = gather_keypoints(source, keypoints, size=height_width(image_size))
        projected: Tensor = self.proj(rows)
        return projected

    def _match_rows(
        self, queries: Tensor, target: Tensor, num_keypoints: Tensor | None, image_size: ImageSize
    ) -> Matches:
        if self.matching == "sparse":
            return self._localize(queries, target, num_keypoints, image_size)
        return match_descriptors(
            queries,
            target,
            num_keypoints=num_keypoints,
            target_size=height_width(image_size),
            localization="global" if self.window is None else "window",
            window_size=self.window or 1,
            temperature=self.temperature,
            eps=EPS,
        )

    def project(self, features: Tensor) -> Tensor:
        """Apply `proj` to every cell of (B, C, h, w)."""
        return F.conv2d(features, self.proj.weight[:, :, None, None], self.proj.bias)

    def match(
        self,
        source: Tensor,
        target: Tensor,
        keypoints: Tensor,
        num_keypoints: Tensor | None,
        image_size: ImageSize,
        return_covariance: bool = False,
    ) -> Matches:
        """Match maps that `project` returned; see `forward` for the arguments.

        With `return_covariance`, which only "fused" can, the result has the covariance of the matches.
        """
        if self.matching == "fused":
            return sparse_window_match(
                source,
                target,
                keypoints,
                num_keypoints=num_keypoints,
                source_size=height_width(image_size),
                target_size=height_width(image_size),
                localization="global" if self.window is None else "window",
                window_size=self.window or 1,
                temperature=self.temperature,
                eps=EPS,
                return_covariance=return_covariance,
            )
        if return_covariance:
            raise ValueError(f'matching must be "fused" for return_covariance, got {self.matching!r}')
        cells = cells_of(keypoints, source, image_size)
        if self.matching == "sparse":
            return self._localize(rows_of(source, cells), target, num_keypoints, image_size)
        every_cell = self._localize(source.flatten(2).transpose(1, 2), target, None, image_size)
        index = cells[..., None].expand(-1, -1, 2)
        picked = Matches(every_cell.keypoints.gather(1, index), *(x.gather(1, cells) for x in every_cell[1:]))
        return _blank_padding(picked, num_keypoints)

    def _localize(
        self, queries: Tensor, target: Tensor, num_keypoints: Tensor | None, image_size: ImageSize
    ) -> Matches:
        """Localise queries (B, N, C) in target (B, C, h, w) in plain PyTorch."""
        height, width = target.shape[-2:]
        image_height, image_width = height_width(image_size)
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
                (probability.sum(-2) * x).sum(-1) * (image_width / width),  # the corner of a cell
                (probability.sum(-1) * y).sum(-1) * (image_height / height),
            ),
            -1,
        )
        return _blank_padding(Matches(points, best, peak, logits.logsumexp((-2, -1))), num_keypoints)


def _for_each_image(rows: Tensor, size: int) -> Tensor:
    """Repeat the rows (B * G, P, C) of groups of `size` G for each image of their group: (B * G, G * P, C)."""
    together = rows.unflatten(0, (-1, 1, size)).flatten(2, 3)
    repeated: Tensor = together.expand(-1, size, -1, -1).flatten(0, 1)
    return repeated


def _unit(descriptors: Tensor) -> Tensor:
    unit: Tensor = descriptors / (descriptors.norm(dim=-1, keepdim=True) + EPS)
    return unit


def cells_of(keypoints: Tensor, features: Tensor, image_size: ImageSize) -> Tensor:
    """Return the flat index (B, N) of the cell that contains each keypoint (B, N, 2)."""
    height, width = features.shape[-2:]
    image_height, image_width = height_width(image_size)
    x = (keypoints[..., 0] * width / image_width).long().clamp(0, width - 1)
    y = (keypoints[..., 1] * height / image_height).long().clamp(0, height - 1)
    return y * width + x


def rows_of(features: Tensor, cells: Tensor) -> Tensor:
    """Gather descriptors (B, N, C) of features (B, C, h, w) at flat indices (B, N)."""
    rows = features.flatten(2).transpose(1, 2)
    return rows.gather(1, cells[..., None].expand(-1, -1, rows.shape[2]))


def _window_start(centre: Tensor, window: int | None, cells: int) -> tuple[Tensor, int]:
    """Return the first cell and the side, on one axis, of the window around each centre, moved inside the map."""
    side = cells if window is None else min(window, cells)
    start = torch.zeros_like(centre) if window is None else (centre - window // 2).clamp(0, cells - side)
    return start, side


def _window_axes(peak: Tensor, height: int, width: int, window: int | None) -> tuple[Tensor, Tensor]:
    """Return the rows (B, N, kh) and columns (B, N, kw) of the window around each peak (B, N)."""
    top, rows = _window_start(peak // width, window, height)
    left, columns = _window_start(peak % width, window, width)
    y = top[..., None] + torch.arange(rows, device=peak.device)
    return y, left[..., None] + torch.arange(columns, device=peak.device)


def _cut(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Cut windows (B, N, kh, kw) out of maps (B, N, h, w), rows first, so that autograd saves only the indices."""
    rows = maps.gather(2, y[..., None].expand(-1, -1, -1, maps.shape[3]))
    return rows.gather(3, x[:, :, None].expand(-1, -1, y.shape[2], -1))


def _outside_window(peak: Tensor, height: int, width: int, window: int | None) -> Tensor:
    """Return a mask (B, N, h, w) of the cells outside the window around each peak."""
    top, rows = _window_start(peak // width, window, height)
    left, columns = _window_start(peak % width, window, width)
    y, x = torch.arange(height, device=peak.device), torch.arange(width, device=peak.device)
    inside_rows = (y >= top[..., None]) & (y < top[..., None] + rows)
    inside_columns = (x >= left[..., None]) & (x < left[..., None] + columns)
    return ~(inside_rows[..., None] & inside_columns[..., None, :])


def _blank_padding(matches: Matches, num_keypoints: Tensor | None) -> Matches:
    """Fill rows past `num_keypoints` with the values that the operators write there."""
    if num_keypoints is None:
        return matches
    padding = torch.arange(matches.score.shape[1], device=num_keypoints.device) >= num_keypoints[:, None]
    return Matches(
        matches.keypoints.masked_fill(padding[..., None], -1.0),
        matches.score.masked_fill(padding, 0.0),
        matches.peak.masked_fill(padding, -1),
        matches.log_sum_exp.masked_fill(padding, 0.0),
    )
