"""The NumPy functions are the CPU backend on arrays: the same numbers, the same errors, no copies, no torch."""

from __future__ import annotations

import inspect
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
import simplematch_kernels.numpy as smn
from simplematch_kernels import _backends

from .examples.test_demo import run_script
from .samples import SAMPLES, Sample
from .test_arguments import KEYPOINTS, SOURCE, TARGET, WRONG
from .test_import import run, without

pytestmark = pytest.mark.skipif(_backends.interpreting(), reason="it has no Triton")

by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)
by_dtype = pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])

GATHER = {"size": "source_size", "coords": "source_coords", "sampling": "sampling", "padding": "sampling_padding"}
SIMILARITY = ("metric", "eps", "eps_mode")


def array(x: Tensor) -> Any:
    """The tensor's memory as an array, strides and all."""
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(pytest.importorskip("ml_dtypes").bfloat16)
    return x.numpy()


def arrays(options: dict[str, Any]) -> dict[str, Any]:
    return {k: array(v) if isinstance(v, Tensor) else v for k, v in options.items()}


def assert_same(ours: Any, theirs: Tensor) -> None:
    assert isinstance(ours, np.ndarray) and ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    assert ours.shape == tuple(theirs.shape)
    assert np.ascontiguousarray(ours).tobytes() == array(theirs.contiguous()).tobytes()


def assert_same_matches(ours: smn.Matches, theirs: smk.Matches) -> None:
    assert ours._fields == theirs._fields
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.options.get("metric") != "l1"], ids=str)
@by_dtype
def test_upsampled_matches_are_those_of_the_cpu_backend(sample: Sample, dtype: str) -> None:
    inputs, fine = sample.make(getattr(torch, dtype), torch.device("cpu")), (11, 13)
    options = {k: v for k, v in inputs.options.items() if k != "target_mask"}
    ours = smn.sparse_window_match(
        array(inputs.source), array(inputs.target), array(inputs.keypoints), upsample=fine, **arrays(options)
    )
    theirs = smk.sparse_window_match(
        inputs.source, inputs.target, inputs.keypoints, upsample=fine, **options, backend="cpu"
    )
    assert_same_matches(ours, theirs)
    scores = torch.randn(2, 3, *sample.target_map, dtype=torch.float32).to(inputs.source.dtype)
    assert_same_matches(smn.localize(array(scores), upsample=fine), smk.localize(scores, upsample=fine, backend="cpu"))


@by_sample
@by_dtype
def test_every_function_gives_the_bits_of_the_cpu_backend(sample: Sample, dtype: str) -> None:
    inputs = sample.make(getattr(torch, dtype), torch.device("cpu"))
    options, o = inputs.options, arrays(inputs.options)
    source, target, keypoints = array(inputs.source), array(inputs.target), array(inputs.keypoints)
    expected = smk.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, **options, backend="cpu")
    assert_same_matches(smn.sparse_window_match(source, target, keypoints, **o), expected)

    gather = {name: options[option] for name, option in GATHER.items() if option in o}
    queries = smk.gather_keypoints(inputs.source, inputs.keypoints, **gather, backend="cpu")
    descriptors = smn.gather_keypoints(source, keypoints, **arrays(gather))
    assert_same(descriptors, queries)

    rest = {k: v for k, v in options.items() if k not in GATHER.values()}
    expected = smk.match_descriptors(queries, inputs.target, **rest, backend="cpu")
    assert_same_matches(smn.match_descriptors(descriptors, target, **arrays(rest)), expected)

    metric = {k: o[k] for k in SIMILARITY if k in o}
    maps = smk.cosine_similarity(queries, inputs.target, **metric, backend="cpu")
    scores = smn.cosine_similarity(descriptors, target, **metric)
    assert_same(scores, maps)

    rest = {k: v for k, v in rest.items() if k not in SIMILARITY}
    assert_same_matches(smn.localize(scores, **arrays(rest)), smk.localize(maps, **rest, backend="cpu"))


@pytest.mark.parametrize("sample", SAMPLES[::5], ids=str)
@pytest.mark.parametrize("asked", [(True, False), (False, True), (True, True)], ids=["covariance", "second", "both"])
def test_details_are_the_bits_of_the_cpu_backend(sample: Sample, asked: tuple[bool, bool]) -> None:
    inputs = sample.make(torch.float32, torch.device("cpu"))
    details = dict(zip(("return_covariance", "return_second"), asked, strict=True))
    pair = (inputs.source, inputs.target, inputs.keypoints)
    expected = smk.sparse_window_match(*pair, **inputs.options, **details, backend="cpu")
    found = smn.sparse_window_match(*map(array, pair), **arrays(inputs.options), **details)
    scores = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    for ours, theirs in (
        (found, expected),
        (smn.localize(array(scores), **details), smk.localize(scores, **details, backend="cpu")),
    ):
        assert isinstance(ours, smn.DetailedMatches) and ours._fields == theirs._fields
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                assert_same(one, other)


@pytest.mark.parametrize("name", ["sparse_window_match", "match_descriptors", "localize", "gather_keypoints"])
def test_signatures_are_those_of_the_torch_functions(name: str) -> None:
    """Names, order and defaults; `threads` takes the place of `backend`."""
    theirs = inspect.signature(getattr(smk, name)).parameters
    ours = inspect.signature(getattr(smn, name)).parameters
    assert [*ours] == [*list(theirs)[:-1], "threads"]
    assert all(ours[k].default == theirs[k].default and ours[k].kind == theirs[k].kind for k in list(ours)[:-1])


# ---- strides -------------------------------------------------------------------------------------------------------


def swapped(x: Any) -> Any:
    """The last axis first in memory."""
    return np.moveaxis(np.moveaxis(x, -1, 0).copy(), 0, -1)


def every_second(x: Any) -> Any:
    buffer = np.full((*x.shape[:-1], 2 * x.shape[-1]), 7, x.dtype)
    buffer[..., ::2] = x
    return buffer[..., ::2]


def reversed_in_memory(x: Any) -> Any:
    """Every stride negative."""
    flip = (slice(None, None, -1),) * x.ndim
    return x[flip].copy()[flip]


def one_image(x: Any) -> Any:
    """The first image for all of them: stride 0."""
    return np.broadcast_to(x[:1], x.shape)


def read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


VIEWS = [swapped, every_second, reversed_in_memory, one_image, read_only]


def make(batch: int = 2, channels: int = 24, side: int = 12, queries: int = 6) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(0)
    source, target = generator.standard_normal((2, batch, channels, side, side), np.float32)
    return source, target, (side - 1) * generator.random((batch, queries, 2), np.float32)


@pytest.mark.parametrize("lay_out", VIEWS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("sampling", ["floor", "bilinear"])
def test_strides_change_no_answer(lay_out: Callable[[Any], Any], sampling: str) -> None:
    """Other loops sum in another order, so the last bit may differ from that of contiguous arrays."""
    views = [lay_out(x) for x in make()]
    copies = [np.ascontiguousarray(x) for x in views]
    ours = smn.sparse_window_match(*views, sampling=sampling, window_size=5)
    plain = smn.sparse_window_match(*copies, sampling=sampling, window_size=5)
    assert np.array_equal(ours.peak, plain.peak)
    for name in ("keypoints", "score", "log_sum_exp"):
        np.testing.assert_allclose(getattr(ours, name), getattr(plain, name), rtol=2e-5, atol=2e-5)
    descriptors = [lay_out(x) for x in (smn.gather_keypoints(*views[::2]), views[1])]
    scores = smn.cosine_similarity(*descriptors)
    np.testing.assert_allclose(scores, smn.cosine_similarity(*map(np.ascontiguousarray, descriptors)), atol=1e-6)
    again, contiguous = (smn.localize(x, window_size=5) for x in (lay_out(scores), lay_out(scores).copy()))
    assert np.array_equal(again.keypoints, contiguous.keypoints)


@pytest.mark.parametrize("lay_out", VIEWS, ids=lambda f: f.__name__)
def test_no_copy_is_made(lay_out: Callable[[Any], Any]) -> None:
    """NumPy reports its allocations to tracemalloc: during a call they stay far below the size of one map."""
    source, target, keypoints = (lay_out(x) for x in make(channels=512, side=32))
    smn.sparse_window_match(source, target, keypoints)
    assert _peak_of(lambda: smn.sparse_window_match(source, target, keypoints)) < target.nbytes / 50
    assert _peak_of(lambda: smn.gather_keypoints(source, keypoints)) < target.nbytes / 50
    descriptors = lay_out(smn.gather_keypoints(source, keypoints))
    assert _peak_of(lambda: smn.match_descriptors(descriptors, target)) < target.nbytes / 50
    assert _peak_of(lambda: np.ascontiguousarray(every_second(target))) > target.nbytes  # it would have been seen


def _peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def foreign(x: Any) -> Any:
    return x.astype(x.dtype.newbyteorder())


def misaligned(x: Any) -> Any:
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    moved = buffer[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


def packed(x: Any) -> Any:
    """A field of a structured array without padding: the strides are no multiple of four."""
    records = np.zeros(x.shape, [("value", x.dtype), ("flag", np.uint8)])
    records["value"] = x
    return records["value"]


@pytest.mark.parametrize("lay_out", [foreign, misaligned, packed], ids=lambda f: f.__name__)
def test_what_cannot_be_addressed_is_copied(lay_out: Callable[[Any], Any]) -> None:
    arguments = make()
    plain = smn.sparse_window_match(*arguments, temperature=np.full((2, 6), 0.1, np.float32))
    moved = smn.sparse_window_match(*map(lay_out, arguments), temperature=lay_out(np.full((2, 6), 0.1, np.float32)))
    for one, other in zip(moved, plain, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(smn.localize(lay_out(arguments[0])).keypoints, smn.localize(arguments[0]).keypoints)


# ---- arguments -----------------------------------------------------------------------------------------------------


def as_arrays(changes: dict[str, Any]) -> dict[str, Any]:
    return {k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in changes.items()}


SAME_ERRORS = [
    (as_arrays(changes), kind, message)
    for changes, kind, message in WRONG
    if "backend" not in changes and not any(isinstance(v, Tensor) and v.is_meta for v in changes.values())
]


@pytest.mark.parametrize(("changes", "kind", "message"), SAME_ERRORS, ids=[m.split(",")[0] for _, _, m in SAME_ERRORS])
def test_errors_are_those_of_the_torch_functions(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments = as_arrays({"source": SOURCE, "target": TARGET, "keypoints": KEYPOINTS}) | changes
    message = message.replace("torch.", "").replace("a tensor", "an array").replace("tensor", "array")
    with pytest.raises(kind, match=message) as caught:
        smn.sparse_window_match(**arguments)
    assert "\n" not in str(caught.value)


def test_values_are_checked() -> None:
    source, target, keypoints = make()
    keypoints[1, 2, 0] = np.inf
    with pytest.raises(ValueError, match=r"keypoints must be finite in valid rows, got \[inf, .*\] in batch 1, row 2"):
        smn.sparse_window_match(source, target, keypoints)
    with pytest.raises(ValueError, match="keypoints must be finite"):
        smn.gather_keypoints(source, keypoints)
    padded = smn.sparse_window_match(source, target, keypoints, num_keypoints=np.array([6, 2], np.int8))
    assert (padded.keypoints[1, 2:] == -1).all() and (padded.peak[1, 2:] == -1).all()
    with pytest.raises(ValueError, match=r"num_keypoints must lie between 0 and .*, 6, got \[7, 1\]"):
        smn.sparse_window_match(source, target, keypoints, num_keypoints=np.array([7, 1]))
    temperature = np.full((2, 6), 0.1)
    temperature[0, 3] = 0
    with pytest.raises(ValueError, match=r"temperature must be above zero in valid rows, got 0\.0 in batch 0, row 3"):
        smn.localize(smn.cosine_similarity(source[:, :, 0].transpose(0, 2, 1)[:, :6], target), temperature=temperature)


def test_masked_arrays_are_refused() -> None:
    source, target, keypoints = make()
    with pytest.raises(TypeError, match=r"target must be an array of shape \(B, C, H, W\), got MaskedArray"):
        smn.sparse_window_match(source, np.ma.masked_less(target, 0), keypoints)


def test_threads_are_checked_and_change_nothing() -> None:
    arguments = make()
    one, three = (smn.sparse_window_match(*arguments, threads=n) for n in (1, 3))
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        smn.sparse_window_match(*arguments, threads=0)
    with pytest.raises(TypeError, match="threads must be a whole number or None, got float"):
        smn.sparse_window_match(*arguments, threads=2.0)


def test_keypoints_and_temperatures_of_other_types() -> None:
    source, target, keypoints = make()
    whole = keypoints.astype(np.int64)
    assert np.array_equal(
        smn.sparse_window_match(source, target, whole).keypoints,
        smn.sparse_window_match(source, target, whole.astype(np.float32)).keypoints,
    )
    numbers = [0.5, np.float32(0.5), np.array(0.5, np.float16), np.full((2, 6), 0.5)]
    answers = [smn.sparse_window_match(source, target, keypoints, temperature=t).keypoints for t in numbers]
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


# ---- without torch -------------------------------------------------------------------------------------------------

USE = """
import numpy as np, sys
import simplematch_kernels, simplematch_kernels.numpy as smn
source = np.random.default_rng(0).standard_normal((1, 16, 10, 10), np.float32)
keypoints = np.array([[[4, 5], [7, 2]]])
matches = smn.sparse_window_match(source, np.roll(source, (1, 2), (2, 3)), keypoints, localization="argmax")
print((matches.keypoints - keypoints).tolist())
"""


def test_runs_without_torch() -> None:
    result = run(without("torch", "triton") + USE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[[[2.0, 1.0], [2.0, 1.0]]]"
    assert result.stderr == ""


def test_without_torch_its_functions_say_what_is_missing() -> None:
    for use in ("simplematch_kernels.localize", "from simplematch_kernels import localize"):
        result = run(without("torch") + f"import simplematch_kernels\n{use}")
        assert re.search(r"ImportError: simplematch_kernels\.localize needs PyTorch.*pip install torch", result.stderr)
    result = run(without("torch") + "import simplematch_kernels\nsimplematch_kernels.locate")
    assert "AttributeError: module 'simplematch_kernels' has no attribute 'locate'" in result.stderr
    result = run(without("torch") + "import runpy\nrunpy.run_module('simplematch_kernels', run_name='__main__')")
    assert result.returncode == 0, result.stderr
    assert "torch not installed" in result.stdout and "pip install torch" in result.stdout


def test_without_the_compiled_module_the_import_says_so() -> None:
    result = run(without("simplematch_kernels._C") + "import simplematch_kernels.numpy")
    assert "ImportError: simplematch_kernels.numpy runs on the compiled kernels" in result.stderr
    assert "reinstall with a C++ compiler" in result.stderr


def test_example() -> None:
    printed = run_script("examples/numpy/match_arrays.py")
    assert "shift of every keypoint: [[[7.0, 3.0], [7.0, 3.0], [7.0, 3.0]]]" in printed


def test_example_of_sets() -> None:
    assert "300 pairs, 300 of them right, of 300" in run_script("examples/numpy/match_sets.py")


def test_with_torch_the_import_registers_the_operators() -> None:
    """A program saved by torch.export needs no more than the import."""
    assert run("import simplematch_kernels, torch\ntorch.ops.simplematch.localize.default").returncode == 0
