"""Codebases that match two sets of descriptors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ..case import Case, Codebase, Work, look_up
from ..inputs import descriptor_sets, partners, score_maps


def _dift(metric: str) -> Case:
    def make(random: Generator) -> Work:
        first, second = descriptor_sets(random, 1000, 1000, 1280)

        def read(found: Any) -> tuple[Tensor, ...]:
            pairs = torch.from_numpy(found)
            return (partners(pairs[:, 0], pairs[:, 1], 1000),)

        return Work(lambda: look_up("eval_homography:mnn_matcher")(first, second, metric), read)

    return Case(f"mnn_matcher, {metric}, 1000 x 1000 x 1280", "match", make)


_DIFT = Codebase((_dift("cosine"), _dift("l2")), stubs=("cv2", "tqdm"))


def _xfeat(batched: bool) -> Case:
    def make(random: Generator) -> Work:
        first, second = descriptor_sets(random, 4096, 4096, 64)
        model = look_up("modules.xfeat:XFeat")
        if batched:
            return Work(
                lambda: model.batch_match(None, first[None], second[None]),
                lambda found: (partners(found[0][0], found[0][1], 4096),),
            )
        return Work(lambda: model.match(None, first, second), lambda found: (partners(found[0], found[1], 4096),))

    name = "batch_match" if batched else "match"
    return Case(f"XFeat.{name}, 4096 x 4096 x 64", "match", make)


def _xfeat_offsets(random: Generator) -> Work:
    scores = score_maps(random, 1, 2000, 8, 8, contrast=2.0)[0].requires_grad_()
    model = look_up("modules.xfeat:XFeat")
    return Work(lambda: model.subpix_softmax2d(None, scores), lambda found: (found,), (scores,))


_XFEAT = Codebase(
    (
        _xfeat(False),
        _xfeat(True),
        Case("XFeat.subpix_softmax2d, 2000 x 8 x 8", "px", _xfeat_offsets),
    ),
    stubs=("tqdm", "cv2"),
)


def _lightglue(random: Generator) -> Work:
    assign = look_up("lightglue.lightglue:MatchAssignment")(256).eval()
    for parameter in assign.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random) / parameter.shape[-1] ** 0.5
    first, second = (24 * x[None] for x in descriptor_sets(random, 2048, 2048, 256))

    def call() -> Any:
        with torch.no_grad():
            return look_up("lightglue.lightglue:filter_matches")(assign(first, second)[0], 0.1)

    return Work(call, lambda found: (*found[:2], *found[2:]))


_LIGHTGLUE = Codebase(
    (Case("MatchAssignment and filter_matches, 2048 x 2048 x 256", "match", _lightglue),),
    stubs=(
        *("cv2", "kornia", "torchvision", "flash_attn"),
        *(f"lightglue.{name}" for name in ("aliked", "disk", "dog_hardnet", "sift", "superpoint", "utils")),
    ),
)


def _glue_factory(ratio: float | None, distance: float | None) -> Case:
    def make(random: Generator) -> Work:
        first, second = descriptor_sets(random, 2048, 2048, 128)
        scores = (first @ second.T)[None]
        module = "gluefactory.models.matchers.nearest_neighbor_matcher"

        def call() -> tuple[Tensor, Tensor]:
            find = look_up(f"{module}:find_nn")
            return find(scores, ratio, distance), find(scores.transpose(1, 2), ratio, distance)

        return Work(call, lambda found: found)

    return Case(f"find_nn both ways, ratio {ratio}, distance {distance}, 2048 x 2048 scores", "match", make)


_GLUE_FACTORY = Codebase(
    (_glue_factory(None, None), _glue_factory(0.9, 0.7)),
    stubs=(
        *("omegaconf", "cv2", "kornia", "torchvision", "tqdm", "h5py"),
        *("gluefactory.utils", "gluefactory.datasets", "gluefactory.robust_estimators"),
        *("gluefactory.models.utils", "gluefactory.models.base_model"),
    ),
)


def _mast3r(dist: str, count: int, channels: int, block: int | None) -> Case:
    def make(random: Generator) -> Work:
        first, second = descriptor_sets(random, count, count, channels)
        place = "mast3r.fast_nn:bruteforce_reciprocal_nns"
        return Work(
            lambda: look_up(place)(first, second, device="cpu", block_size=block, dist=dist),
            lambda found: tuple(torch.from_numpy(x) for x in found),
        )

    blocks = "" if block is None else f", blocks of {block}"
    return Case(f"bruteforce_reciprocal_nns, {dist}, {count} x {count} x {channels}{blocks}", "match", make)


_MAST3R = Codebase(
    (_mast3r("dot", 12288, 24, 8192), _mast3r("dot", 3072, 24, None), _mast3r("l2", 3072, 24, None)),
    stubs=("mast3r.utils", "dust3r"),
    requires=("scipy",),
)


def _kornia(name: str, *options: float) -> Case:
    def make(random: Generator) -> Work:
        first, second = descriptor_sets(random, 2000, 1900, 128)
        # Ours gives no gradient to the distance of the second nearest, and leaves that to theirs.
        inputs = () if options else (first.requires_grad_(), second.requires_grad_())

        def read(found: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
            value, pairs = found
            dense = value.new_zeros(2000).index_put((pairs[:, 0],), value[:, 0])
            return dense, partners(pairs[:, 0], pairs[:, 1], 2000)

        return Work(lambda: look_up(f"kornia.feature:{name}")(first, second, *options), read, inputs)

    return Case(f"{name}, 2000 x 1900 x 128", "match", make)


def _kornia_argmax(random: Generator) -> Work:
    scores = score_maps(random, 4, 17, 64, 48, contrast=2.0).requires_grad_()
    place = "kornia.geometry.subpix:spatial_soft_argmax2d"
    heat = torch.tensor(0.5)
    return Work(lambda: look_up(place)(scores, heat, False), lambda found: (found,), (scores,))


_KORNIA = Codebase(
    (
        _kornia("match_nn"),
        _kornia("match_mnn"),
        _kornia("match_snn", 0.8),
        _kornia("match_smnn", 0.95),
        Case("spatial_soft_argmax2d, 4 x 17 x 64 x 48", "px", _kornia_argmax),
    )
)

CODEBASES = {
    "dift": _DIFT,
    "xfeat": _XFEAT,
    "lightglue": _LIGHTGLUE,
    "glue_factory": _GLUE_FACTORY,
    "mast3r": _MAST3R,
    "kornia": _KORNIA,
}
