"""The operators are good citizens of torch: opcheck, compile, export, autocast, checkpointing, hooks, threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _resolved

from .oracle import relative_error, run_backend
from .samples import DEVICE, SAMPLES, Inputs, Sample
from .traces import Calls, compiled

BY_NAME = {sample.name: sample for sample in SAMPLES}
OPCHECKED = (
    "window",
    "outside-disc-masked",
    "disc-real-closed",
    "query-masks",
    "gaussian-masked",
    "argmax",
    "bilinear-border",
    "valid",
    "channels_last",
    "transposed",
    "sliced",
    "expanded",
    "no-queries",
    "no-images",
    "one-of-each",
)
STEPS_OPCHECKED = ("window", *OPCHECKED[6:])
"""What the steps alone read of a sample: its sizes and layouts, but none of its options."""


@pytest.mark.skipif(_backends.interpreting(), reason="the same registration, at seconds a launch")
@pytest.mark.parametrize("name", OPCHECKED)
@pytest.mark.parametrize("kept", ["kept", "computed again"])
def test_opcheck(name: str, kept: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema, fake tensors and autograd registration of forward and backward, static and dynamic shapes."""
    inputs = BY_NAME[name].make()
    if kept != "kept":
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 1)
    with Calls() as calls:
        run_backend(inputs, backend, "source", "target", "keypoints", "temperature")
    assert len(calls.made) == 2 or 0 in (BY_NAME[name].queries, BY_NAME[name].batch)
    calls.check(backend)


@pytest.mark.skipif(_backends.interpreting(), reason="the same registration, at seconds a launch")
@pytest.mark.parametrize("name", STEPS_OPCHECKED)
def test_opcheck_of_the_steps(name: str, backend: str) -> None:
    inputs = BY_NAME[name].make()
    with Calls() as calls:
        leaves = inputs.requiring("source", "target")
        rows = smk.gather_keypoints(leaves.source, leaves.keypoints, backend=backend)
        scores = smk.cosine_similarity(rows, leaves.target, backend=backend)
        smk.localize(scores, window_size=3, backend=backend).keypoints.sum().backward()
    assert len(calls.made) == 6 or 0 in (BY_NAME[name].queries, BY_NAME[name].batch)
    calls.check(backend)


def weighted_sum(inputs: Inputs, backend: str | None) -> Tensor:
    matches = smk.sparse_window_match(inputs.source, inputs.target, inputs.keypoints, **inputs.options, backend=backend)
    return (matches.keypoints.sum(-1) * matches.score).sum() + matches.log_sum_exp.sum()


@pytest.mark.parametrize(
    "name", ["window", "bilinear-border", "valid", "gaussian-masked", "query-masks-outside-disc", "channels_last"]
)
def test_compiles_whole(name: str, backend: str) -> None:
    """torch.compile(fullgraph=True): no graph break, same values and gradients."""
    inputs = BY_NAME[name].make(torch.float64)
    fast_sum = compiled(weighted_sum, backend)
    found = {}
    for run in (weighted_sum, fast_sum):
        leaves = inputs.requiring("source", "target", "keypoints", "temperature")
        value = run(leaves, backend)
        found[run] = (value, *torch.autograd.grad(value, list(leaves.leaves().values()), allow_unused=True))
    for plain, fast in zip(found[weighted_sum], found[fast_sum], strict=True):
        assert (plain is None) == (fast is None)
        if plain is not None:
            assert relative_error(fast, plain) < 1e-12


def test_compiles_with_dynamic_shapes(backend: str) -> None:
    """One graph serves every number of images, keypoints and cells."""
    torch._dynamo.reset()
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    @torch.compile(backend=count, fullgraph=True, dynamic=True)
    def match(source: Tensor, target: Tensor, keypoints: Tensor) -> smk.Matches:
        size = (source.shape[2] * 14, source.shape[3] * 14)
        return smk.sparse_window_match(source, target, keypoints, source_size=size, window_size=5, backend=backend)

    for batch, queries, side in ((3, 5, 7), (4, 11, 9), (5, 13, 6)):  # no 2: torch takes equal sizes for one
        source, target = torch.randn(2, batch, 24, side, side + 1, device=DEVICE).unbind()
        keypoints = torch.rand(batch, queries, 2, device=DEVICE) * side * 14
        found = match(source, target, keypoints)
        plain = smk.sparse_window_match(
            source, target, keypoints, source_size=(side * 14, side * 14 + 14), window_size=5, backend=backend
        )
        assert torch.equal(found.peak, plain.peak)
        torch.testing.assert_close(found.keypoints, plain.keypoints)
    assert graphs == 1


@pytest.mark.parametrize("dynamic", [False, True])
def test_exports(dynamic: bool, backend: str) -> None:
    class Matcher(torch.nn.Module):
        def forward(self, source: Tensor, target: Tensor, keypoints: Tensor) -> Tensor:
            return smk.sparse_window_match(source, target, keypoints, window_size=3, backend=backend).keypoints

    inputs = BY_NAME["window"].make()
    arguments = (inputs.source, inputs.target, inputs.keypoints)
    shapes = None
    if dynamic:
        auto = torch.export.Dim.AUTO
        shapes = ({0: auto, 2: auto, 3: auto}, {0: auto, 2: auto, 3: auto}, {0: auto, 1: auto})
    program = torch.export.export(Matcher(), arguments, dynamic_shapes=shapes)
    names = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.simplematch.sparse_window_match.default in names
    torch.testing.assert_close(program.module()(*arguments), Matcher()(*arguments))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_equal_dtypes_alone(dtype: torch.dtype, backend: str) -> None:
    """No copy of a feature map, and pixels stay float32."""
    inputs = BY_NAME["corner"].make()
    plain = run_backend(inputs, backend, "source", "target")
    with torch.autocast(DEVICE.type, dtype=dtype):
        cast = run_backend(inputs, backend, "source", "target")
    for a, b in zip(plain.matches, cast.matches, strict=True):
        assert torch.equal(a, b)
    assert cast.gradients["source"].dtype == torch.float32


def test_autocast_unites_different_dtypes(backend: str) -> None:
    inputs = BY_NAME["window"].make()
    low, leaves = inputs.source.bfloat16(), inputs.requiring("target")
    with pytest.raises(TypeError, match=r"source and target must have one dtype, got torch\.bfloat16"):
        smk.sparse_window_match(low, leaves.target, inputs.keypoints, backend=backend)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        matches = smk.sparse_window_match(low, leaves.target, inputs.keypoints, window_size=5, backend=backend)
    matches.keypoints.sum().backward()
    expected = smk.sparse_window_match(low, inputs.target.bfloat16(), inputs.keypoints, window_size=5, backend=backend)
    assert torch.equal(matches.keypoints, expected.keypoints)
    assert leaves.target.grad is not None and leaves.target.grad.dtype == torch.float32


def test_double_backward_names_the_operator(backend: str) -> None:
    leaves = BY_NAME["window"].make(torch.float64).requiring("source", "target")
    (gradient,) = torch.autograd.grad(weighted_sum(leaves, backend), leaves.target, create_graph=True)
    with pytest.raises(RuntimeError, match=r"simplematch::sparse_window_match .*double backward is not supported"):
        gradient.sum().backward()


def test_activation_checkpointing(backend: str) -> None:
    from torch.utils.checkpoint import checkpoint

    inputs = BY_NAME["window"].make(torch.float64)
    expected = run_backend(inputs, backend, "source", "target")
    leaves = inputs.requiring("source", "target")
    run = lambda s, t: smk.sparse_window_match(s, t, leaves.keypoints, **leaves.options, backend=backend).keypoints  # noqa: E731
    keypoints = checkpoint(run, leaves.source, leaves.target, use_reentrant=False)
    assert torch.equal(keypoints, expected.matches.keypoints)
    keypoints.square().sum().backward()
    assert leaves.source.grad is not None and leaves.target.grad is not None
    again = inputs.requiring("source", "target")
    run(again.source, again.target).square().sum().backward()
    assert torch.equal(leaves.target.grad, again.target.grad)


def test_keeps_no_more_than_it_says(backend: str) -> None:
    """Beyond the inputs: the results, a norm for each target cell and the scores inside the windows."""
    sample = Sample(
        "memory", {"window_size": 5}, batch=2, queries=3, channels=256, source_map=(16, 16), target_map=(16, 16)
    )
    leaves = sample.make().requiring("source", "target")
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        matches = smk.sparse_window_match(
            leaves.source, leaves.target, leaves.keypoints, **leaves.options, backend=backend
        )
    for given in (leaves.source, leaves.target, leaves.keypoints):
        kept.pop(given.untyped_storage().data_ptr())
    norms, windows, results = 2 * 256 * 4, 2 * 3 * 25 * 4, 2 * 3 * (8 + 4 + 8 + 4)
    assert 0 < sum(kept.values()) <= norms + windows + results
    matches.keypoints.sum().backward()


def test_nothing_is_kept_without_gradients(backend: str) -> None:
    with Calls() as calls:
        run_backend(BY_NAME["window"].make(), backend)
    ((operator, arguments),) = calls.made
    assert operator(*arguments)[5].numel() == 0


def test_threads(backend: str) -> None:
    """Calls from several threads at once answer as one call does."""
    inputs = BY_NAME["window" if _backends.interpreting() else "primes"].make()
    expected = run_backend(inputs, backend, "source", "target")
    wrong: list[str] = []

    def work() -> None:
        for _ in range(2 if backend == "triton" else 10):
            found = run_backend(inputs, backend, "source", "target")
            if not torch.equal(found.matches.keypoints, expected.matches.keypoints):
                wrong.append("keypoints")
            if not torch.equal(found.gradients["target"], expected.gradients["target"]):
                wrong.append("target gradient")

    threads = [threading.Thread(target=work) for _ in range(1 if backend == "triton" and DEVICE.type == "cpu" else 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_use_backend_holds_for_the_backward() -> None:
    with Calls() as calls:
        leaves = BY_NAME["window"].make().requiring("target")
        with smk.use_backend("reference"):
            matches = smk.sparse_window_match(leaves.source, leaves.target, leaves.keypoints)
        matches.keypoints.sum().backward()
    assert [arguments[-1] for _, arguments in calls.made] == ["reference", "reference"]


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_cuda_graph_and_no_synchronisation(backend: str) -> None:
    if backend == "reference":
        pytest.skip("plain PyTorch may synchronise")
    leaves = BY_NAME["valid"].make().requiring("source", "target")

    def step() -> tuple[Tensor, ...]:
        matches = smk.sparse_window_match(
            leaves.source, leaves.target, leaves.keypoints, **leaves.options, backend=backend
        )
        total = matches.keypoints.sum() + matches.score.sum()
        return matches.keypoints, *torch.autograd.grad(total, [leaves.source, leaves.target])

    expected = step()  # compiles the kernels
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = step()
        graph.replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    for captured, plain in zip(found, expected, strict=True):
        assert torch.equal(captured, plain)
