"""The entries of hubconf.py, through torch.hub and without a network."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from simplematch.models import NEAREST_PRESETS, NearestNeighbour
from simplematch.models.default_weights import lite0_state_dict

from .models.kinds import KINDS
from .models.tiny import pair

ROOT = Path(__file__).parents[2]
NEAREST = {name.replace("-", "_"): name for name in NEAREST_PRESETS}


@pytest.fixture
def downloaded(tmp_path: Path) -> Iterator[str]:
    """This repository as torch.hub finds one that it has downloaded from GitHub."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path)
    (tmp_path / "owner_repository_main").symlink_to(ROOT)
    yield "owner/repository:main"
    torch.hub.set_dir(before)


def test_every_preset_is_listed(downloaded: str) -> None:
    assert set(torch.hub.list(downloaded, trust_repo=True, skip_validation=True)) == {"simplematch", *NEAREST}


@pytest.mark.parametrize("entry", ["simplematch", *NEAREST])
def test_every_entry_is_described(entry: str, downloaded: str) -> None:
    text = torch.hub.help(downloaded, entry, trust_repo=True, skip_validation=True)
    assert len(text) > 60
    if entry != "simplematch":
        size = NEAREST_PRESETS[NEAREST[entry]].image_size
        assert f"{size} x {size}" in text


def test_a_trained_model_is_loaded(tmp_path: Path) -> None:
    model = KINDS["resnet101-256"]()
    model.save_pretrained(tmp_path)
    loaded = torch.hub.load(str(ROOT), "simplematch", str(tmp_path), source="local")
    inputs = pair(model.image_size)
    with torch.inference_mode():
        assert all(torch.equal(x, y) for x, y in zip(model(*inputs), loaded(*inputs), strict=True))
    assert str(ROOT / "python") not in sys.path[:1]
    with pytest.raises(
        FileNotFoundError, match=r"got 'owner/none': there is no such folder, and it can't be downloaded"
    ):
        torch.hub.load(str(ROOT), "simplematch", "owner/none", source="local", local_files_only=True)


@pytest.mark.parametrize("entry", NEAREST)
def test_nearest_presets_are_made(entry: str) -> None:
    model = torch.hub.load(str(ROOT), entry, source="local", pretrained=False)
    assert isinstance(model, NearestNeighbour) and model.config == NEAREST_PRESETS[NEAREST[entry]]


def test_weights_are_loaded(tmp_path: Path) -> None:
    weights = lite0_state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    file = torch.hub.load(str(ROOT), "efficientnet_lite0_256_nn", weights=tmp_path / "weights.pth", source="local")
    package = torch.hub.load(str(ROOT), "efficientnet_lite0_256_nn", source="local")
    for model in (file, package):
        assert torch.equal(model.encoder.backbone.conv_stem.weight, weights["conv_stem.weight"])


def test_a_clone_that_is_not_installed_is_enough() -> None:
    """In a process that knows the folder of the clone alone; only what `dependencies` name may be missing."""
    code = f"""
        import sys, torch
        for name in ("peft", "matplotlib", "torchmetrics", "accelerate", "scipy", "rich", "jsonargparse"):
            sys.modules[name] = None
        model = torch.hub.load({str(ROOT)!r}, "dinov2_s14_252_nn", source="local", pretrained=False)
        import simplematch, simplematch_kernels
        print(simplematch.__file__, simplematch_kernels.__file__, model.image_size)
    """
    command = [sys.executable, "-I", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.stdout.split() == [
        str(ROOT / "python/simplematch/__init__.py"), str(ROOT / "simplematch_kernels/__init__.py"), "252",
    ], done.stderr  # fmt: skip
