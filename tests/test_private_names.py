"""The names of torch that are not public and that the operators use, in the one file that may use them."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import simplematch_kernels

PACKAGE = Path(simplematch_kernels.__file__).parent
PRIVATE = re.compile(
    r"torch\.(?:\w+\.)*_[a-zA-Z]\w*|from torch[\w.]*\._[a-zA-Z]\w*|import _[A-Z]\w+|\._current_level|\._set_fwd"
)


def test_only_one_file_uses_private_names() -> None:
    """What breaks with another version of torch breaks there."""
    users = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if PRIVATE.search(path.read_text())}
    assert users == {"operators/_torch.py"}


def test_they_are_there() -> None:
    assert callable(torch._C._AutoDispatchBelowAutograd) and callable(torch._C._ExcludeDispatchKeyGuard)
    assert callable(torch._C._are_functorch_transforms_active)
    assert torch._C._len_torch_dispatch_stack() == 0 and torch._C._len_torch_function_stack() == 0
    assert torch._C._get_tracing_state() is None and torch.autograd._profiler_enabled() is False
    assert not torch._C._functorch.is_legacy_batchedtensor(torch.zeros(1))
    assert torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU) is not None
    assert issubclass(torch.autograd.function._SingleLevelFunction, torch.autograd.function.FunctionCtx)
    assert torch.autograd.forward_ad._current_level == -1
    assert callable(torch.jit._builtins._register_builtin)
    with torch.autograd.forward_ad._set_fwd_grad_enabled(True), torch.enable_grad():
        assert torch.autograd.forward_ad._is_fwd_grad_enabled()
    with torch._functorch.utils.enable_single_level_autograd_function():
        assert torch._C._functorch.get_single_level_autograd_function_allowed()
