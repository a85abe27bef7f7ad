"""Training with the cross entropy: it learns, resumes exactly, and its settings are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from simplematch.training import train

from .test_training import configuration, weights


def test_lowers_the_cross_entropy_and_resumes_bitwise(photographs: Path, tmp_path: Path) -> None:
    changes = {"loss": "cross_entropy", "kernel_size": 3, "epochs": 4, "evaluate_every": 4}
    whole = train(configuration(photographs, tmp_path / "whole", **changes))
    assert len(whole.losses) == 12 and np.mean(whole.losses[-3:]) < 0.8 * np.mean(whole.losses[:3])
    train(configuration(photographs, tmp_path / "parts", **changes, max_steps=5))
    with pytest.raises(ValueError, match="loss was 'cross_entropy' and is 'distance'"):
        train(configuration(photographs, tmp_path / "parts", **(changes | {"loss": "distance"})), resume=True)
    train(configuration(photographs, tmp_path / "parts", **changes), resume=True)
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "parts").items():
        assert torch.equal(tensor, expected[name]), name


def test_a_run_of_an_earlier_version_had_the_distance(photographs: Path, tmp_path: Path) -> None:
    train(configuration(photographs, tmp_path, max_steps=2, evaluate_every=4))
    file = tmp_path / "config.yaml"
    fields = yaml.safe_load(file.read_text())
    for name in ("loss", "kernel_size", "sigma"):
        del fields[name]
    file.write_text(yaml.safe_dump(fields))
    assert train(configuration(photographs, tmp_path, max_steps=3, evaluate_every=4), resume=True).step == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "l2"}, "loss must be one of 'distance', 'cross_entropy', got 'l2'"),
        ({"kernel_size": 0}, "kernel_size must be a whole number above zero, got 0"),
        ({"sigma": 0.0}, "sigma must be null or above zero, got 0.0"),
        (
            {"loss": "cross_entropy", "contrast": 1.0, "group_size": 3},
            "contrast must be 0 for loss 'cross_entropy', got 1.0",
        ),
    ],
)
def test_wrong_settings_are_one_sentence(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        configuration(tmp_path, tmp_path / "run", **changes)
