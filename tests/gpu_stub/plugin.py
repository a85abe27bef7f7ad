"""A GPU that is not there: `pytest -p tests.gpu_stub.plugin` runs the tests of a GPU on a machine without one.

    triton_driver   Triton sees an H100; its launches are recorded, and compiled if asked to, but run nothing
    device          torch.cuda answers; tensors asked for on "cuda" lie in the memory of the CPU
    backends        the backends of a GPU launch as they do there, and answer what the CPU kernels answer

Importing this module installs them, for good: it is for processes of their own.

What a kernel computes is for other tests. Here the tests and benchmarks themselves run: their own lines that need a
GPU, what they record, and how many kernels they make Triton compile.

Environment variables:
    SIMPLEMATCH_STUB_LOG: a folder; every process appends the kernels that Triton would compile to a file in it.
    SIMPLEMATCH_STUB_COMPILE: "1" compiles each kernel for sm_90, and fails where registers are spilled.
    SIMPLEMATCH_STUB_WITHOUT: names of backends, separated by commas, that are not to be there.
"""

from __future__ import annotations

import pytest

from . import backends, device, triton_driver

NOT_HERE = {
    "test_opcheck": "the stub's mode is in the way of operators that are exchanged",
    "test_opcheck_of_the_steps": "the same",
    "test_opcheck_of_localize": "the same",
    "test_nothing_is_kept_without_gradients": "the same",
    "test_compiles_whole": "Inductor asks the torch that is here for its CUDA",
    "test_compiles_with_dynamic_shapes": "Dynamo meets the stub's mode",
    "test_wrong_values_on_a_gpu_answer_nan": "the CPU kernels raise",
    "test_use_backend_holds_for_the_backward": "it exchanges a backend's functions",
    "test_the_interpreter_of_triton_36_needs_an_older_numpy": "no backend is what it is elsewhere",
    "test_more_than_two_to_the_31_elements": "9 GB",
}
"""Tests that say nothing about the stub, and why."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        reason = NOT_HERE.get(getattr(item, "originalname", item.name))
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"stub: {reason}"))


device.install()
triton_driver.install()
backends.install()
