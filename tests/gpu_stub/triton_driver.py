"""A driver for Triton that finds an H100 and runs nothing, and the record of what would be compiled."""

from __future__ import annotations

import collections
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.jit import JITFunction

TARGET = GPUTarget("cuda", 90, 32)


class Driver(DriverBase):
    """What Triton asks a driver for."""

    def __init__(self) -> None:
        self.utils = SimpleNamespace(
            load_binary=lambda name, kernel, shared, device: (0, 0, 0, 0, 1024),
            get_device_properties=lambda device: {"max_shared_mem": 227 * 1024, "multiprocessor_count": 132},
        )
        self.launcher_cls = lambda source, metadata: lambda *arguments: None

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_capability(self, device: int) -> tuple[int, int]:
        return 9, 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cuda", 0)

    def get_benchmarker(self) -> Any:
        from triton.testing import do_bench

        return do_bench


class NotCompiled:
    """Stands where a compiled kernel would."""

    function = packed_metadata = None

    def launch_metadata(self, *arguments: Any) -> None:
        return None

    def run(self, *arguments: Any) -> None:
        return None


class SpilledRegistersError(AssertionError):
    """A kernel puts values on the stack."""


def install() -> None:
    triton.runtime.driver.set_active(Driver())
    compile_ = JITFunction._do_compile

    def record(
        self: Any, key: Any, signature: Any, device: int, constexprs: Any, options: Any, attrs: Any, warmup: Any
    ) -> Any:
        _log(self.__name__, key)
        if os.environ.get("SIMPLEMATCH_STUB_COMPILE") != "1":
            kernel: Any = NotCompiled()
            self.device_caches[device][0][key] = kernel
            return kernel
        kernel = compile_(self, key, signature, device, constexprs, options, attrs, warmup)
        _check_spills(self.__name__, kernel)
        return kernel

    JITFunction._do_compile = record


def _log(name: str, key: Any) -> None:
    folder = os.environ.get("SIMPLEMATCH_STUB_LOG")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
        with open(Path(folder, f"{os.getpid()}.jsonl"), "a") as file:
            file.write(json.dumps({"kernel": name, "key": str(key), "test": test}) + "\n")


def _check_spills(name: str, kernel: Any) -> None:
    from ..triton_variants import registers_and_spills

    _, spilled = registers_and_spills(kernel.asm["ptx"], TARGET.arch)
    if spilled:
        raise SpilledRegistersError(f"{name} spills {spilled} bytes")


def read_log(folder: Path) -> dict[tuple[str, str], list[str]]:
    """Every kernel that would be compiled, with the tests that first asked for it in their processes."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            found.setdefault((entry["kernel"], entry["key"]), []).append(entry["test"])
    return found


def main() -> None:
    found = read_log(Path(sys.argv[1]))
    for kernel, count in sorted(collections.Counter(kernel for kernel, _ in found).items()):
        print(f"{count:6} {kernel}")
    print(f"{len(found):6} kernels to compile")


if __name__ == "__main__":
    main()
