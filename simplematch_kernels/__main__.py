"""`python -m simplematch_kernels`: what is installed, what runs where, and why not the rest."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

from . import __version__, _native


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def main() -> None:
    print(f"simplematch-kernels {__version__}")
    if find_spec("torch") is None:
        print(f"python {platform.python_version()}, numpy {_version('numpy')}, torch not installed")
        print(f"compiled module: {_native.describe()}")
        print("\nonly simplematch_kernels.numpy can run; the rest needs PyTorch (pip install torch)")
    else:
        _print_backends()


def _print_backends() -> None:
    import torch

    from . import explain

    print(f"python {platform.python_version()}, torch {torch.__version__}, triton {_version('triton')}")
    print(f"compiled module: {_native.describe()}")
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        print(f"cuda:{index}: {torch.cuda.get_device_name(index)}, compute capability {major}.{minor}")
    print(f"\n{explain()}")


if __name__ == "__main__":
    main()
