"""Triton on a driver that runs nothing, and the record of what would be compiled."""

from __future__ import annotations

import collections
import json
import os
import sys
from pathlib import Path
from typing import Any

import triton
from triton.runtime.jit import JITFunction

from benchmarks.stub_driver import TARGET, Driver, NotCompiled


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
