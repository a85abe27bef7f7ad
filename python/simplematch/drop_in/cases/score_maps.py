"""Codebases that turn score maps into coordinates."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Generator, Tensor

from ..case import Case, Codebase, Work, look_up
from ..inputs import points, score_maps


def _cats(batch: int, side: int) -> Case:
    def make(random: Generator) -> Work:
        # The channel is the target cell, the map that of the source.
        maps = score_maps(random, batch, side * side, side, side).flatten(2).mT
        scores = maps.reshape(batch, side * side, side, side).requires_grad_()
        theirs = look_up("models.cats:CATs")
        model = SimpleNamespace(x_normal=torch.linspace(-1, 1, side), y_normal=torch.linspace(-1, 1, side))
        model.softmax_with_temperature = theirs.softmax_with_temperature.__get__(model)
        return Work(
            lambda: look_up("models.cats:CATs.soft_argmax")(model, scores),
            lambda found: (torch.cat(found, 1) * 128,),
            (scores,),
        )

    return Case(f"CATs.soft_argmax, {batch} x {side}^2 x {side}^2", "px", make)


_CATS = Codebase(
    (_cats(4, 16), _cats(1, 32)), stubs=("timm", "torchvision", "cv2", "models.feature_backbones"), provides={}
)


def _chm(random: Generator) -> Work:
    scores = score_maps(random, 2, 900, 30, 30).reshape(2, 900, 900).requires_grad_()
    geometry = look_up("model.base.geometry:Geometry")
    geometry.initialize(240)
    keypoints = points(random, 2, 40, 240, 240).mT.contiguous()
    counts = torch.tensor([40, 25])
    keypoints[1, :, 25:] = -2
    return Work(
        lambda: geometry.transfer_kps(scores, keypoints, counts, normalized=False),
        lambda found: (found * 120,),
        (scores,),
    )


_CHM = Codebase((Case("Geometry.transfer_kps, 2 x 40 points, 30^2 x 30^2", "px", _chm),))


def _marco(random: Generator) -> Work:
    # Raw products: their softmax has temperature 10.
    scores = (1000 * score_maps(random, 4, 20, 60, 60)).requires_grad_()
    place = "util.geometry:kernel_softargmax_get_matches_logits"
    return Work(lambda: look_up(place)(scores, 10.0, 7), lambda found: (found * 14,), (scores,))


_MARCO = Codebase((Case("kernel_softargmax_get_matches_logits, 4 x 20 x 60 x 60", "px", _marco),))


def _window_extension() -> ModuleType:
    """What SimpleMatch's CUDA extension computes: windows of k x k cells, and the gradient of their maps."""

    def cells(corner: Tensor, width: int, k: int) -> Tensor:
        steps = torch.arange(k)
        rows, columns = corner[..., 1, None, None] + steps[:, None], corner[..., 0, None, None] + steps
        return (rows * width + columns).flatten(2)

    def extract(scores: Tensor, peaks: Tensor, k: int) -> tuple[Tensor, Tensor]:
        side = round(scores.shape[2] ** 0.5)
        corner = (torch.stack((peaks % side, peaks // side), -1) - k // 2).clamp(0, side - k)
        return scores.gather(2, cells(corner, side, k)).unflatten(2, (k, k)), corner

    def backward(upstream: Tensor, corner: Tensor, B: int, N: int, height: int, width: int, k: int) -> Tensor:
        found = upstream.new_zeros(B, N, height * width)
        return found.scatter_(2, cells(corner, width, k), upstream.flatten(2))

    module = ModuleType("kxk_window_cuda_optimized")
    vars(module).update(extract_kxk_window_optimized=extract, kxk_window_backward=backward)
    return module


def _simplematch(image: int, batch: int, window: int | None) -> Case:
    side = image // 4

    def make(random: Generator) -> Work:
        scores = score_maps(random, batch, 30, side, side).flatten(2).requires_grad_()
        task = look_up("src.models.semantic_correspondence.task:SparseCorrespondenceTask")(image)
        return Work(lambda: task.compute_trg_kps(scores, window), lambda found: (found,), (scores,))

    return Case(f"compute_trg_kps, window {window}, {batch} x 30 x {side} x {side}", "px", make)


_SIMPLEMATCH = Codebase(
    (_simplematch(256, 8, 45), _simplematch(448, 1, 45), _simplematch(128, 8, 15), _simplematch(64, 8, None)),
    stubs=(
        "mmengine",
        "src.datasets",
        "src.evaluation",
        "src.runner",
        "src.utils",
        "src.models.backbones",
        "src.models.semantic_correspondence.sc",
        "src.models.semantic_correspondence.sc_resnet",
    ),
    provides={"kxk_window_cuda_optimized": _window_extension},
)


def _tapir(random: Generator) -> Work:
    scores = score_maps(random, 1, 16 * 12, 32, 32, contrast=4.0)
    weights = scores.flatten(2).softmax(-1).view(1, 16, 12, 32, 32).requires_grad_()
    place = "tapnet.torch.utils:soft_argmax_heatmap_batched"
    return Work(lambda: look_up(place)(weights), lambda found: (found * 8,), (weights,))


def _tapir_points(random: Generator) -> Work:
    scores = score_maps(random, 1, 16 * 12, 32, 32, contrast=4.0)
    weights = scores.flatten(2).softmax(-1).view(1, 16, 12, 32, 32)
    place = "tapnet.torch.utils:heatmaps_to_points"
    return Work(lambda: look_up(place)(weights, (1, 12, 256, 256, 3)), lambda found: (found,))


_TAPNET = Codebase(
    (
        Case("soft_argmax_heatmap_batched, 16 points x 12 frames x 32 x 32", "px", _tapir),
        Case("heatmaps_to_points, which calls it", "px", _tapir_points),
    ),
    stubs=("einshape", "tree"),
)


def _loftr_grid() -> ModuleType:
    """`kornia.utils.grid`, which newer versions of kornia have elsewhere."""

    def create_meshgrid(height: int, width: int, normalized: bool = True, device: Any = None) -> Tensor:
        x, y = ((torch.linspace(-1, 1, n) if normalized else torch.arange(float(n))) for n in (width, height))
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None].to(device)

    module = ModuleType("kornia.utils.grid")
    vars(module).update(create_meshgrid=create_meshgrid)
    return module


def _loftr(random: Generator) -> Work:
    first, second = (torch.randn(3000, 25, 128, generator=random).requires_grad_() for _ in range(2))
    coarse = points(random, 1, 3000, 640, 480)[0]
    given = {"hw0_i": (480, 640), "hw0_f": (240, 320), "mkpts0_c": coarse, "mkpts1_c": coarse}
    matching = look_up("src.loftr.utils.fine_matching:FineMatching")()

    def call() -> dict[str, Any]:
        data: dict[str, Any] = {**given, "mconf": coarse[:, 0]}
        matching(first, second, data)
        return data

    return Work(call, lambda data: (data["expec_f"], data["mkpts1_f"].detach()), (first, second))


_LOFTR = Codebase(
    (Case("FineMatching.forward, 3000 x 5 x 5, 128 channels", "px", _loftr),),
    stubs=("einops", "yacs", "src.loftr.loftr", "src.loftr.utils.cvpr_ds_config"),
    provides={"kornia.utils.grid": _loftr_grid},
    requires=("kornia",),
)

CODEBASES = {
    "cats": _CATS,
    "chm": _CHM,
    "marco": _MARCO,
    "simplematch": _SIMPLEMATCH,
    "tapnet": _TAPNET,
    "loftr": _LOFTR,
}
