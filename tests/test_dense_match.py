"""dense_match: all cells of a map as queries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _native, _resolved

from .oracle import relative_error
from .samples import DEVICE, LAYOUTS, SIMULATED, lay_out
from .test_gradients import differentiates

HEIGHT, WIDTH = 4, 5


def maps(dtype: torch.dtype = torch.float32, layout: str = "contiguous", seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(2, 8, HEIGHT, WIDTH, generator=generator)
    target = torch.randn(2, 8, 6, 4, generator=generator)
    return lay_out(source.to(DEVICE, dtype), layout), lay_out(target.to(DEVICE, dtype), layout)


def cells() -> Tensor:
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack((x, y), -1).flatten(0, 1).expand(2, -1, -1).double().to(DEVICE)


def as_map(x: Tensor) -> Tensor:
    return x.unflatten(1, (HEIGHT, WIDTH))


OPTIONS: dict[str, dict[str, Any]] = {
    "window": {"window_size": 3},
    "global": {"localization": "global", "metric": "l2", "temperature": 3.0},
    "l1": {"window_size": 5, "metric": "l1", "temperature": 3.0},
    "argmax": {"localization": "argmax"},
    "gaussian": {"localization": "gaussian", "sigma": 2.0, "metric": "dot", "temperature": 2.0},
}


@pytest.mark.parametrize("layout", ["contiguous", "sliced"] if _backends.interpreting() else [*LAYOUTS, "tokens"])
@pytest.mark.parametrize("name", OPTIONS)
def test_agrees_with_a_match_of_every_cell(name: str, layout: str, backend: str) -> None:
    """Values and gradients, whether the strides allow a list of cells or not."""
    results = []
    for dense in (True, False):
        source, target = (x.detach().requires_grad_() for x in maps(torch.float64, layout))
        if dense:
            found = smk.dense_match(source, target, **OPTIONS[name], backend=backend)
            flow, score, log_sum_exp = found.flow, found.score, found.log_sum_exp
            assert found.mutual is None
        else:
            matches = smk.sparse_window_match(source, target, cells(), **OPTIONS[name], backend=backend)
            flow = as_map(matches.keypoints - cells()).permute(0, 3, 1, 2)
            score, log_sum_exp = as_map(matches.score), as_map(matches.log_sum_exp)
        loss = flow.sin().sum() + score.cos().sum() + log_sum_exp.sin().sum()
        gradients = torch.autograd.grad(loss, (source, target))
        results.append((flow, score, log_sum_exp, *gradients))
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        assert relative_error(ours, theirs) < 1e-10


@pytest.mark.parametrize("coordinates", ["corner", "half_pixel", "align_corners"])
@pytest.mark.parametrize("own_sizes", [False, True])
def test_flow_is_in_pixels(coordinates: str, own_sizes: bool, backend: str) -> None:
    source, target = maps()
    sizes: dict[str, Any] = {"source_size": (40, 30), "target_size": (33, 50)}
    if own_sizes:
        sizes = {k: torch.tensor([v, (v[1], v[0])], device=DEVICE) for k, v in sizes.items()}
    coords = {"source_coords": coordinates, "target_coords": coordinates}
    flow = smk.dense_match(source, target, localization="argmax", **sizes, **coords, backend=backend).flow
    for b in range(2):
        (source_height, source_width), target_size = (
            tuple(size[b].tolist()) if isinstance(size, Tensor) else size for size in sizes.values()
        )
        x, y = cells()[0].unbind(-1)
        if coordinates == "corner":
            start = torch.stack((x * source_width / WIDTH, y * source_height / HEIGHT), -1)
        elif coordinates == "half_pixel":
            start = torch.stack(
                ((x + 0.5) * source_width / WIDTH - 0.5, (y + 0.5) * source_height / HEIGHT - 0.5), -1
            )  # fmt: skip
        else:
            start = torch.stack((x * (source_width - 1) / (WIDTH - 1), y * (source_height - 1) / (HEIGHT - 1)), -1)
        ends = smk.sparse_window_match(
            source[b : b + 1], target[b : b + 1], cells()[:1], localization="argmax", target_size=target_size,
            target_coords=coordinates, backend=backend,
        ).keypoints  # fmt: skip
        torch.testing.assert_close(flow[b].permute(1, 2, 0).flatten(0, 1), (ends[0] - start).float())


def test_mask_and_temperature(backend: str) -> None:
    source, target = (x.requires_grad_() for x in maps())
    mask = torch.rand(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3)).to(DEVICE) < 0.5
    temperature = torch.full((2, HEIGHT, WIDTH), 0.3, device=DEVICE, requires_grad=True)
    whole = smk.dense_match(source, target, temperature=0.3, window_size=3, backend=backend)
    found = smk.dense_match(source, target, mask=mask, temperature=temperature, window_size=3, backend=backend)
    assert (found.flow[~mask[:, None].expand_as(found.flow)] == 0).all()
    assert (found.score[~mask] == 0).all() and (found.log_sum_exp[~mask] == 0).all()
    torch.testing.assert_close(found.score[mask], whole.score[mask])
    found.flow.sin().sum().backward()
    assert source.grad is not None and temperature.grad is not None
    assert (source.grad.norm(dim=1)[~mask] == 0).all() and (source.grad.norm(dim=1)[mask] > 0).all()
    assert (temperature.grad[~mask] == 0).all() and (temperature.grad[mask] != 0).any()


@pytest.mark.parametrize("masked", [False, True])
def test_mutual(masked: bool, backend: str) -> None:
    source, target = maps()
    options: dict[str, Any] = {"backend": backend}
    if masked:
        generator = torch.Generator().manual_seed(4)
        options["mask"] = torch.rand(2, HEIGHT, WIDTH, generator=generator).to(DEVICE) < 0.7
        options["target_mask"] = torch.rand(2, 6, 4, generator=generator).to(DEVICE) < 0.7
    mutual = smk.dense_match(source, target, return_mutual=True, **options).mutual
    assert mutual is not None and mutual.dtype == torch.bool
    scores = torch.einsum(
        "bcn,bcm->bnm", *(torch.nn.functional.normalize(x.flatten(2), dim=1) for x in (source, target))
    )
    if masked:
        scores = scores.masked_fill(~options["mask"].flatten(1)[:, :, None], -2)
        scores = scores.masked_fill(~options["target_mask"].flatten(1)[:, None], -2)
    best, back = scores.argmax(2), scores.argmax(1)
    expected = as_map(back.gather(1, best) == torch.arange(HEIGHT * WIDTH, device=DEVICE))
    if masked:
        expected = expected & options["mask"]
    assert torch.equal(mutual, expected) and mutual.any() and not mutual.all()


def test_a_target_without_cells_matches_nothing(backend: str) -> None:
    source, target = maps()
    mask = torch.ones(2, 6, 4, dtype=torch.bool, device=DEVICE)
    mask[0] = False
    found = smk.dense_match(source, target, target_mask=mask, return_mutual=True, backend=backend)
    assert (found.flow[0] == 0).all() and (found.score[0] == 0).all()
    assert found.mutual is not None and not found.mutual[0].any()


@pytest.mark.parametrize("size", [(0, HEIGHT, WIDTH), (2, 1, 1)])
def test_small_batches_and_maps(size: tuple[int, int, int], backend: str) -> None:
    batch, height, width = size
    source, target = (x[:batch] for x in maps())
    found = smk.dense_match(source[..., :height, :width], target, return_mutual=True, backend=backend)
    assert found.flow.shape == (batch, 2, height, width)


@pytest.mark.parametrize("name", OPTIONS)
def test_blocks_change_nothing(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of a few queries: several blocks, no kept scores, scores made again where windows need them."""
    results = []
    for budget in (_resolved.SCORE_BUDGET_BYTES, 3000):
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", budget)
        source, target = (x.requires_grad_() for x in maps(torch.float64))
        found = smk.dense_match(source, target, **OPTIONS[name], backend=backend)
        loss = found.flow.sin().sum() + found.score.cos().sum()
        results.append((found.flow, found.score, *torch.autograd.grad(loss, (source, target))))
    for ours, theirs in zip(*results, strict=True):
        assert relative_error(ours, theirs) < 1e-11


def test_gradients(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 4, 3, 2), (1, 4, 3, 4))
    leaves = tuple(torch.randn(s, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_() for s in shapes)

    def run(source: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        found = smk.dense_match(source, target, window_size=3, temperature=0.5, target_size=(7, 9), backend=backend)
        return found.flow, found.score, found.log_sum_exp

    assert differentiates(run, leaves, backend)


@pytest.mark.skipif(_backends.interpreting(), reason="the interpreter needs no compiler")
@pytest.mark.parametrize("layout", ["contiguous", "sliced"])
def test_compile_and_vmap(layout: str, backend: str) -> None:
    source, target = maps(layout=layout)

    def run(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        found = smk.dense_match(source, target, window_size=3, return_mutual=True, backend=backend)
        return found.flow, found.mutual

    expected = run(source, target)
    for ours, theirs in zip(
        torch.compile(run, fullgraph=True, backend="aot_eager")(source, target), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    mapped = torch.vmap(lambda *xs: smk.dense_match(*(x[None] for x in xs), window_size=3, backend=backend).flow[0])
    torch.testing.assert_close(mapped(source, target), expected[0])


@pytest.mark.skipif(SIMULATED or _native.why_not() is not None, reason="needs the compiled module")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "transposed"])
def test_numpy_gives_the_same_bits(layout: str) -> None:
    import simplematch_kernels.numpy as smn

    source, target = (x.cpu() for x in maps(layout=layout))
    options: dict[str, Any] = {
        "source_size": torch.tensor([[40, 30], [20, 50]]), "target_size": (33, 50), "return_mutual": True,
        "mask": torch.rand(2, HEIGHT, WIDTH) < 0.7, "temperature": torch.rand(2, HEIGHT, WIDTH) + 0.1,
        "target_mask": torch.rand(2, 6, 4) < 0.8, "source_coords": "half_pixel", "window_size": 3,
    }  # fmt: skip
    expected = smk.dense_match(source, target, **options, backend="cpu")
    arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in options.items()}
    found = smn.dense_match(source.numpy(), target.numpy(), **arrays)
    assert found._fields == expected._fields
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None and theirs is not None
        assert ours.dtype == theirs.numpy().dtype and (ours == theirs.numpy()).all()


def test_tokens(backend: str) -> None:
    source, target = maps()
    tokens = [x.flatten(2).mT for x in (source, target)]
    shapes: dict[str, Any] = {"layout": "tokens", "source_shape": (HEIGHT, WIDTH), "target_shape": (6, 4)}
    found = smk.dense_match(*tokens, **shapes, window_size=3, backend=backend)
    expected = smk.dense_match(source, target, window_size=3, backend=backend)
    torch.testing.assert_close(found.flow, expected.flow)


WRONG = [
    ({"mask": torch.ones(2, 5, 4, dtype=torch.bool, device=DEVICE)}, ValueError, r"mask must have shape \(B, Hs, Ws\)"),
    ({"mask": torch.ones(2, HEIGHT, WIDTH, device=DEVICE)}, TypeError, "mask must be bool, got torch.float32"),
    ({"temperature": torch.ones(2, 3, 3, device=DEVICE)}, ValueError, r"temperature must have shape \(B, Hs, Ws\)"),
    ({"source_coords": "middle"}, ValueError, "source_coords must be one of"),
    ({"source_size": (0, 4)}, ValueError, "source_size must be at least 1 x 1 pixel"),
    ({"sampling": "floor"}, TypeError, "unexpected keyword argument 'sampling'"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_wrong_argument(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    source, target = maps()
    with pytest.raises(kind, match=message):
        smk.dense_match(source, target, **changes)


@pytest.mark.skipif(SIMULATED or _native.why_not() is not None, reason="it runs the kernels on the CPU")
@pytest.mark.parametrize("localization", ["window", "global"])
def test_memory_does_not_grow_with_the_queries(localization: str) -> None:
    """What the C++ allocates lies within the budget, whatever N: measured as the largest resident size."""
    from .memory import peak_of

    small, large = (peak_of(side, localization) for side in (32, 64))
    cells = 64 * 64 - 32 * 32
    held = cells * (64 * 4 * 2 * 2 + 10 * 8)  # maps and gradients, then results and rows
    assert large - small < held + 24 * 2**20, f"{(large - small) / 2**20:.0f} MiB more"
