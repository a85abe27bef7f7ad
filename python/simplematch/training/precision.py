"""The precision of a run that fits the machine."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from ..bf16 import bf16_instructions, computes_bf16
from . import manifest
from .config import TrainConfig

_log = logging.getLogger(__name__)


def settle(config: TrainConfig, resume: bool = False) -> TrainConfig:
    """Replace the precision "auto" by one that the device has instructions for, and log it.

    A resumed run keeps the precision of its newest state. A warning says if bf16 is emulated, whoever chose it.
    """
    device, where = _device()
    native = computes_bf16(device)
    if config.precision == "auto":
        earlier = _precision_of(config.output) if resume else None
        config = replace(config, precision=earlier or ("bf16" if native else "fp32"))
        why = (
            "as before"
            if earlier
            else f"{where} has {'' if native else 'no '}instructions for bfloat16{_names(device)}"
        )
        _log.info("precision %s: %s", config.precision, why)
    if config.precision == "bf16" and not native:
        _log.warning(
            "precision bf16 is emulated, because %s has no instructions for bfloat16; fp32 is faster, several times "
            "on a CPU",
            where,
        )
    return config


def _device() -> tuple[torch.device, str]:
    """Return the device that Accelerate will use, and its description."""
    from accelerate.utils import parse_flag_from_env

    if torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        return torch.device("cuda"), torch.cuda.get_device_name()
    return torch.device("cpu"), "this processor"


def _names(device: torch.device) -> str:
    return f" ({', '.join(bf16_instructions())})" if device.type == "cpu" and bf16_instructions() else ""


def _precision_of(output: Path) -> str | None:
    """Return the precision of the newest state of a run, or None."""
    from .checkpoint import CONFIG, STATE

    for state in manifest.numbered(output / STATE):
        try:
            return TrainConfig.from_yaml(state / CONFIG).precision
        except (OSError, ValueError):  # resuming will say so
            continue
    return None
