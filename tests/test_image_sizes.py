"""Sizes of (B, 2): a batch of images of different sizes gives, bit for bit, what each image gives alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import simplematch_kernels as smk
from simplematch_kernels import _backends, _check_shapes

from .oracle import relative_error
from .samples import DEVICE

SOURCE_SIZES = torch.tensor([[56, 72], [100, 50], [1, 1]], device=DEVICE)
TARGET_SIZES = torch.tensor([[90, 64], [1, 17], [33, 1]], dtype=torch.int32, device=DEVICE)
COORDINATES = ("corner", "half_pixel", "align_corners")
by_coordinates = pytest.mark.parametrize("coordinates", COORDINATES)


def draw(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        "source": torch.randn(3, 8, 7, 9, generator=generator),
        "target": torch.randn(3, 8, 6, 5, generator=generator),
        "keypoints": torch.rand(3, 4, 2, generator=generator) * 50,
    }
    return {name: x.to(DEVICE, dtype).requires_grad_() for name, x in made.items()}


def size_of(sizes: Tensor, b: int) -> tuple[int, int]:
    height, width = sizes[b].tolist()
    return height, width


def one_image(leaves: dict[str, Tensor], b: int) -> dict[str, Tensor]:
    return {name: x[b : b + 1].detach().clone().requires_grad_() for name, x in leaves.items()}


def assert_same(ours: Tensor, theirs: Tensor, backend: str) -> None:
    """Bit for bit, but for the reference, whose matrix products round by the size of the batch."""
    if backend == "reference":
        torch.testing.assert_close(ours, theirs)
    else:
        assert torch.equal(ours, theirs)


def assert_same_gradients(leaves: dict[str, Tensor], alone: dict[str, Tensor], b: int, tolerance: float = 0) -> None:
    for name, x in leaves.items():
        of_image, expected = x.grad, alone[name].grad
        assert (of_image is None) == (expected is None)
        if of_image is not None and expected is not None:
            assert (
                torch.equal(of_image[b : b + 1], expected) or relative_error(of_image[b : b + 1], expected) < tolerance
            ), name


@by_coordinates
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("budget", ["all", "blocks"])
def test_matches_agree_with_those_of_each_image(
    coordinates: str, dtype: torch.dtype, budget: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if budget == "blocks":
        monkeypatch.setattr("simplematch_kernels._resolved.SCORE_BUDGET_BYTES", 500)
    options: dict[str, Any] = {
        "source_coords": coordinates, "target_coords": coordinates, "sampling": "bilinear",
        "sampling_padding": "border", "window_size": 3, "output_offset": 0.5, "backend": backend,
    }  # fmt: skip
    leaves = draw(dtype)
    matches = smk.sparse_window_match(**leaves, source_size=SOURCE_SIZES, target_size=TARGET_SIZES, **options)
    (matches.keypoints.sin().sum() + matches.score.sum()).backward()
    for b in range(3):
        alone = one_image(leaves, b)
        sizes = {"source_size": size_of(SOURCE_SIZES, b), "target_size": size_of(TARGET_SIZES, b)}
        expected = smk.sparse_window_match(**alone, **sizes, **options)
        (expected.keypoints.sin().sum() + expected.score.sum()).backward()
        for ours, theirs in zip(matches, expected, strict=True):
            assert_same(ours[b : b + 1], theirs, backend)
        # One image alone has other blocks of queries than in a batch, so that its sums round otherwise.
        same = budget == "all" and backend != "reference"
        assert_same_gradients(leaves, alone, b, tolerance=0 if same else 1e-5)


@by_coordinates
@pytest.mark.parametrize("sampling", ["floor", "round", "bilinear"])
def test_descriptors_are_those_of_each_image(coordinates: str, sampling: str, backend: str) -> None:
    leaves = draw()
    del leaves["target"]
    options = {"coords": coordinates, "sampling": sampling, "backend": backend}
    found = smk.gather_keypoints(leaves["source"], leaves["keypoints"], size=SOURCE_SIZES, **options)
    found.sin().sum().backward()
    for b in range(3):
        alone = one_image(leaves, b)
        size = size_of(SOURCE_SIZES, b)
        expected = smk.gather_keypoints(alone["source"], alone["keypoints"], size=size, **options)
        expected.sin().sum().backward()
        assert_same(found[b : b + 1], expected, backend)
        assert_same_gradients(leaves, alone, b)


@by_coordinates
@pytest.mark.parametrize("shape", [(6, 5), (40, 37)], ids=["small", "large"])
def test_localize_and_descriptors(coordinates: str, shape: tuple[int, int], backend: str) -> None:
    generator = torch.Generator().manual_seed(1)
    options: dict[str, Any] = {"target_coords": coordinates, "localization": "global", "temperature": 0.5}
    scores = torch.randn(3, 7, *shape, generator=generator).to(DEVICE).requires_grad_()
    queries = torch.randn(3, 7, 8, generator=generator).to(DEVICE)
    target = torch.randn(3, 8, *shape, generator=generator).to(DEVICE)
    ours = smk.localize(scores, target_size=TARGET_SIZES, **options, backend=backend)
    ours.keypoints.sin().sum().backward()
    matched = smk.match_descriptors(queries, target, target_size=TARGET_SIZES, **options, backend=backend)
    assert scores.grad is not None
    for b in range(3):
        own, size = scores[b : b + 1].detach().clone().requires_grad_(), size_of(TARGET_SIZES, b)
        alone = smk.localize(own, target_size=size, **options, backend=backend)
        alone.keypoints.sin().sum().backward()
        assert_same(ours.keypoints[b : b + 1], alone.keypoints, backend)
        assert own.grad is not None
        assert_same(scores.grad[b : b + 1], own.grad, backend)
        one = smk.match_descriptors(
            queries[b : b + 1], target[b : b + 1], target_size=size, **options, backend=backend
        )  # fmt: skip
        assert_same(matched.keypoints[b : b + 1], one.keypoints, backend)


def test_padding_and_empty_batches(backend: str) -> None:
    leaves = draw()
    counts = torch.tensor([4, 0, 2], device=DEVICE)
    sizes: dict[str, Any] = {"source_size": SOURCE_SIZES, "target_size": TARGET_SIZES, "backend": backend}
    matches = smk.sparse_window_match(**leaves, num_keypoints=counts, **sizes)
    assert (matches.keypoints[1] == -1).all() and (matches.keypoints[2, 2:] == -1).all()
    none = {name: x[:0] for name, x in leaves.items()}
    empty = torch.empty(0, 2, dtype=torch.int64, device=DEVICE)
    assert smk.sparse_window_match(**none, source_size=empty, target_size=empty, backend=backend).peak.shape == (0, 4)


def test_strides_and_integer_types(backend: str) -> None:
    leaves = draw()
    expected = smk.sparse_window_match(**leaves, source_size=SOURCE_SIZES, backend=backend)
    sliced = torch.full((3, 4), 7, dtype=torch.int16, device=DEVICE)
    sliced[:, ::2] = SOURCE_SIZES
    found = smk.sparse_window_match(**leaves, source_size=sliced[:, ::2], backend=backend)
    assert torch.equal(found.keypoints, expected.keypoints)


@pytest.mark.skipif(DEVICE.type != "cpu", reason="values on a GPU are not checked")
def test_sizes_below_one_pixel(backend: str) -> None:
    leaves = draw()
    wrong = torch.tensor([[4, 5], [6, 7], [0, 8]])
    for name in ("source_size", "target_size"):
        with pytest.raises(
            ValueError, match=rf"{name} must hold sizes of at least 1 x 1 pixel, got \(0, 8\) for image 2"
        ):
            smk.sparse_window_match(**leaves, **{name: wrong}, backend=backend)
    with pytest.raises(ValueError, match="size must hold sizes of at least 1 x 1 pixel"):
        smk.gather_keypoints(leaves["source"], leaves["keypoints"], size=wrong, backend=backend)


Function = Callable[[Tensor, Tensor, Tensor, Tensor, str], Tensor]
"""Of source, target, keypoints, sizes and backend."""


def match(source: Tensor, target: Tensor, keypoints: Tensor, sizes: Tensor, backend: str) -> Tensor:
    options: dict[str, Any] = {"source_size": sizes, "target_size": sizes, "backend": backend}
    return smk.sparse_window_match(source, target, keypoints, window_size=3, **options).keypoints


def dense(source: Tensor, target: Tensor, keypoints: Tensor, sizes: Tensor, backend: str) -> Tensor:
    options: dict[str, Any] = {"source_size": sizes, "target_size": sizes, "source_coords": "half_pixel"}
    return smk.dense_match(source, target, window_size=3, **options, backend=backend).flow


def correlation(source: Tensor, target: Tensor, keypoints: Tensor, sizes: Tensor, backend: str) -> Tensor:
    queries = source.flatten(2)[:, :, :4].transpose(1, 2)
    return smk.local_correlation(queries, target, keypoints, radius=1, target_size=sizes, backend=backend)


def cross_entropy(source: Tensor, target: Tensor, keypoints: Tensor, sizes: Tensor, backend: str) -> Tensor:
    options: dict[str, Any] = {"source_size": sizes, "target_size": sizes, "source_coords": "half_pixel"}
    options |= {"sampling": "bilinear", "sampling_padding": "border", "kernel_size": 3, "reduction": "none"}
    return smk.sparse_match_cross_entropy(source, target, keypoints, keypoints, **options, backend=backend)


by_function = pytest.mark.parametrize("function", [match, dense, correlation, cross_entropy])


@by_function
def test_functions_agree_with_each_image_alone(function: Function, backend: str) -> None:
    """Called with (height, width) for a batch of one, values and gradients."""
    leaves = draw()
    found = function(*leaves.values(), SOURCE_SIZES, backend)
    found.sin().sum().backward()
    for b in range(3):
        alone = one_image(leaves, b)
        expected = function(*alone.values(), torch.tensor(size_of(SOURCE_SIZES, b)), backend)
        expected.sin().sum().backward()
        assert_same(found[b : b + 1], expected, backend)
        assert_same_gradients(leaves, alone, b, tolerance=1e-5)


@pytest.mark.skipif(_backends.interpreting(), reason="what torch does with sizes doesn't depend on the kernels")
@by_function
def test_transforms_and_traces(function: Function, backend: str) -> None:
    """Under vmap, export and fake tensors nothing asks for the values of sizes."""
    arguments = (*(x.detach() for x in draw().values()), SOURCE_SIZES)
    expected = function(*arguments, backend)
    mapped = torch.func.vmap(lambda *xs: function(*(x[None] for x in xs), backend)[0])(*arguments)
    torch.testing.assert_close(mapped, expected)

    class Module(torch.nn.Module):
        def forward(self, source: Tensor, target: Tensor, keypoints: Tensor, sizes: Tensor) -> Tensor:
            return function(source, target, keypoints, sizes, backend)

    torch.testing.assert_close(torch.export.export(Module(), arguments).module()(*arguments), expected)
    with FakeTensorMode() as mode:
        fake = function(*(mode.from_tensor(x) for x in arguments), backend)
    assert (fake.shape, fake.dtype) == (expected.shape, expected.dtype)


@pytest.mark.skipif(DEVICE.type != "cpu", reason="values on a GPU are not checked")
def test_padding_is_told_by_pixels_not_by_cells(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pixel from the border lies at negative cells, and looks like no padding."""
    monkeypatch.setattr(_check_shapes, "_warnings_given", set())
    leaves = draw()
    leaves["keypoints"] = torch.full((3, 4, 2), 0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = cross_entropy(*leaves.values(), SOURCE_SIZES, backend)
    assert loss.isfinite().all()
    with pytest.warns(UserWarning, match=r"negative coordinates only, \[-0.25, -0.25\] in batch 0, row 0"):
        leaves["keypoints"].neg_()
        cross_entropy(*leaves.values(), SOURCE_SIZES, backend)


@pytest.mark.skipif(_backends.interpreting(), reason="the interpreter needs no compiler")
def test_compiles_whole(backend: str) -> None:
    arguments = (*draw().values(), SOURCE_SIZES)
    expected = match(*arguments, backend)
    compiled = torch.compile(match, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*arguments, backend), expected)
