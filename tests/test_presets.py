"""Each preset reproduces its codebase, as `published.py` writes it down, in both precisions and on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import presets

from . import published
from .oracle import relative_error
from .samples import DEVICE

POINTS = {torch.float32: 5e-3, torch.float64: 1e-9}  # largest error in pixels
GRADIENTS = {torch.float32: 1e-4, torch.float64: 1e-9}  # largest relative error
dtypes = pytest.mark.parametrize("dtype", POINTS, ids=lambda dtype: str(dtype).removeprefix("torch."))
CELLS, SIDE = 20, 280
SIZES: dict[str, Any] = {"source_size": (SIDE, SIDE), "target_size": (SIDE, SIDE)}


class Inputs(NamedTuple):
    source: Tensor
    target: Tensor
    keypoints: Tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def maps(height: int = CELLS, width: int = CELLS) -> Inputs:
    """A target that shows the smooth source moved and disturbed, and points between cells from border to border."""

    def smooth(seed: int) -> Tensor:
        coarse = draw(2, 24, height // 3, width // 3, seed=seed)
        return 2 * F.interpolate(coarse, (height, width), mode="bilinear") + 0.2 * draw(2, 24, height, width, seed=seed)

    source = smooth(0)
    target = source.roll((3, -5), (2, 3)) + 0.4 * smooth(1)
    chosen = torch.Generator().manual_seed(2)
    keypoints = torch.randint(0, SIDE, (2, 9, 2), generator=chosen) + torch.rand(2, 9, 2, generator=chosen) * 0.8 + 0.1
    keypoints[:, 0], keypoints[:, 1] = 0.25, SIDE - 1
    return Inputs(source, target, keypoints.clamp(max=SIDE - 1))


def unrelated() -> Inputs:
    """Maps whose largest cosines are small."""
    shape = (2, 256, CELLS, CELLS)
    return Inputs(draw(*shape), draw(*shape, seed=1), maps().keypoints)


Side = Callable[..., Tensor]


class Case(NamedTuple):
    """Both sides of a comparison: functions of the inputs, ours of the backend besides."""

    name: str
    ours: Side
    theirs: Side
    inputs: Callable[[], tuple[Tensor, ...]] = maps
    differentiated: int = 2  # so many of the inputs, the first ones; none where the codebase takes an argmax


def match(**options: Any) -> Side:
    def run(source: Tensor, target: Tensor, keypoints: Tensor, **more: Any) -> Tensor:
        return smk.sparse_window_match(source, target, keypoints, **options, **more).keypoints

    return run


def theirs(function: Callable[..., Tensor], *first: Any, last: tuple[Any, ...] = (SIDE,)) -> Side:
    return lambda source, target, keypoints: function(*first, source, target, keypoints, *last)


def localize_cats(correlation: Tensor, **more: Any) -> Tensor:
    height, width = correlation.shape[2:]
    scores = correlation.flatten(2).mT.unflatten(2, (height, width))
    return smk.localize(scores, **presets.cats(), **more).keypoints.mT.unflatten(2, (height, width))


def localize_chm(correlation: Tensor, keypoints: Tensor, **more: Any) -> Tensor:
    """The mean of our matches, with the weights that stay outside of the options."""
    cells = round(correlation.shape[2] ** 0.5)
    scores = correlation.unflatten(2, (cells, cells))
    matched = smk.localize(scores, **presets.chm(target_size=(241, 241)), **more).keypoints
    grid = published.centres(cells, cells, matched) / (cells - 1) * 2 - 1
    distance = ((grid - (keypoints / 120 - 1)[..., None, :]).square().sum(-1) + 1e-5).sqrt()
    near = (0.1 - distance).clamp(min=0)
    return near / near.sum(-1, keepdim=True) @ matched


def localize_tapir(logits: Tensor, **more: Any) -> Tensor:
    return smk.localize(logits, **presets.tapir(target_size=(96, 256)), **more).keypoints


def fine(first: Tensor, second: Tensor, **more: Any) -> Tensor:
    found = smk.match_descriptors(first[:, first.shape[1] // 2, None], second, **presets.loftr_fine(), **more)
    assert found.covariance is not None
    deviation = found.covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-10).sqrt().sum(-1, keepdim=True)
    return torch.cat((found.keypoints, deviation), -1)[:, 0]


def fine_of_loftr(first: Tensor, second: Tensor) -> Tensor:
    found = published.loftr_fine(first, second)
    return torch.cat((found.keypoints, found.deviation[:, None]), -1)


def refine_xfeat(logits: Tensor, **more: Any) -> Tensor:
    return smk.localize(logits[None], **presets.xfeat("subpix_softmax2d"), **more).keypoints[0]


def average_kornia(logits: Tensor, **more: Any) -> Tensor:
    return smk.localize(logits, **presets.kornia("spatial_soft_argmax2d"), **more).keypoints


def expect_kornia(logits: Tensor, **more: Any) -> Tensor:
    share = logits.flatten(2).softmax(-1).view_as(logits)
    return smk.localize(share, **presets.kornia("spatial_expectation2d"), **more).keypoints


def expectation_of_kornia(logits: Tensor) -> Tensor:
    return published.kornia_expectation(logits.flatten(2).softmax(-1).view_as(logits))


TRUE = torch.tensor([3, 0, 17, 29]), torch.tensor([5, 29, 0, 11])
"""Flat cells of true pairs."""


def infer_hyperfeatures(source: Tensor, target: Tensor, **more: Any) -> Tensor:
    options = presets.hyperfeatures("compute_clip_loss")
    found = smk.match_all(source, target, **options, **more)
    assert found.log_sum_exp_a is not None and found.log_sum_exp_b is not None
    of_a, of_b = (x.to(DEVICE)[None] for x in TRUE)
    pairs = smk.pair_scores(source, target, of_a, of_b, eps=0.0, **more) / options["temperature"]
    sides = found.log_sum_exp_a.gather(1, of_a) - pairs, found.log_sum_exp_b.gather(1, of_b) - pairs
    return (sides[0].mean() + sides[1].mean())[None] / 2


def infer_xfeat(a: Tensor, b: Tensor, **more: Any) -> Tensor:
    options = presets.xfeat("dual_softmax_loss")
    found = smk.match_all(a, b, **options, **more)
    assert found.log_sum_exp_a is not None and found.log_sum_exp_b is not None
    pairs = smk.pair_scores(a, b, None, partners(a), metric="dot", **more) / options["temperature"]
    return ((found.log_sum_exp_a - pairs).mean() + (found.log_sum_exp_b - pairs).mean())[None]


def infer_mast3r(a: Tensor, b: Tensor, **more: Any) -> Tensor:
    options = presets.mast3r("InfoNCE")
    found = smk.match_all(a, b, **options, **more)
    assert found.log_sum_exp_a is not None and found.log_sum_exp_b is not None
    pairs = smk.pair_scores(a, b, None, partners(a), metric="dot", **more) / options["temperature"]
    return (found.log_sum_exp_a + found.log_sum_exp_b - 2 * pairs).mean()[None]


def partners(a: Tensor) -> Tensor:
    """True pairs (n, n)."""
    return torch.arange(a.shape[1], device=a.device)[None]


def units(count: int = 40, other: int = 40) -> tuple[Tensor, Tensor]:
    """Two sets of normalised descriptors, half of which have a partner."""
    a, b = draw(1, count, 24, seed=3), draw(1, other, 24, seed=4)
    b[:, : count // 2] = a[:, : count // 2].flip(1) + 0.5 * b[:, : count // 2]
    return F.normalize(a, dim=2), F.normalize(b, dim=2)


def paired() -> tuple[Tensor, Tensor]:
    """Two sets of normalised descriptors of which a_n and b_n are partners."""
    a, b = draw(1, 30, 24, seed=3), draw(1, 30, 24, seed=4)
    return F.normalize(a, dim=2), F.normalize(a + b, dim=2)


def correlation_of_chm() -> tuple[Tensor, Tensor]:
    """Scores that aren't negative, of 12 x 12 cells, and points of 240 x 240 pixels that are near one of them."""
    chosen = torch.Generator().manual_seed(5)
    cells = torch.randint(0, 12, (2, 6, 2), generator=chosen) + 0.5 * torch.rand(2, 6, 2, generator=chosen) - 0.25
    return F.softplus(3 * draw(2, 144, 144, seed=6)), cells.clamp(0, 11) * 240 / 11


SD4MATCH = ("nn", "bilinear", "softargmax", "kernelsoftargmax")
GEOAWARE = ("argmax", "window", "global", "gaussian")
SOFT = ("softargmax", "kernelsoftargmax", "window", "global", "gaussian")


def cases() -> Iterator[Case]:
    for k in (9, 15, 45):
        ours = presets.simplematch(**SIZES, window_size=k)
        yield Case(f"simplematch-{k}", match(**ours), theirs(published.simplematch, last=(SIDE, k)))
    for preset in (presets.sd4match, presets.semantic_correspondence):
        for mode in SD4MATCH:
            sides = match(**preset(mode, **SIZES)), theirs(published.sd4match, mode)
            yield Case(f"{preset.__name__}-{mode}", *sides, differentiated=2 if mode in SOFT else 0)
    for mode in GEOAWARE:
        sides = match(**presets.geoaware(mode, **SIZES)), theirs(published.geoaware, mode)
        yield Case(f"geoaware-{mode}", *sides, differentiated=2 if mode in SOFT else 0)
    weak = match(**presets.geoaware("window", **SIZES)), theirs(published.geoaware, "window")
    yield Case("geoaware-window-weak", *weak, unrelated)  # where zeros outside the window count
    yield Case("marco", match(**presets.marco(**SIZES)), theirs(published.marco))
    dense = presets.marco(**SIZES, localization="global")
    yield Case("marco-dense-loss", match(**dense), theirs(published.marco, last=(SIDE, None)))
    for distance, change in (("l2", {}), ("cos", {"metric": "cosine"}), ("l1", {"metric": "l1"})):
        sides = match(**presets.sd_dino(**SIZES, **change)), theirs(published.sd_dino, distance)
        yield Case(f"sd_dino-{distance}", *sides, differentiated=0)
    shapes = (48, 70), (60, 52)
    dift = match(**presets.dift(source_size=shapes[0], upsample=shapes[1]))
    yield Case("dift", dift, theirs(published.dift, last=shapes), lambda: whole(maps(9, 13), 70, 48), 0)
    loaded = presets.hyperfeatures(upsample=(56, 56), target_size=(375, 500))
    hyper = lambda s, t, k, **more: match(**loaded)(s, t, k.round().clamp(0, 55), **more)  # noqa: E731
    of_hyper = theirs(published.hyperfeatures, last=(56, (375, 500)))
    yield Case("hyperfeatures", hyper, of_hyper, lambda: whole(maps(8, 8), 56, 56, 0.3), 0)
    of_pairs = lambda a, b: published.hyperfeatures_loss(a, b, *(x.to(DEVICE) for x in TRUE))[None]  # noqa: E731
    small = lambda: (draw(1, 24, 5, 6), draw(1, 24, 6, 5, seed=1))  # noqa: E731
    yield Case("hyperfeatures-loss", infer_hyperfeatures, of_pairs, small)
    yield Case("cats", localize_cats, published.cats, lambda: (0.2 * draw(2, 81, 9, 9),), 1)
    yield Case("chm", localize_chm, lambda c, k: published.chm(c, k, 240), correlation_of_chm, 1)
    yield Case("tapir", localize_tapir, lambda x: published.tapir(x, (96, 256)), lambda: (0.2 * draw(2, 9, 12, 32),), 1)
    yield Case("loftr_fine", fine, fine_of_loftr, lambda: (draw(7, 25, 128), draw(7, 25, 128, seed=1)))
    yield Case("xfeat-subpix", refine_xfeat, published.xfeat_refined, lambda: (draw(11, 8, 8),), 1)
    yield Case("xfeat-loss", infer_xfeat, lambda a, b: published.xfeat_loss(a[0], b[0])[None], paired)
    yield Case("mast3r-loss", infer_mast3r, lambda a, b: published.mast3r_loss(a[0], b[0])[None], paired)
    logits = lambda: (2 * draw(2, 5, 10, 14),)  # noqa: E731
    yield Case("kornia-soft-argmax", average_kornia, expectation_of_kornia, logits, 1)
    yield Case("kornia-expectation", expect_kornia, expectation_of_kornia, logits, 1)


def whole(inputs: Inputs, width: int, height: int, beyond: float = 0.0) -> Inputs:
    """With whole pixels as keypoints; `beyond`: added to each, so that they must be rounded."""
    draws = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(7))
    return inputs._replace(keypoints=(draws * torch.tensor([width, height])).floor() + beyond)


@dtypes
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_points_and_gradients_agree(case: Case, dtype: torch.dtype, backend: str) -> None:
    given = [x.to(DEVICE, dtype) for x in case.inputs()]
    exact = [x.to(DEVICE, torch.float64) for x in case.inputs()]
    for x in (*given[: case.differentiated], *exact[: case.differentiated]):
        x.requires_grad_()
    found, expected = case.ours(*given, backend=backend), case.theirs(*exact)
    torch.testing.assert_close(found.double(), expected.double(), atol=POINTS[dtype], rtol=0)
    if case.differentiated == 0:
        return
    upstream = draw(*expected.shape, seed=9).to(expected)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for x, y in zip(given[: case.differentiated], exact[: case.differentiated], strict=True):
        assert x.grad is not None and y.grad is not None
        assert relative_error(x.grad, y.grad) < GRADIENTS[dtype]


def assert_pairs(found: smk.AllMatches, expected: published.Pairs) -> None:
    """The same partners both ways, and the same mutual ones."""
    assert torch.equal(found.index_a[0], expected.of_a) and torch.equal(found.index_b[0], expected.of_b)
    rows = found.mutual[0].nonzero()[:, 0]
    assert torch.equal(torch.stack((rows, found.index_a[0, rows]), 1), expected.mutual)


@dtypes
@pytest.mark.parametrize("name", ["xfeat", "mast3r", "mast3r-l2", "kornia-nn", "kornia-mnn"])
def test_pairs_agree(name: str, dtype: torch.dtype, backend: str) -> None:
    options = {
        "xfeat": presets.xfeat(),
        "mast3r": presets.mast3r(),
        "mast3r-l2": presets.mast3r(metric="l2"),
        "kornia-nn": presets.kornia("match_nn"),
        "kornia-mnn": presets.kornia(),
    }[name]
    scale = 3.0 if name in ("mast3r-l2", "kornia-nn", "kornia-mnn") else 1.0
    a, b = (scale * x.to(DEVICE, dtype) for x in units(40, 33))
    found = smk.match_all(a, b, **options, backend=backend)
    x, y = a[0].double(), b[0].double()
    scores = x @ y.T if options["metric"] == "dot" else -torch.cdist(x, y)
    assert_pairs(found, published.nearest(scores))
    best = found.score_a[0].double()
    best = best if options["metric"] == "dot" else -(-best).sqrt()
    torch.testing.assert_close(best, scores.amax(1), atol=1e-5, rtol=1e-5)
    if name == "xfeat":  # its threshold on the cosine
        kept = (found.mutual & (found.score_a > 0.82))[0]
        assert 0 < kept.sum() < found.mutual.sum()
        assert torch.equal(kept, found.mutual[0] & (scores.amax(1) > 0.82))


@dtypes
@pytest.mark.parametrize("name", ["match_snn", "match_smnn"])
def test_ratios_of_kornia_agree(name: Any, dtype: torch.dtype, backend: str) -> None:
    a, b = (3 * x.to(DEVICE, dtype) for x in units(40, 33))
    found = smk.match_all(a, b, **presets.kornia(name), backend=backend)
    assert found.second_a is not None and found.second_b is not None
    forth = published.kornia_ratios(a[0].double(), b[0].double())
    back = published.kornia_ratios(b[0].double(), a[0].double())
    for score, second, index, expected in (
        (found.score_a, found.second_a, found.index_a, forth),
        (found.score_b, found.second_b, found.index_b, back),
    ):
        assert torch.equal(index[0], expected.of_a)
        torch.testing.assert_close((score / second).sqrt()[0].double(), expected.ratio, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close((-score).sqrt()[0].double(), expected.distance, atol=1e-5, rtol=1e-5)
    kept = found.mutual[0] & (found.score_a / found.second_a <= 0.95**2)[0]
    kept &= (found.score_b / found.second_b <= 0.95**2)[0, found.index_a[0]]
    rows = torch.arange(40, device=DEVICE)
    both = (back.of_a[forth.of_a] == rows) & (forth.ratio <= 0.95) & (back.ratio[forth.of_a] <= 0.95)
    assert torch.equal(kept, both) and 0 < both.sum() < 40


@dtypes
def test_assignment_of_lightglue_agrees(dtype: torch.dtype, backend: str) -> None:
    """Its matches, their probabilities, the log-probabilities of other pairs, and their gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 30, 256), (1, 26, 256), (1, 30), (1, 26)
    given = [torch.randn(s, generator=generator).to(DEVICE, dtype) for s in shapes]
    given[1][:, :20] += given[0][:, :20]
    exact = [x.double().clone().requires_grad_() for x in given]
    a, b, z_a, z_b = (x.requires_grad_() for x in given)
    options = presets.lightglue()
    softmax = smk.match_all(a, b, **options, backend=backend)
    assert softmax.log_sum_exp_a is not None and softmax.log_sum_exp_b is not None
    of_a, of_b = F.logsigmoid(z_a) - softmax.log_sum_exp_a, F.logsigmoid(z_b) - softmax.log_sum_exp_b
    long_a = torch.cat((a * 2 / options["temperature"], of_a[..., None], torch.ones_like(of_a)[..., None]), 2)
    long_b = torch.cat((b, torch.ones_like(of_b)[..., None], of_b[..., None]), 2)
    found = smk.match_all(long_a, long_b, metric="dot", return_log_sum_exp=False, backend=backend)
    assignment = published.lightglue(*(x[0] for x in exact))
    assert_pairs(found, published.nearest(assignment))
    torch.testing.assert_close(found.score_a[0].double(), assignment.amax(1), atol=1e-4, rtol=1e-5)
    chosen = torch.tensor([[0, 3, 7]], device=DEVICE), torch.tensor([[0, 5, 25]], device=DEVICE)
    pairs = 2 * smk.pair_scores(a, b, *chosen, metric="dot", backend=backend) / options["temperature"]
    pairs = pairs + of_a.gather(1, chosen[0]) + of_b.gather(1, chosen[1])
    expected = assignment[chosen[0][0], chosen[1][0]]
    torch.testing.assert_close(pairs[0].double(), expected, atol=1e-4, rtol=1e-5)
    (found.score_a.sum() - pairs.sum()).backward()
    (assignment.amax(1).sum() - expected.sum()).backward()
    for x, y in zip(given, exact, strict=True):
        assert x.grad is not None and y.grad is not None
        assert relative_error(x.grad, y.grad) < GRADIENTS[dtype]
