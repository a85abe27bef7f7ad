"""Runs the operators of the installed package on the CPU, forward and backward, with the installed torch.

On Linux it also checks that the process has one OpenMP runtime, and that the operators add no threads to torch's.
"""

import os
import sys
from pathlib import Path

import torch

import simplematch_kernels as smk


def gradients(backend: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 2, 64, 33, 35, generator=generator).unbind()
    source.requires_grad_()
    target.requires_grad_()
    keypoints = 30 * torch.rand(2, 9, 2, generator=generator)
    matches = smk.sparse_window_match(source, target, keypoints, window_size=9, temperature=0.1, backend=backend)
    (matches.keypoints.square().sum() + matches.log_sum_exp.sum()).backward()
    assert source.grad is not None and target.grad is not None
    return [matches.keypoints.detach(), matches.score.detach(), source.grad, target.grad]


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def check_threads() -> None:
    torch.rand(2**22).exp()  # starts the threads of torch
    before = threads()
    gradients("cpu")
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp" in line}
    assert len(loaded) == 1, f"more than one OpenMP runtime: {loaded}"
    assert threads() <= before, f"{before} threads became {threads()}"
    print(f"{before} threads before and after, of {loaded.pop()}")


torch.set_num_threads(4)
if sys.platform == "linux":
    check_threads()
for ours, theirs in zip(gradients("cpu"), gradients("reference"), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
compiled = torch.compile(smk.sparse_window_match, fullgraph=True, backend="aot_eager")
inputs = torch.randn(1, 8, 9, 9), torch.randn(1, 8, 9, 9), torch.rand(1, 3, 2)
assert torch.equal(compiled(*inputs).keypoints, smk.sparse_window_match(*inputs).keypoints)
source, target, points = (torch.stack([x, x + 0.1]) for x in inputs)
loss = lambda s, t, p: smk.sparse_window_match(s, t, p, window_size=3).keypoints.sum()  # noqa: E731
each = torch.vmap(torch.func.grad(loss))(source, target, points)
torch.testing.assert_close(each[1], torch.func.grad(loss)(source[1], target[1], points[1]))
slope = torch.func.jvp(loss, (source[0], target[0], points[0]), (source[0], target[0], points[0]))[1]
expected = sum((g * x[0]).sum() for g, x in zip(torch.func.grad(loss, (0, 1))(*inputs), (source, target), strict=True))
torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-3)
print(f"simplematch-kernels {smk.__version__} in {smk.__path__[0]} runs beside torch {torch.__version__}")
