"""`local_correlation`: what codebases write with grid_sample, its gradients, and what its options mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends

from .correlation_samples import CASES, GRID, NAMED, Case, eager, on, run
from .oracle import WIDER, relative_error
from .samples import DEVICE, DTYPES, SIMULATED
from .test_transforms import close, draw, weighted
from .traces import Calls, compiled

by_case = pytest.mark.parametrize("case", CASES, ids=str)
by_spread_case = pytest.mark.parametrize("case", CASES[::4] if _backends.interpreting() else CASES, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


@by_case
@by_dtype
def test_agrees_with_what_users_write(case: Case, dtype: torch.dtype, backend: str, poisoned_memory: None) -> None:
    """Values and gradients; in low precision, twice the error of PyTorch at most."""
    if _backends.interpreting() and (case.name.startswith("flow") or CASES.index(case) % 2):
        pytest.skip("the interpreter is slow: every second case, and no flow of hundreds of queries")
    inputs, options = case.make(dtype)
    if case.batch == 0 or case.queries == 0:
        found = run(on(backend), inputs, options)
        assert [x.shape for x in found[1:]] == [x.shape for x in inputs] and found[0].numel() == 0
        assert not found[2].any()
        return
    exact = run(eager, [x.double() for x in inputs], options)
    rival = run(eager, [x.to(dtype) for x in inputs], options)
    found = run(on(backend), inputs, options)
    assert [x.dtype for x in found[1:]] == [x.dtype for x in inputs]
    kinks = case.points == "whole" or "one" in case.name  # the slope of a bilinear map is another on either side
    for name, value, theirs, truth in zip(("result", "queries", "target", "coords"), found, rival, exact, strict=True):
        if name == "coords" and kinks:
            continue
        allowed = max(2 * relative_error(theirs, truth), WIDER[dtype])
        assert relative_error(value, truth) <= allowed, name


@by_case
def test_equals_the_reference(case: Case, backend: str, poisoned_memory: None) -> None:
    inputs, options = case.make(torch.float64)
    for value, truth in zip(run(on(backend), inputs, options), run(on("reference"), inputs, options), strict=True):
        assert relative_error(value, truth) < 1e-11
        assert value.shape == truth.shape and value.dtype == truth.dtype


@by_spread_case
def test_repeats_bitwise(case: Case, backend: str) -> None:
    inputs, options = case.make()
    for first, second in zip(run(on(backend), inputs, options), run(on(backend), inputs, options), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("needs", ["100", "010", "001", "110", "101", "011"])
@pytest.mark.parametrize("name", ["cosine", "flow-channels-last", "offsets-dilated"])
def test_gradients_do_not_depend_on_each_other(name: str, needs: str, backend: str, poisoned_memory: None) -> None:
    inputs, options = NAMED[name].make()
    every = run(on(backend), inputs, options)[1:]
    leaves = [x.detach().requires_grad_(need == "1") for x, need in zip(inputs, needs, strict=True)]
    found = on(backend)(*leaves, **options)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(found)
    gradients = torch.autograd.grad(found, [x for x in leaves if x.requires_grad], upstream)
    kept = [g for g, x in zip(every, leaves, strict=True) if x.requires_grad]
    for gradient, expected in zip(gradients, kept, strict=True):
        assert torch.equal(gradient, expected)


def test_window_has_rows_of_dy(backend: str) -> None:
    target = torch.arange(30.0, device=DEVICE).view(1, 1, 5, 6)
    found = smk.local_correlation(
        torch.ones(1, 1, 1, device=DEVICE),
        target,
        torch.tensor([[[2.0, 3.0]]], device=DEVICE),
        radius=1,
        backend=backend,
    )
    assert torch.equal(found[0, 0], target[0, 0, 2:5, 1:4])


def test_padding_does_not_matter(backend: str) -> None:
    """A row has the same bits whatever padding holds."""
    inputs, options = NAMED["many"].make()
    queries, target, coords = (x.clone() for x in inputs)
    valid = torch.arange(queries.shape[1], device=DEVICE) % 3 != 0
    queries[:, ~valid], coords[:, ~valid] = torch.nan, torch.inf
    valid = valid.expand(len(queries), -1)
    plain = run(on(backend), inputs, {**options, "valid": valid})
    padded = run(on(backend), [queries, target, coords], {**options, "valid": valid})
    for a, b in zip(plain, padded, strict=True):
        assert torch.equal(a, b)
    assert not plain[0][~valid].any() and not plain[1][~valid].any() and not plain[3][~valid].any()


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_stays_in_its_row(value: float, metric: str, backend: str, poisoned_memory: None) -> None:
    inputs, options = Case("nan", {"radius": 1, "metric": metric}, queries=40, target_map=(12, 13)).make()
    queries, target, coords = (x.clone() for x in inputs)
    coords[0, 3, 0] = value
    queries[0, 5, 2] = value
    target[1, 4, 6, 7] = value
    found = run(on(backend), [queries, target, coords], options)
    expected = run(on("reference"), [queries, target, coords], options)
    for name, a, b in zip(("result", "queries", "target", "coords"), found, expected, strict=True):
        assert relative_error(a, b) < 1e-5, name
    assert found[0][0, 3].isnan().all() and not found[0][0, [0, 1, 2, 4]].isnan().any()
    assert not found[1][0, 3].any() and not found[3][0, 3].any()


def test_a_cell_of_weight_zero_is_not_read(backend: str) -> None:
    target = torch.full((1, 3, 4, 5), torch.nan, device=DEVICE)
    target[:, :, 1, 1:4] = 1.0
    queries, coords = torch.ones(1, 1, 3, device=DEVICE), torch.tensor([[[2.0, 1.0]]], device=DEVICE)
    found, d_queries, d_target, _ = run(on(backend), [queries, target, coords], {"radius": (0, 1)})
    assert torch.equal(found, torch.full_like(found, 3.0)) and d_queries.isfinite().all()
    assert torch.equal(d_target != 0, target.isfinite())


@pytest.mark.parametrize("magnitude", [1e-25, 1e25])
def test_cosine_at_extreme_magnitudes(magnitude: float, backend: str) -> None:
    """Norms whose squares leave float32."""
    inputs, options = Case("extreme", {"radius": 1, "metric": "cosine", "eps": 0.0}, queries=30).make()
    inputs[1][:, :, 2:5] *= magnitude
    inputs[0][:, ::2] *= magnitude
    found = on(backend)(*inputs, **options)
    exact = on("reference")(*(x.double() for x in inputs), **options)
    assert relative_error(found, exact) < 1e-5


@pytest.mark.parametrize("value", [1e9, 1e30, -1e30])
def test_far_points(value: float, backend: str) -> None:
    inputs, options = NAMED["window"].make()
    coords = torch.full_like(inputs[2], value)
    assert not on(backend)(inputs[0], inputs[1], coords, **options).any()
    found = on(backend)(inputs[0], inputs[1], coords, **options, padding="border")
    corner = inputs[1][:, :, -1, -1] if value > 0 else inputs[1][:, :, 0, 0]
    expected = torch.einsum("bnc,bc->bn", inputs[0], corner)[..., None, None].expand_as(found)
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(SIMULATED, reason="NumPy has no GPU")
@pytest.mark.parametrize(
    "name", ["cosine", "border", "offsets", "offsets-of-images", "half-pixel", "valid", "map-sliced"]
)
def test_numpy_computes_the_same(name: str) -> None:
    smn = pytest.importorskip("simplematch_kernels.numpy")
    inputs, options = NAMED[name].make()
    arrays = [x.cpu().numpy() for x in inputs]
    given = {k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in options.items()}
    expected = on("reference")(*inputs, **options).cpu()
    assert relative_error(torch.from_numpy(smn.local_correlation(*arrays, **given)), expected) < 1e-6
    sizes = torch.tensor([(20 + 3 * b, 30 - b) for b in range(len(arrays[0]))])
    of_images = on("reference")(*inputs, **{**options, "target_size": sizes.to(DEVICE)}).cpu()
    found = smn.local_correlation(*arrays, **{**given, "target_size": sizes.numpy()})
    assert relative_error(torch.from_numpy(found), of_images) < 1e-6
    with pytest.raises(ValueError, match="radius or offsets must be given, and not the other, got neither"):
        smn.local_correlation(*arrays)
    with pytest.raises(ValueError, match=r"offsets must have shape \(K, 2\) or \(B, K, 2\)"):
        smn.local_correlation(*arrays, offsets=arrays[2][0, :, :1])


TRANSFORMED: dict[str, dict[str, Any]] = {
    "window": {"radius": 1, "metric": "cosine", "eps": 0.1, "scale": 0.3},
    "border": {"radius": 1, "padding": "border", "target_size": (40, 50)},
    "offsets": {"offsets": GRID[:3].double().to(DEVICE)},
}
POINTS = torch.tensor([[[1.3, 2.6], [3.2, 0.7], [4.4, 4.2]]], dtype=torch.float64, device=DEVICE)
by_transformed = pytest.mark.parametrize("name", TRANSFORMED)


def transformed(name: str, backend: str) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    function = lambda *x: smk.local_correlation(*x, **TRANSFORMED[name], backend=backend)  # noqa: E731
    return function, (draw(1, 3, 4), draw(1, 4, 5, 6, seed=1), POINTS * (9 if name == "border" else 1))


@by_transformed
def test_gradcheck(name: str, backend: str) -> None:
    if _backends.interpreting():
        pytest.skip("hundreds of interpreted launches")
    function, inputs = transformed(name, backend)
    leaves = [x.clone().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=True, atol=1e-5)


@by_transformed
def test_transforms(name: str, backend: str) -> None:
    function, inputs = transformed(name, backend)
    expected = torch.autograd.grad(weighted(function)(*(x := [x.clone().requires_grad_() for x in inputs])), x)
    close(torch.func.grad(weighted(function), (0, 1, 2))(*inputs), expected)
    together = [torch.stack([x, x.flip(1)]) for x in inputs]
    found = torch.vmap(function)(*together)
    close(found, torch.stack([function(*(x[i] for x in together)) for i in range(2)]))
    several = torch.stack([inputs[0] + 0.1 * i for i in range(3)], dim=1)
    found = torch.vmap(function, in_dims=(1, None, None))(several, *inputs[1:])
    close(found, torch.stack([function(several.select(1, i), *inputs[1:]) for i in range(3)]))
    if not _backends.interpreting():
        close(torch.func.jacfwd(function, (0, 1, 2))(*inputs), torch.func.jacrev(function, (0, 1, 2))(*inputs))
    with pytest.raises(RuntimeError, match="simplematch::local_correlation has no second derivative"):
        torch.func.grad(lambda *x: torch.func.grad(weighted(function))(*x).sum(), (0, 1))(*inputs)


@pytest.mark.skipif(_backends.interpreting(), reason="the same registration, at seconds a launch")
@pytest.mark.parametrize(
    "name", ["window", "cosine", "offsets", "valid", "map-channels_last", "no-queries", "no-images"]
)
def test_opcheck(name: str, backend: str) -> None:
    inputs, options = NAMED[name].make()
    with Calls() as calls:
        run(on(backend), inputs, options)
    assert len(calls.made) == 2
    calls.check(backend)


@pytest.mark.parametrize("name", ["window", "offsets", "map-channels_last"])
def test_compiles_whole(name: str, backend: str) -> None:
    inputs, options = NAMED[name].make(torch.float64)
    for fast, plain in zip(
        run(compiled(on(backend), backend), inputs, options), run(on(backend), inputs, options), strict=True
    ):
        assert relative_error(fast, plain) < 1e-12


def test_compiles_with_dynamic_shapes(backend: str) -> None:
    torch._dynamo.reset()
    match = torch.compile(
        lambda q, t, c: smk.local_correlation(q, t, c, radius=1, target_size=t.shape[2:], backend=backend),
        backend="eager", fullgraph=True, dynamic=True,
    )  # fmt: skip
    for batch, count, side in ((3, 5, 7), (4, 11, 9)):
        q, t = draw(batch, count, 6), draw(batch, 6, side, side + 1)
        c = draw(batch, count, 2) * side
        close(match(q, t, c), smk.local_correlation(q, t, c, radius=1, backend=backend))


def test_autocast_unites_dtypes(backend: str) -> None:
    inputs, options = NAMED["window"].make()
    low = inputs[0].bfloat16()
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        found = on(backend)(low, *inputs[1:], **options)
    assert torch.equal(found, on(backend)(low, inputs[1].bfloat16(), inputs[2], **options))


def test_keeps_only_its_inputs(backend: str) -> None:
    inputs, options = NAMED["many"].make()
    leaves = [x.clone().requires_grad_() for x in inputs]
    kept: set[int] = set()

    def pack(x: Tensor) -> Tensor:
        kept.add(x.untyped_storage().data_ptr())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        on(backend)(*leaves, **options)
    assert kept <= {x.untyped_storage().data_ptr() for x in leaves}


MAP = torch.zeros(1, 4, 5, 6)
WRONG: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({}, ValueError, "radius or offsets must be given, and not the other, got neither"),
    ({"radius": 1, "offsets": GRID}, ValueError, "radius or offsets must be given, and not the other, got both"),
    ({"radius": -1}, ValueError, "radius must be at least 0 cells, got -1"),
    ({"radius": 1.5}, TypeError, r"radius must be a whole number of cells, or \(rows, columns\), got 1.5"),
    ({"radius": (1, 2, 3)}, TypeError, "radius must be a whole number of cells"),
    ({"radius": True}, TypeError, "radius must be a whole number of cells"),
    ({"offsets": [[0, 0]]}, TypeError, r"offsets must be a tensor of shape \(K, 2\), got list"),
    ({"offsets": GRID[:, :1]}, ValueError, r"offsets must have shape \(K, 2\) or \(B, K, 2\) .* got \(5, 1\)"),
    ({"offsets": GRID[:0]}, ValueError, r"offsets must have shape .* got \(0, 2\)"),
    ({"offsets": GRID.expand(3, 5, 2)}, ValueError, r"offsets must have shape .* got \(3, 5, 2\)"),
    ({"offsets": GRID > 0}, TypeError, "offsets must be real numbers, got torch.bool"),
    ({"radius": 1, "sampling": "floor"}, ValueError, "sampling must be one of 'bilinear', 'nearest', got 'floor'"),
    ({"radius": 1, "padding": "wrap"}, ValueError, "padding must be one of 'zeros', 'border', got 'wrap'"),
    ({"radius": 1, "metric": "l2"}, ValueError, "metric must be one of 'dot', 'cosine', got 'l2'"),
    ({"radius": 1, "metric": "l1"}, ValueError, "metric must be one of 'dot', 'cosine', got 'l1'"),
    ({"radius": 1, "scale": torch.nan}, ValueError, "scale must be a finite number, got nan"),
    ({"radius": 1, "eps": -1.0}, ValueError, r"eps must be a finite number of at least 0.0, got -1.0"),
    ({"radius": 1, "target_size": (0, 3)}, ValueError, "target_size must be at least 1 x 1 pixel"),
    ({"radius": 1, "target_coords": "centre"}, ValueError, "target_coords must be one of 'corner'"),
    ({"radius": 1, "queries": torch.zeros(1, 3, 5)}, ValueError, "queries must have the same number of channels"),
    ({"radius": 1, "queries": torch.zeros(2, 3, 4)}, ValueError, "queries must have the same batch size as target"),
    ({"radius": 1, "queries": torch.zeros(3, 4)}, ValueError, r"queries must have shape \(B, N, C\)"),
    ({"radius": 1, "queries": torch.zeros(1, 3, 4).int()}, TypeError, "queries must be float32, bfloat16"),
    ({"radius": 1, "target": MAP.double()}, TypeError, "queries and target must have one dtype"),
    ({"radius": 1, "target": MAP[..., :0]}, ValueError, "target must have at least one channel and one cell"),
    ({"radius": 1, "coords": torch.zeros(1, 4, 2)}, ValueError, "coords must have one point for each of the 3 quer"),
    ({"radius": 1, "coords": torch.zeros(1, 3, 3)}, ValueError, r"coords must have shape \(B, N, 2\)"),
    ({"radius": 1, "valid": torch.ones(1, 3)}, TypeError, "valid must be bool"),
)  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "message"), WRONG)
def test_errors(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments = {"queries": torch.zeros(1, 3, 4), "target": MAP, "coords": torch.zeros(1, 3, 2), **changes}
    tensors = {k: v.to(DEVICE) if isinstance(v, Tensor) else v for k, v in arguments.items()}
    with pytest.raises(kind, match=message):
        smk.local_correlation(**tensors)
