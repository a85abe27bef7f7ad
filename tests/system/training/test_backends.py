"""A few steps lower the loss on every available backend; interpreted and emulated backends run in other processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import simplematch_kernels as smk
from simplematch.training import train
from simplematch_kernels._backends import BACKENDS, why_not

from .test_training import configuration


@pytest.mark.parametrize("backend", BACKENDS)
def test_lowers_the_loss(photographs: Path, tmp_path: Path, backend: str) -> None:
    reason = why_not(backend, torch.device("cpu"))
    if reason is not None:
        pytest.skip(reason)
    with smk.use_backend(backend):
        losses = train(configuration(photographs, tmp_path, epochs=4, evaluate_every=4)).losses
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
