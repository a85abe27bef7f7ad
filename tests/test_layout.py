"""Tokens (B, H*W, C) are maps in another layout: the same bits, gradients in their own layout, and no copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
import simplematch_kernels.numpy as smn
from simplematch_kernels import _backends

from .samples import DEVICE, SAMPLES, Sample
from .test_gradients import differentiates
from .test_numpy import VIEWS, _peak_of, arrays, assert_same, assert_same_matches
from .test_transforms import close, flat, weighted
from .traces import TRACED, Calls

CHOSEN = ("window", "bilinear-border", "all-restrictions", "temperature-rows", "one-row", "no-queries", "no-images")
by_sample = pytest.mark.parametrize("sample", [s for s in SAMPLES if s.name in CHOSEN], ids=str)
needs_arrays = pytest.mark.skipif(_backends.interpreting(), reason="NumPy has no Triton")

Call = Callable[..., Any]


def tokens_of(feature_map: Tensor, leading: int = 0) -> Tensor:
    """Tokens of their own memory after `leading` others, as the view without these."""
    batch, channels, height, width = feature_map.shape
    tokens = torch.full((batch, leading + height * width, channels), torch.nan).to(feature_map)
    tokens[:, leading:] = feature_map.flatten(2).transpose(1, 2)
    return tokens[:, leading:]


def map_of(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """A map of its own memory with channels adjacent, as tokens have them."""
    return tokens.transpose(1, 2).unflatten(2, shape).contiguous(memory_format=torch.channels_last)


def calls_on_tokens(sample: Sample, module: Any = smk, **extra: Any) -> dict[str, Call]:
    """Each function of the module that reads features, given tokens and all it needs to read them."""
    of_target = {"layout": "tokens", "target_shape": sample.target_map}
    return {
        "sparse_window_match": partial(
            module.sparse_window_match, source_shape=sample.source_map, **of_target, **sample.options, **extra
        ),
        "match_descriptors": partial(module.match_descriptors, window_size=3, **of_target, **extra),
        "cosine_similarity": partial(module.cosine_similarity, metric="dot", **of_target, **extra),
        "gather_keypoints": partial(
            module.gather_keypoints, layout="tokens", shape=sample.source_map, sampling="bilinear", **extra
        ),
    }


def calls_on_maps(sample: Sample, module: Any = smk, **extra: Any) -> dict[str, Call]:
    return {
        "sparse_window_match": partial(module.sparse_window_match, **sample.options, **extra),
        "match_descriptors": partial(module.match_descriptors, window_size=3, **extra),
        "cosine_similarity": partial(module.cosine_similarity, metric="dot", **extra),
        "gather_keypoints": partial(module.gather_keypoints, sampling="bilinear", **extra),
    }


SMALL = Sample(
    "small", {"window_size": 3}, batch=2, queries=3, channels=4, source_map=(4, 5), target_map=(5, 4), layout="tokens"
)
functions = pytest.mark.parametrize("name", calls_on_maps(SMALL))


def features_and_rest(name: str, sample: Sample = SMALL, **made: Any) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """The maps of a call, its other tensors, and the places of the maps among them all."""
    inputs = sample.make(**made)
    descriptors = smk.gather_keypoints(inputs.source, inputs.keypoints, backend="reference")
    return {
        "sparse_window_match": ([inputs.source, inputs.target], [inputs.keypoints], [0, 1]),
        "match_descriptors": ([inputs.target], [descriptors], [1]),
        "cosine_similarity": ([inputs.target], [descriptors], [1]),
        "gather_keypoints": ([inputs.source], [inputs.keypoints], [0]),
    }[name]


def arranged(maps: list[Any], rest: list[Any], places: list[int]) -> list[Any]:
    """All tensors of a call in order."""
    whole = list(rest)
    for feature_map, place in zip(maps, places, strict=True):
        whole.insert(place, feature_map)
    return whole


def differentiable(result: smk.Matches | Tensor) -> Tensor:
    return flat(result) if isinstance(result, tuple) else result


# ---- the same results ----------------------------------------------------------------------------------------------


@by_sample
@pytest.mark.parametrize("leading", [0, 1, 5])
def test_tokens_give_the_bits_of_a_map(sample: Sample, leading: int, backend: str) -> None:
    """Also what is left of tokens without a class token, or without one and four registers."""
    inputs = sample.make()
    source, target = (tokens_of(x, leading) for x in (inputs.source, inputs.target))
    shapes = {"source_shape": sample.source_map, "target_shape": sample.target_map}
    found = smk.sparse_window_match(
        source, target, inputs.keypoints, layout="tokens", **shapes, **inputs.options, backend=backend
    )
    maps = map_of(source, sample.source_map), map_of(target, sample.target_map)
    expected = smk.sparse_window_match(*maps, inputs.keypoints, **inputs.options, backend=backend)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@functions
def test_every_function_takes_tokens(name: str, backend: str) -> None:
    """With the same bits and, in the layout of the tokens, the same gradients."""
    maps, rest, places = features_and_rest(name)
    tokens = [tokens_of(x).requires_grad_() for x in maps]
    copies = [
        map_of(x.detach(), feature_map.shape[2:]).requires_grad_() for x, feature_map in zip(tokens, maps, strict=True)
    ]
    found = differentiable(calls_on_tokens(SMALL, backend=backend)[name](*arranged(tokens, rest, places)))
    expected = differentiable(calls_on_maps(SMALL, backend=backend)[name](*arranged(copies, rest, places)))
    assert torch.equal(found, expected)
    upstream = torch.linspace(-1, 1, found.numel(), device=DEVICE).view_as(found)
    ours = torch.autograd.grad(found, tokens, upstream)
    theirs = torch.autograd.grad(expected, copies, upstream)
    for one, other, x in zip(ours, theirs, tokens, strict=True):
        assert torch.equal(one, other.flatten(2).transpose(1, 2))
        assert one.shape == x.shape and one.stride() == x.stride()


@pytest.mark.parametrize(
    "lay_out",
    [
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x.repeat_interleave(2, 1)[:, ::2],
        lambda x: x.repeat_interleave(2, 2)[..., ::2],
        lambda x: x[:1].expand(x.shape),
    ],
    ids=["channels first", "batch second", "every second token", "every second channel", "one image"],
)
def test_tokens_of_any_strides(lay_out: Callable[[Tensor], Tensor], backend: str) -> None:
    """Other loops sum in another order, so the last bits may differ from those of contiguous tokens."""
    inputs = SMALL.make(torch.float64)
    source, target = (lay_out(tokens_of(x)) for x in (inputs.source, inputs.target))
    call = calls_on_tokens(SMALL, backend=backend)["sparse_window_match"]
    with Calls() as calls:
        found = call(source, target, inputs.keypoints)
    close(flat(found), flat(call(source.contiguous(), target.contiguous(), inputs.keypoints)))
    ((_, arguments),) = calls.made
    assert arguments[0].data_ptr() == source.data_ptr() and arguments[2].data_ptr() == target.data_ptr()


@functions
def test_nothing_is_copied(name: str, backend: str) -> None:
    """The operator gets a view with the memory and strides of the tokens, class token left out."""
    maps, rest, places = features_and_rest(name)
    tokens = [tokens_of(x, leading=1) for x in maps]
    with Calls() as calls:
        calls_on_tokens(SMALL, backend=backend)[name](*arranged(tokens, rest, places))
    ((_, arguments),) = calls.made
    received = {x.data_ptr(): x for x in arguments if isinstance(x, Tensor)}
    for x, feature_map in zip(tokens, maps, strict=True):
        view = received[x.data_ptr()]
        batch, token, channel = x.stride()
        assert view.shape == feature_map.shape
        assert view.stride() == (batch, channel, feature_map.shape[3] * token, token)


# ---- torch ---------------------------------------------------------------------------------------------------------


@functions
def test_gradients_of_tokens_are_the_slope(name: str, backend: str) -> None:
    maps, rest, places = features_and_rest(name, dtype=torch.float64)
    call = calls_on_tokens(SMALL, backend=backend)[name]
    tokens = tuple(tokens_of(x).requires_grad_() for x in maps)
    assert differentiates(lambda *x: differentiable(call(*arranged(list(x), rest, places))), tokens, backend)


@functions
def test_transforms_see_tokens(name: str, backend: str) -> None:
    """grad under vmap, mapped over several sets of tokens, is a loop."""
    maps, rest, places = features_and_rest(name, dtype=torch.float64)
    call = calls_on_tokens(SMALL, backend=backend)[name]
    scalar = weighted(lambda *x: differentiable(call(*arranged(list(x), rest, places))))
    gradient = torch.func.grad(scalar, tuple(range(len(maps))))
    several = [torch.stack([tokens_of(x), tokens_of(x.flip(0))]) for x in maps]
    found = torch.vmap(gradient)(*several)
    for i in range(2):
        close([x[i] for x in found], list(gradient(*(x[i] for x in several))))


@pytest.mark.parametrize("dynamic", [False, True])
@functions
def test_compiles_whole(name: str, dynamic: bool) -> None:
    """The view of tokens, which is the same for every backend."""
    torch._dynamo.reset()
    maps, rest, places = features_and_rest(name)
    call = calls_on_tokens(SMALL, backend=TRACED)[name]

    def without_class_token(*tokens: Tensor) -> Tensor:
        return differentiable(call(*arranged([x[:, 1:] for x in tokens], rest, places)))

    tokens = [torch.cat((x[:, :1], x), 1).requires_grad_() for x in map(tokens_of, maps)]
    compiled = torch.compile(without_class_token, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    plain, fast = without_class_token(*tokens), compiled(*tokens)
    assert torch.equal(plain, fast)
    gradients = [torch.autograd.grad(result.square().sum(), tokens) for result in (plain, fast)]
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_compiles_with_a_shape_that_follows_the_tokens(backend: str) -> None:
    """One graph serves every number of tokens."""
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def match(descriptors: Tensor, tokens: Tensor, height: int) -> Tensor:
        shape = (height, tokens.shape[1] // height)
        return smk.cosine_similarity(descriptors, tokens, layout="tokens", target_shape=shape, backend=backend)

    for height, width in ((5, 7), (8, 9)):
        descriptors, tokens = torch.randn(2, 3, 8, device=DEVICE), torch.randn(2, height * width, 8, device=DEVICE)
        expected = smk.cosine_similarity(descriptors, map_of(tokens, (height, width)), backend=backend)
        assert torch.equal(match(descriptors, tokens, height), expected)


# ---- NumPy ---------------------------------------------------------------------------------------------------------


@needs_arrays
@functions
def test_arrays_of_tokens_give_the_bits_of_tensors(name: str) -> None:
    maps, rest, places = features_and_rest(name, device=torch.device("cpu"))
    inputs = arranged([tokens_of(x, leading=1) for x in maps], rest, places)
    expected = calls_on_tokens(SMALL, backend="cpu")[name](*inputs)
    found = calls_on_tokens(SMALL, smn)[name](*arrays(dict(enumerate(inputs))).values())
    (assert_same_matches if isinstance(expected, tuple) else assert_same)(found, expected)


@needs_arrays
@pytest.mark.parametrize("lay_out", VIEWS, ids=lambda f: f.__name__)
def test_arrays_of_tokens_are_not_copied(lay_out: Call) -> None:
    sample = Sample("large", {}, batch=1, channels=512, source_map=(24, 40), target_map=(32, 30))
    inputs = sample.make(device=torch.device("cpu"))
    source, target = (lay_out(tokens_of(x).numpy()) for x in (inputs.source, inputs.target))
    match = partial(calls_on_tokens(sample, smn)["sparse_window_match"], source, target, inputs.keypoints.numpy())
    match()
    assert _peak_of(match) < target.nbytes / 50


# ---- wrong arguments -----------------------------------------------------------------------------------------------

TOKENS, SOURCE_MAP = torch.zeros(2, 20, 8), torch.zeros(2, 8, 4, 5)

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"layout": "nhwc"}, ValueError, "layout must be one of 'map', 'tokens', got 'nhwc'"),
    (
        {"source_shape": None},
        ValueError,
        "source_shape must be given, as (H, W) in cells, for layout 'tokens', got None",
    ),
    (
        {"target_shape": None},
        ValueError,
        "target_shape must be given, as (H, W) in cells, for layout 'tokens', got None",
    ),
    (
        {"layout": "map"},
        ValueError,
        "source_shape must be None for layout 'map', got (4, 5); for tokens (B, H*W, C), pass layout='tokens'",
    ),
    (
        {"layout": "map", "source": SOURCE_MAP, "source_shape": None},
        ValueError,
        "target_shape must be None for layout 'map', got (5, 4); for tokens (B, H*W, C), pass layout='tokens'",
    ),
    ({"source_shape": 20}, TypeError, "source_shape must be (H, W) in whole cells, got 20"),
    ({"target_shape": (4, 5.0)}, TypeError, "target_shape must be (H, W) in whole cells, got (4, 5.0)"),
    ({"target_shape": (4, 5, 8)}, TypeError, "target_shape must be (H, W) in whole cells, got (4, 5, 8)"),
    ({"target_shape": (-4, -5)}, ValueError, "target_shape must be at least 1 x 1 cell, got (-4, -5)"),
    (
        {"source": TOKENS[:, :19]},
        ValueError,
        "source must have 20 tokens, one for each cell of source_shape (4, 5), got 19; source_shape counts cells, "
        "not pixels",
    ),
    (
        {"target": torch.zeros(2, 21, 8)},
        ValueError,
        "target must have 20 tokens, one for each cell of target_shape (5, 4), got 21; pass target[:, 1:] if the first "
        "is a class token",
    ),
    (
        {"target": torch.zeros(2, 25, 8)},
        ValueError,
        "target must have 20 tokens, one for each cell of target_shape (5, 4), got 25; pass target[:, 5:] if the "
        "first 5 are class and register tokens",
    ),
    (
        {"source": SOURCE_MAP},
        ValueError,
        "source must have shape (B, H*W, C), got (2, 8, 4, 5); for a map (B, C, H, W), pass layout='map'",
    ),
    (
        {"layout": "map", "source_shape": None, "target_shape": None},
        ValueError,
        "source must have shape (B, C, H, W), got (2, 20, 8); for tokens (B, H*W, C), pass layout='tokens'",
    ),
    ({"source": TOKENS[0]}, ValueError, "source must have shape (B, H*W, C), got (20, 8)"),
    ({"source": [1.0]}, TypeError, "source must be a tensor of shape (B, H*W, C), got list"),
    (
        {"source": TOKENS[..., :0]},
        ValueError,
        "source must have at least one channel and one cell, got shape (2, 20, 0)",
    ),
    ({"source": TOKENS[:1]}, ValueError, "source must have the same batch size as target, got 1 and 2"),
    ({"source": TOKENS[..., :4]}, ValueError, "source must have the same number of channels as target, got 4 and 8"),
]
RIGHT: dict[str, Any] = {
    "source": TOKENS,
    "target": TOKENS,
    "keypoints": torch.zeros(2, 3, 2),
    "layout": "tokens",
    "source_shape": (4, 5),
    "target_shape": (5, 4),
}


@pytest.mark.parametrize(("changes", "kind", "message"), WRONG, ids=[m for _, _, m in WRONG])
def test_wrong_argument(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        smk.sparse_window_match(**RIGHT | changes)
    assert str(caught.value) == message
    with pytest.raises(kind) as caught:
        smn.sparse_window_match(**arrays(RIGHT | changes))
    assert str(caught.value) == message.replace("a tensor", "an array")


@pytest.mark.parametrize("module", [smk, smn], ids=["tensors", "arrays"])
def test_other_functions_name_their_arguments(module: Any) -> None:
    tokens, keypoints = (x if module is smk else x.numpy() for x in (TOKENS, RIGHT["keypoints"]))
    with pytest.raises(ValueError, match=r"shape must be given, as \(H, W\) in cells, for layout 'tokens', got None"):
        module.gather_keypoints(tokens, keypoints, layout="tokens")
    with pytest.raises(ValueError, match=r"features must have 19 tokens, one for each cell of shape \(19, 1\), got 20"):
        module.gather_keypoints(tokens, keypoints, layout="tokens", shape=(19, 1))
    for function in (module.match_descriptors, module.cosine_similarity):
        with pytest.raises(ValueError, match="target_shape must be given"):
            function(tokens, tokens, layout="tokens")
        with pytest.raises(TypeError, match="unexpected keyword argument 'source_shape'"):
            function(tokens, tokens, layout="tokens", source_shape=(4, 5))
    with pytest.raises(TypeError, match="unexpected keyword argument 'layout'"):
        module.localize(tokens, layout="tokens")


def test_a_shape_is_two_whole_numbers_of_any_library() -> None:
    expected = smk.sparse_window_match(**RIGHT)
    for shape in ([4, 5], torch.Size((4, 5)), torch.tensor([4, 5]), arrays({"shape": torch.tensor([4, 5])})["shape"]):
        assert torch.equal(smk.sparse_window_match(**RIGHT | {"source_shape": shape}).keypoints, expected.keypoints)
