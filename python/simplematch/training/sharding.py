"""Shards weights, gradients and optimizer state over the processes of a run: FSDP2 through Accelerate."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from ..models import SimpleMatch
from .config import TrainConfig

BLOCKS = ("Block", "Bottleneck", "InvertedResidual")  # timm's repeated modules, each gathered when it runs
_USE_FSDP = "ACCELERATE_USE_FSDP"


def make_accelerator(config: TrainConfig, log_with: Any = None) -> Accelerator:
    """Make the accelerator of a run; it shards if `config.sharded`, or if `accelerate launch` was configured so.

    Raises:
        ValueError: `accelerate launch` was configured for the first version of FSDP; or a sharded run has a cache.
    """
    plugin = _plugin(config.sharded)
    if plugin is not None and config.cache is not None:
        raise ValueError(
            f"cache must be null for a sharded run, whose processes hold parts of weights, got {config.cache}"
        )
    before = os.environ.get(_USE_FSDP)
    accelerator = Accelerator(
        gradient_accumulation_steps=config.accumulation,
        mixed_precision=config.precision.replace("fp32", "no"),
        log_with=log_with,
        project_dir=str(config.output),
        fsdp_plugin=plugin,
    )
    os.environ.pop(_USE_FSDP, None)  # Accelerate sets it for a plugin, and would shard other runs of this process too
    if before is not None:
        os.environ[_USE_FSDP] = before
    if plugin is not None and accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.fsdp_plugin = plugin  # Accelerate shards on GPUs only, but it works on CPUs as well
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def _plugin(sharded: bool) -> FullyShardedDataParallelPlugin | None:
    """Return the options of FSDP2, or None for one process or without sharding."""
    launched = os.environ.get(_USE_FSDP, "false").lower() == "true"
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or not (sharded or launched):
        return None
    if launched:
        plugin = FullyShardedDataParallelPlugin()
    else:
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    if plugin.fsdp_version != 2:
        raise ValueError(f"fsdp_version of Accelerate must be 2, got {plugin.fsdp_version}")
    plugin.mixed_precision_policy = MixedPrecisionPolicy()  # autocast chooses the precision, as without sharding
    return plugin


def name_blocks(losses: nn.Module) -> None:
    """Tell Accelerate which modules to gather one by one."""
    present = {type(module).__name__ for module in losses.modules()}
    losses._no_split_modules = [name for name in BLOCKS if name in present]  # type: ignore[assignment]


def is_sharded(module: nn.Module) -> bool:
    """Return whether a module has sharded parameters."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def local(x: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory."""
    return x.to_local() if isinstance(x, DTensor) else x


def gathered(x: Any) -> Any:
    """Return a whole tensor; all processes must call it. Other values are returned as they are."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def placed_like(x: Tensor, live: Tensor) -> Tensor:
    """Shard a whole tensor, which every process has, like another one."""
    if not isinstance(live, DTensor):
        return x
    return distribute_tensor(x.to(live.device), live.device_mesh, live.placements, src_data_rank=None)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module with whole tensors; all processes must call it."""
    return {name: gathered(x) for name, x in module.state_dict().items()}


def whole_model(network: SimpleMatch) -> SimpleMatch:
    """Return the model itself, or a copy with whole weights if they are sharded; all processes must call it."""
    if not is_sharded(network):
        return network
    state = whole_state(network)
    device = next(iter(state.values())).device
    with torch.random.fork_rng(devices=[]):  # the random weights of the copy must not change the run
        copy = SimpleMatch(network.config)
    copy.card_facts = network.card_facts
    copy.load_state_dict(state)
    return copy.to(device).train(network.training)
