"""Codebases of semantic correspondence that match features."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Generator, Tensor

from ..case import Case, Codebase, Work, look_up
from ..inputs import feature_pair, points, score_maps

_PLOTS = ("matplotlib", "cv2", "imageio", "tqdm", "loguru", "sklearn", "faiss")


def _four_strategies(strategy: str, side: int, pixels: float, *options: Any) -> Case:
    def make(random: Generator) -> Work:
        source, target = feature_pair(random, 4, 768, side, side)
        queries = points(random, 4, 20, side, side)
        differentiable = "softargmax" in strategy
        inputs = (source.requires_grad_(), target.requires_grad_()) if differentiable else ()
        return Work(
            lambda: look_up(f"utils.matching:{strategy}")(source, target, queries, *options),
            lambda found: (found * pixels,),
            inputs,
        )

    return Case(f"{strategy}, 4 x 20 points, {side} x {side} cells, 768 channels", "px", make)


def _strategies(side: int, pixels: float, temperature: float) -> tuple[Case, ...]:
    return (
        _four_strategies("nn_get_matches", side, pixels),
        _four_strategies("bilinear_get_matches", side, pixels),
        _four_strategies("softargmax_get_matches", side, pixels, temperature),
        _four_strategies("kernel_softargmax_get_matches", side, pixels, temperature, 7),
    )


_SD4MATCH = Codebase(_strategies(48, 16.0, 0.04), stubs=_PLOTS)
_SEMANTIC_CORRESPONDENCE = Codebase(_strategies(60, 14.0, 0.04), stubs=_PLOTS)

_CORRESPONDENCE = "utils.utils_correspondence"


def _tokens(random: Generator) -> tuple[Tensor, Tensor]:
    """Two images as (1, 3600, 768), of length one."""
    pair = (x.flatten(2).mT for x in feature_pair(random, 1, 768, 60, 60))
    first, second = (torch.nn.functional.normalize(x, dim=-1) for x in pair)
    return first, second


def _keypoint_transformation(soft: bool, window: int) -> Case:
    def make(random: Generator) -> Work:
        first, second = _tokens(random)
        patches = torch.randint(3600, (20,), generator=random).numpy()
        options = SimpleNamespace(ANNO_SIZE=840, SOFT_EVAL=soft, SOFT_EVAL_WINDOW=window)
        place = f"{_CORRESPONDENCE}:calculate_keypoint_transformation"
        return Work(lambda: look_up(place)(options, first, second, patches, 60), lambda found: (found,))

    what = f"window {window}" if soft else "nearest"
    return Case(f"calculate_keypoint_transformation, {what}, 20 points, 60 x 60 cells, 768 channels", "px", make)


def _flow(window: int) -> Case:
    def make(random: Generator) -> Work:
        scores = score_maps(random, 1, 3600, 60, 60).reshape(3600, 3600).requires_grad_()
        place = f"{_CORRESPONDENCE}:get_flow"
        return Work(lambda: look_up(place)(scores, window), lambda found: (found * 14,), (scores,))

    return Case(f"get_flow, window {window}, 3600 x 3600 scores", "px", make)


def _distance(random: Generator) -> Work:
    first, second = (x.clone() for x in _tokens(random))
    masks = [torch.zeros(480, 480) for _ in range(2)]
    masks[0][200:320, 120:240] = 1
    masks[1][90:360, 100:390] = 1
    return Work(lambda: look_up(f"{_CORRESPONDENCE}:get_distance")(first, second, *masks), lambda found: (found,))


def _mutual_distance(random: Generator) -> Work:
    first, second = (x.clone() for x in _tokens(random))
    place = f"{_CORRESPONDENCE}:get_distance_mutual_nn"
    return Work(lambda: look_up(place)(first, second), lambda found: (found,))


def _chunk_cosine_sim(module: str) -> Case:
    def make(random: Generator) -> Work:
        x, y = (t.flatten(2).mT[:, None] for t in feature_pair(random, 1, 768, 60, 60))
        chosen = x[:, :, :60].clone().requires_grad_()
        all_tokens = y.clone().requires_grad_()
        place = f"{module}:chunk_cosine_sim"
        return Work(lambda: look_up(place)(chosen, all_tokens), lambda found: (found,), (chosen, all_tokens))

    return Case("chunk_cosine_sim, 60 x 3600 tokens, 768 channels", "score", make)


def _pairwise_sim(p: int, normalize: bool) -> Case:
    def make(random: Generator) -> Work:
        x, y = (t.flatten(2).mT[:, None].contiguous() for t in feature_pair(random, 1, 768, 60, 60))
        place = f"{_CORRESPONDENCE}:pairwise_sim"
        return Work(lambda: look_up(place)(x[:, :, :60], y, p, normalize), lambda found: (found,))

    what = f"p={p}" + (", normalize" if normalize else "")
    return Case(f"pairwise_sim, {what}, 60 x 3600 tokens, 768 channels", "score", make)


def _nearest_neighbour_flow(random: Generator) -> Work:
    source, target = feature_pair(random, 1, 768, 60, 60)
    place = "pck_tss:nearest_neighbor_flow"
    return Work(lambda: look_up(place)(source, target, (240, 320)), lambda found: (found,))


_GEOAWARE_SC = Codebase(
    (
        _keypoint_transformation(False, 0),
        _keypoint_transformation(True, 7),
        _keypoint_transformation(True, 0),
        _keypoint_transformation(True, -5),
        _flow(0),
        _flow(7),
        _flow(-5),
        Case("get_distance, masks, 64 x 64 cells, 768 channels", "score", _distance),
        Case("get_distance_mutual_nn, 3600 x 3600 x 768", "score", _mutual_distance),
        _chunk_cosine_sim(_CORRESPONDENCE),
        _pairwise_sim(2, False),
    ),
    stubs=_PLOTS,
)

_SD_DINO = Codebase(
    (
        _chunk_cosine_sim(_CORRESPONDENCE),
        _pairwise_sim(2, False),
        _pairwise_sim(2, True),
        _pairwise_sim(1, False),
        Case("nearest_neighbor_flow, 3600 x 3600 x 768, to 240 x 320 pixels", "px", _nearest_neighbour_flow),
    ),
    stubs=(*_PLOTS, "extractor_sd", "extractor_dino", "utils.logger", "utils.utils_tss", "torchvision"),
)


def _upsampled(random: Generator) -> Work:
    source, target = feature_pair(random, 1, 384, 64, 64)
    # Points are (y, x); the first pixels from the edges are sampled beyond the outermost cells.
    pixels = (points(random, 1, 15, 224, 224)[0]).numpy()
    place = "archs.correspondence_utils:find_nn_source_correspondences"
    return Work(
        lambda: look_up(place)(source, target, pixels, (224, 224), (224, 224)),
        lambda found: (found[0].float(), found[1].float()),
    )


_HYPERFEATURES = Codebase(
    (
        Case("find_nn_source_correspondences, 15 points, 64 x 64 cells to 224 x 224, 384 channels", "px", _upsampled),
        _chunk_cosine_sim("archs.correspondence_utils"),
    ),
    stubs=(*_PLOTS, "torchvision"),
)


CODEBASES = {
    "sd4match": _SD4MATCH,
    "semantic_correspondence": _SEMANTIC_CORRESPONDENCE,
    "geoaware_sc": _GEOAWARE_SC,
    "sd_dino": _SD_DINO,
    "hyperfeatures": _HYPERFEATURES,
}
