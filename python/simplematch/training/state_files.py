"""The files of a state: weights, optimizer and gradient scaler, equal for any number of processes, sharded or not.

model.safetensors    weights by name
optimizer.bin        the optimizer's state dict, read with PyTorch's weights_only
scaler.pt            the same of the gradient scaler, for fp16
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..models.storage import check_fits
from .sharding import gathered, placed_like

MODEL, OPTIMIZER, SCALER = "model.safetensors", "optimizer.bin", "scaler.pt"


def write_state(accelerator: Accelerator, folder: Path) -> None:
    """Write the files on the main process; all processes must call it.

    Raises:
        OSError, RuntimeError, SafetensorError: a file can't be written.
    """
    weights = [{name: gathered(x) for name, x in _tensors(model).items()} for model in accelerator._models]
    optimizers = [tree_map(gathered, optimizer.state_dict()) for optimizer in accelerator._optimizers]
    if not accelerator.is_main_process:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for found in weights:
        save_file({name: x.contiguous() for name, x in found.items()}, folder / MODEL, {"format": "pt"})
    for found in optimizers:
        torch.save(found, folder / OPTIMIZER)
    if accelerator.scaler is not None:
        torch.save(accelerator.scaler.state_dict(), folder / SCALER)


def read_state(accelerator: Accelerator, folder: Path) -> None:
    """Load the files on every process.

    Raises:
        OSError, RuntimeError, ValueError, KeyError, SafetensorError, UnpicklingError: a file is invalid.
    """
    for path in folder.glob("*.pkl"):
        raise ValueError(f"{path.name} is a pickle, which is never read")
    for model in accelerator._models:
        live, stored = _tensors(model), load_file(folder / MODEL)
        check_fits(live, stored, MODEL)
        with torch.no_grad():
            for name, x in live.items():
                x.copy_(placed_like(stored[name], x))
    for optimizer in accelerator._optimizers:
        optimizer.load_state_dict(_placed(_load(folder / OPTIMIZER), optimizer))
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(_load(folder / SCALER))


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _placed(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Shard the optimizer's tensors like its parameters."""
    parameters = [x for group in optimizer.param_groups for x in group["params"]]
    placed = {}
    for number, values in state["state"].items():
        like = parameters[number]
        placed[number] = {k: placed_like(x, like) if _same_shape(x, like) else x for k, x in values.items()}
    return {**state, "state": placed}


def _same_shape(x: Any, like: Tensor) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0 and x.shape == like.shape


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the live tensors of a model by the names that they have without DDP and torch.compile."""
    return {name.removeprefix("module.").replace("_orig_mod.", ""): x for name, x in model.state_dict().items()}
