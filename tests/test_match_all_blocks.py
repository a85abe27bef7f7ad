"""`match_all` on sets of several blocks: the order of sums, whatever the counts and the number of threads."""

from __future__ import annotations

import pytest
import torch

import simplematch_kernels as smk
from simplematch_kernels import _backends

from .oracle import relative_error
from .samples import DEVICE, SIMULATED
from .set_samples import FIELDS, Sample, evaluate, wider


@pytest.mark.skipif(_backends.interpreting(), reason="minutes in the interpreter, which has no memory to overrun")
def test_counts_that_divide_into_larger_blocks(backend: str) -> None:
    """1025 rows are two blocks of 520 on a CPU, 1024 are one; so it is with panels of columns."""
    a, b, _ = Sample("x", batch=2, of_a=(1025,), of_b=(3120,), channels=256).make()
    counts = {"num_a": torch.tensor([1024, 1025], device=DEVICE), "num_b": torch.tensor([3072, 1536], device=DEVICE)}
    padded = smk.match_all(a, b, **counts, backend=backend)
    for i in range(2):
        n, m = (int(x[i]) for x in counts.values())
        whole = smk.match_all(a[i : i + 1, :n], b[i : i + 1, :m], backend=backend)
        assert torch.equal(padded.index_a[i, :n], whole.index_a[0])
        assert torch.equal(padded.index_b[i, :m], whole.index_b[0])
        torch.testing.assert_close(padded.log_sum_exp_a[i, :n], whole.log_sum_exp_a[0])
        torch.testing.assert_close(padded.log_sum_exp_b[i, :m], whole.log_sum_exp_b[0])


@pytest.mark.skipif(DEVICE.type != "cpu" or SIMULATED, reason="threads of the CPU")
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
def test_threads_change_nothing(metric: str) -> None:
    """Several blocks of rows meet several chunks of columns: each sum has one order, whichever threads take blocks."""
    sample = Sample(
        "x",
        {"metric": metric, "temperature": 0.3},
        rows=("num_a", "valid_b"),
        numbers=("temperature", "bin_score"),
        of_a=(1200,),
        of_b=(1500,),
        channels=40,
    )
    a, b, options = sample.make(torch.float32)
    _, exact_gradients = evaluate(smk.match_all, a.double(), b.double(), wider(options), backend="reference")
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(evaluate(smk.match_all, a, b, options, backend="cpu"))
    torch.set_num_threads(before)
    (one, gradients), others = found[0], found[1:]
    for name, truth in exact_gradients.items():
        assert relative_error(gradients[name], truth) < 1e-5, name
    for other, other_gradients in others:
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)
        assert all(torch.equal(x, other_gradients[name]) for name, x in gradients.items())
