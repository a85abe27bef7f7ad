"""Models that call the functions, their exports, and how far onnxruntime's answers lie from PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import simplematch_kernels as smk
import simplematch_kernels.onnx

TOLERANCE = 1e-5
"""Of the largest value."""
DIM = torch.export.Dim.DYNAMIC
MAPS, POINTS, ROWS = {0: DIM, 2: DIM, 3: DIM}, {0: DIM, 1: DIM}, {0: DIM}
IN_MAPS = (MAPS, MAPS, POINTS)
"""Of source, target and keypoints: all sizes but the channels."""


class Calls(nn.Module):
    """Several calls in one model: an export takes seconds, most of them whatever the model."""

    def __init__(self, calls: Sequence[Callable[..., Any]]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        found = [call(*tensors) for call in self.calls]
        return [x for each in found for x in ([each] if isinstance(each, Tensor) else each) if x is not None]


def exported(
    model: nn.Module, inputs: Sequence[Tensor], dims: Sequence[Any] | None, path: Path, optimize: bool = True
) -> Any:
    """A session of onnxruntime on the CPU.

    dims: of each argument of `Calls`, those that may change; None: the model is another, and none may.
    optimize: whether PyTorch's exporter does, as by default; that takes longer than all else in models of many calls.
    """
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's exporter
        shapes = None if dims is None else (tuple(dims),)
        smk.onnx.export(model, inputs, path, dynamic_shapes=shapes, optimize=optimize)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def difference(session: Any, model: nn.Module, inputs: Sequence[Tensor]) -> float:
    """The largest difference of a value, relative to the largest finite value of its tensor.

    Indices and masks must be equal, and NaN and infinities in the same places: AssertionError otherwise.
    """
    with torch.no_grad():
        expected = model(*inputs)
    names = [each.name for each in session.get_inputs()]
    found = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    largest = 0.0
    for i, (value, truth) in enumerate(zip(map(torch.from_numpy, found), expected, strict=True)):
        assert value.dtype == truth.dtype and value.shape == truth.shape, i
        finite = truth.isfinite()
        if not truth.is_floating_point():
            assert torch.equal(value, truth), i
        elif finite.any():
            gap = (value[finite] - truth[finite]).abs().max() / truth[finite].abs().max().clamp(min=1e-30)
            assert gap.isfinite(), i
            largest = max(largest, float(gap))
        torch.testing.assert_close(value[~finite], truth[~finite], rtol=0, atol=0, equal_nan=True)
    return largest


def draw(seed: int, batch: int, queries: int, source: tuple[int, int], target: tuple[int, int]) -> list[Tensor]:
    """[source (B, 20, Hs, Ws), target (B, 20, Ht, Wt), keypoints (B, N, 2) in cells]; the first has two best cells."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 20, *size, generator=generator) for size in (source, target)]
    points = torch.rand(batch, queries, 2, generator=generator) * torch.tensor([source[1] - 1.0, source[0] - 1.0])
    maps[1][:, :, 2, 3] = maps[1][:, :, 1, 2] = maps[0][:, :, 1, 1]  # a tie of two cells
    points[:, 0] = 1.0
    return [*maps, points]


SMALL, OTHER = draw(0, 2, 5, (7, 9), (9, 8)), draw(1, 3, 8, (6, 5), (12, 13))
"""The example of an export, and other sizes."""


def matching(**options: Any) -> Callable[..., Any]:
    return lambda source, target, keypoints: smk.sparse_window_match(source, target, keypoints, **options)


def descriptors(x: Tensor) -> Tensor:
    """Those of all cells, (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


LOCALIZATIONS: dict[str, dict[str, Any]] = {
    "square": {"window_size": 5},
    "shrunken": {"window_size": (6, 2), "border": "shrink", "target_size": (90, 64)},
    "disc": {"window_size": 10, "window_shape": "disc"},  # cells lie on its edge
    "outside": {"window_size": 20, "outside_value": 0.0},
    "gaussian": {"localization": "gaussian", "sigma": 1.7, "temperature": 0.1},
    "covariance": {"window_size": 5, "return_covariance": True, "return_second": True},
    "best": {"window_size": 3, "top_k": 3, "top_radius": 1},
}
"""Options of `localize`, and of `sparse_window_match`, which localizes with the same code."""

MATCHES: dict[str, dict[str, Any]] = {
    "argmax": {
        **{"localization": "argmax", "sampling": "round", "metric": "dot"},
        **{"target_coords": "half_pixel", "target_size": (9, 9)},
    },
    "global": {
        **{"localization": "global", "sampling": "bilinear", "eps_mode": "clamp", "eps": 1e-6},
        **{"source_coords": "align_corners", "source_size": (40, 30)},
    },
    "scores": {"window_size": 3, "border": "shrink", "source_size": (56, 72), "return_scores": True},
    "blended": {"window_size": 5, "source_interpolation": "matches"},
    "l2": {"window_size": 5, "metric": "l2", "temperature": 4.0},
    "l1": {"window_size": 5, "metric": "l1", "temperature": 2.0},
}
"""Options of `sparse_window_match` before scores are localized."""

OTHERS: dict[str, Callable[..., Any]] = {
    "gather_keypoints": lambda s, t, k: smk.gather_keypoints(
        s, k, size=(50, 60), sampling="bilinear", padding="border"
    ),
    "cosine_similarity": lambda s, t, k: smk.cosine_similarity(descriptors(s), t),
    "match_descriptors": lambda s, t, k: smk.match_descriptors(descriptors(s), t, window_size=5, temperature=0.1),
    "match_all": lambda s, t, k: smk.match_all(s, t, temperature=0.1, bin_score=0.4, return_second=True),
    "local_correlation": lambda s, t, k: smk.local_correlation(
        s[:, :, 0, :4].mT, t, k[:, :4], radius=2, metric="cosine"
    ),
}
LOSSES: dict[str, Callable[..., Any]] = {
    "rows": lambda s, t, k: smk.sparse_match_cross_entropy(s, t, k, k.flip(1) + 0.3, reduction="none"),
    "kernel": lambda s, t, k: smk.sparse_match_cross_entropy(s, t, k, k, kernel_size=3, sigma=0.8, metric="dot"),
    "descriptors": lambda s, t, k: smk.match_descriptors_cross_entropy(
        smk.gather_keypoints(s, k), t, k, reduction="sum"
    ),
}
