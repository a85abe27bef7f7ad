"""Codebases of dense matching and tracking, which correlate round given points."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Generator, Tensor

from ..case import Case, Codebase, Work, look_up
from ..inputs import feature_pair, points, score_maps


def _samples(random: Generator) -> Work:
    features = feature_pair(random, 1, 128, 96, 128)[0].requires_grad_()
    cells = points(random, 1, 400, 96, 128).requires_grad_()
    place = "cotracker.models.core.model_utils:sample_features4d"
    return Work(lambda: look_up(place)(features, cells), lambda found: (found,), (features, cells))


def _correlations(random: Generator) -> Work:
    features = torch.cat(feature_pair(random, 4, 128, 96, 128)).view(1, 8, 128, 96, 128).requires_grad_()
    queries = torch.randn(1, 8, 64, 128, generator=random).requires_grad_()
    # In the middle of cells of every level: at their borders the gradient has two values.
    cells = (points(random, 1, 8 * 64, 96, 128).view(1, 8, 64, 2).floor() + 0.37).requires_grad_()

    def call() -> Tensor:
        block: Any = look_up("cotracker.models.core.cotracker.blocks:CorrBlock")(features, num_levels=4, radius=3)
        block.corr(queries)
        found: Tensor = block.sample(cells)
        return found

    return Work(call, lambda found: (found,), (features, queries, cells))


_CO_TRACKER = Codebase(
    (
        Case("sample_features4d, 400 points, 96 x 128 cells, 128 channels", "score", _samples),
        Case(
            "CorrBlock, corr and sample, 8 frames x 64 points, 96 x 128 cells, 128 channels, 4 levels, radius 3",
            "score",
            _correlations,
        ),
    ),
    stubs=("einops", "timm", "torchvision", "cotracker.models.core.cotracker.cotracker"),
)


def _local_correlation(radius: int, side: int, channels: int) -> Case:
    def make(random: Generator) -> Work:
        first, second = feature_pair(random, 1, channels, side, side)
        warp = 2 * torch.rand(1, 2, side, side, generator=random) - 1
        place = "romatch.utils.local_correlation:local_correlation"
        return Work(
            lambda: look_up(place)(first, second, radius, warp, use_custom_corr=False),
            lambda found: (found,),
            (first.requires_grad_(),),
        )

    return Case(f"local_correlation, radius {radius}, {side} x {side} cells, {channels} channels", "score", make)


def _positions(random: Generator) -> Work:
    scores = score_maps(random, 1, 48 * 48, 48, 48, contrast=2.0).flatten(2).mT.contiguous()
    volume = scores.view(1, 48, 48, 48, 48).requires_grad_()
    model = SimpleNamespace(training=True, exact_softmax=True)
    place = "romatch.models.tiny:TinyRoMa.pos_embed"
    return Work(lambda: look_up(place)(model, volume), lambda found: (found * 192,), (volume,))


_ROMA = Codebase(
    (
        _local_correlation(7, 35, 512),
        _local_correlation(2, 70, 512),
        Case("TinyRoMa.pos_embed, exact, 48^2 x 48^2", "px", _positions),
    ),
    stubs=(
        *("torchvision", "cv2", "einops", "kornia", "loguru", "poselib", "local_corr"),
        *("romatch.models.model_zoo", "romatch.models.matcher", "romatch.utils.kde"),
    ),
)

CODEBASES = {"co_tracker": _CO_TRACKER, "roma": _ROMA}
