"""What the launches of the steps share: where queries come from, and gradients on their way from step to step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .._resolved import Metric, Sampling, Window


@dataclass(frozen=True, slots=True)
class Source:
    """Where queries come from: keypoints (B, N, 2) and the features (B, C, H, W) that they sample.

    Without keypoints the features are (B, C, 1, N): query n is column n.
    """

    features: Tensor
    keypoints: Tensor | None
    sampling: Sampling | None

    def part(self, b: slice, n: slice) -> Source:
        """Queries n of images b."""
        if self.keypoints is None:
            return Source(self.features[b, :, :, n], None, self.sampling)
        sampling = self.sampling
        if sampling is not None and sampling.image_sizes is not None:
            sampling = replace(sampling, image_sizes=sampling.image_sizes[b])
        return Source(self.features[b], self.keypoints[b, n], sampling)

    def is_native(self, target: Tensor) -> bool:
        """Whether queries are exact in the target's dtype, so that products may take them in it."""
        sampling = self.sampling
        return self.features.dtype == target.dtype and (sampling is None or sampling.mode != "bilinear")


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries as `localize_backward` passes them to the steps that follow.

    values: (splits, B, N, C) in the arithmetic's dtype: the queries in values[0], which `query_backward` turns into
    their gradient, as partial sums. scale and own: (B, N), the factors `query_scale` and `query_own`.
    """

    source: Source
    metric: Metric
    values: Tensor
    scale: Tensor
    own: Tensor

    def part(self, b: slice, n: slice) -> Queries:
        """Queries n of images b."""
        return Queries(self.source.part(b, n), self.metric, self.values[:, b, n], self.scale[b, n], self.own[b, n])


WHOLE_MAP = Window(1, 1)
"""The window of a gradient without peaks; its size is not used."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """ds (B, N, rows, columns), with the scores in the same layout, of windows around `peak`; of the map without it."""

    ds: Tensor
    scores: Tensor
    peak: Tensor | None
    window: Window | None

    def arguments(self) -> dict[str, Any]:
        """Arguments of both kernels that gather from it. They aren't grouped, because inner loops use most of them."""
        ds_b, ds_n, ds_h, ds_w = self.ds.stride()
        window = WHOLE_MAP if self.window is None else self.window
        return {
            "ds": self.ds, "peak": self.peak, "N": self.ds.shape[1],
            "peak_b": 0 if self.peak is None else self.peak.stride(0),
            "ds_b": ds_b, "ds_n": ds_n, "ds_h": ds_h, "ds_w": ds_w,
            "window_height": window.height, "window_width": window.width, "SHIFT": window.shift,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalizeOutputs:
    """Outputs of `localize_backward`, None where not needed. They may be slices of larger tensors.

    ds and window_scores: (B, N, rows, columns), of the same strides. temperature: (B, N).
    """

    ds: Tensor | None
    window_scores: Tensor | None
    temperature: Tensor | None
    queries: Queries | None
