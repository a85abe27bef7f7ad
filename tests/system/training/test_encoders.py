"""Whole runs with encoders of other families, on images that aren't square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from simplematch.cli import main
from simplematch.models import SimpleMatch
from simplematch.training import train

from .test_training import configuration

MODELS: dict[str, dict[str, Any]] = {
    "dinov2-b14-252": {
        "encoder": "vit_small_patch16_dinov3", "encoder_options": {"embed_dim": 24, "depth": 3, "num_heads": 2},
        "lora_rank": 2, "lora_blocks": [1, 2], "lora_targets": ["attention", "mlp"],
    },
    "resnet101-256": {
        "encoder": "convnextv2_atto", "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 32, 64]}, "width": 8,
        "encoder_training": "frozen",
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", MODELS)
def test_a_run_with_another_encoder(
    preset: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = MODELS[preset] | {"image_size": [64, 96], "resize": "letterbox"}
    frozen = model.get("encoder_training") == "frozen"
    changes: dict[str, Any] = {"cache": tmp_path / "cache"} if frozen else {}
    run = configuration(photographs, tmp_path / "run", preset=preset, model=model, epochs=1, **changes)
    result = train(run)
    assert result.step == 3 and all(torch.tensor(x).isfinite().all() for x in result.losses)
    loaded = SimpleMatch.from_pretrained(tmp_path / "run" / "last")
    assert loaded.image_size == (64, 96) and loaded.resize == "letterbox"
    adapters = [x for name, x in loaded.named_parameters() if ".lora_B." in name]
    assert len(adapters) == (0 if frozen else 8) and all(x.any() for x in adapters)  # they begin at zero
    main(["eval", "--dataset", "images", "--root", str(photographs), "--checkpoint", str(tmp_path / "run" / "last")])
    assert "image 64 x 96 (letterbox)" in capsys.readouterr().out
