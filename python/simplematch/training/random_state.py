"""Stores the random state of a process as a safetensors file, which is read without running code."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save


def write_random_state(path: Path) -> None:
    """Write the states of the generators of Python, NumPy, PyTorch and this process's GPU."""
    version, numbers, python_gauss = random.getstate()
    kind, keys, place, has_gauss, numpy_gauss = np.random.get_state(legacy=True)
    tensors = {
        "python": torch.tensor(numbers, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    metadata = {"python": [version, python_gauss], "numpy": [kind, place, has_gauss, numpy_gauss]}
    path.write_bytes(save(tensors, {name: json.dumps(values) for name, values in metadata.items()}))


def read_random_state(path: Path) -> tuple[Callable[[], None], str]:
    """Return a function that restores the generators, and a description of what differs here, or "".

    Raises:
        OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError: the file is invalid.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        metadata = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
    version, python_gauss = metadata["python"]
    kind, *rest = metadata["numpy"]
    python_state = (version, tuple(tensors["python"].tolist()), python_gauss)
    numpy_state = (kind, tensors["numpy"].numpy().astype(np.uint32), *rest)
    random.Random().setstate(python_state)  # tried on new generators first: all states are restored or none
    np.random.RandomState().set_state(numpy_state)
    torch.Generator().set_state(tensors["torch"])
    gpu, here = tensors.get("cuda"), torch.cuda.is_available()
    if gpu is not None and here:
        torch.Generator("cuda").set_state(gpu)

    def restore() -> None:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(tensors["torch"])
        if gpu is not None and here:
            torch.cuda.set_rng_state(gpu)

    return restore, "" if (gpu is not None) == here else f"{'no' if here else 'a'} GPU's random numbers"
