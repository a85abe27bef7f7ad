"""The authors' full-size models with weights by formula: recorded similarities, predictions and losses."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch.models import SimpleMatch, multi_scale_loss, preset
from simplematch.models.config import SimpleMatchConfig

RUNS = {"dinov2_252": "dinov2-b14-252", "ibot_256": "ibot-b16-256", "resnet101_256": "resnet101-256"}
OFFICIAL = {"dinov2": "dinov2-b14-252", "ibot": "ibot-b16-256", "resnet101": "resnet101-256"}
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Override the one-thread fixture, because these models are large."""


@pytest.mark.parametrize("run", RUNS)
def test_answers_of_the_official_models_are_reproduced(run: str, shared_data: Path) -> None:
    folder = shared_data / "vectors"
    if not (folder / f"model_{run}.npz").is_file():
        pytest.skip(f"no {folder / f'model_{run}.npz'}")
    record = json.loads((folder / f"model_{run}.json").read_text())
    golden = {key: torch.from_numpy(x) for key, x in np.load(folder / f"model_{run}.npz").items()}
    filler = _module(folder / "fill.py")
    model = _official_model(preset(RUNS[run]), record, filler)
    source, target = _images(record, filler)
    keypoints, counts = golden["keypoints"], golden["num_keypoints"]
    with torch.no_grad():
        maps = model._decode_pair(source, target)
        levels = [model._match_maps(*maps, keypoints, counts, i) for i in range(len(model.matchers))]
        scores = [_scores(model, i, maps[0], maps[1], keypoints) for i in range(len(model.matchers))]
    names = ("similarity_16", "similarity_8", "similarity")[-len(scores) :]
    for name, actual in zip(names, scores, strict=True):
        torch.testing.assert_close(actual, golden[name], atol=TOLERANCE, rtol=0)
    _check_prediction(levels[-1], golden)
    model.matchers[-1].matching = "sparse"
    _check_prediction(model._match_maps(*maps, keypoints, counts, len(levels) - 1), golden)
    loss = torch.stack(multi_scale_loss(levels, golden["gt"], counts)).sum()
    torch.testing.assert_close(loss, golden["loss"], atol=TOLERANCE, rtol=1e-6)


def _official_model(config: SimpleMatchConfig, record: dict[str, Any], filler: ModuleType) -> SimpleMatch:
    with torch.device("meta"):
        model = SimpleMatch(config)
    model.to_empty(device="cpu").eval()
    state = {name: filler.fill(name, tuple(shape), record["seed"]) for name, shape in record["tensors"].items()}
    assert model.load_official_state_dict(state) == ([], [])
    return model


def _images(record: dict[str, Any], filler: ModuleType) -> tuple[Tensor, Tensor]:
    shape = (2, 3, *record["image_size"])
    source = filler.image("src", shape, record["seed"])
    return source, 0.6 * source.flip(3) + 0.4 * filler.image("trg", shape, record["seed"])


def _scores(model: SimpleMatch, index: int, source: list[Tensor], target: list[Tensor], keypoints: Tensor) -> Tensor:
    """Cosines (3, M) of the first pair's first three keypoints with every target cell of a level."""
    matcher, level = model.matchers[index], model.config.levels[index]
    size = (model.image_size, model.image_size)
    queries = matcher.proj(smk.gather_keypoints(source[level][:1], keypoints[:1, :3], size=size))
    return smk.cosine_similarity(queries, matcher.project(target[level][:1]))[0].flatten(1)


def _check_prediction(matches: smk.Matches, golden: dict[str, Tensor]) -> None:
    """Rows with a clear best cell agree; in the recorded runs all rows have one."""
    for b, count in enumerate(golden["num_keypoints"].tolist()):
        torch.testing.assert_close(
            matches.keypoints[b, :count], golden["prediction"][b, :count], atol=TOLERANCE, rtol=0
        )


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:.*meta parameter.*:UserWarning")
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_checkpoints_leave_nothing_missing_or_unexpected(name: str, shared_data: Path) -> None:
    path = shared_data / "spec" / "official_state_dicts.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    shapes: dict[str, list[int]] = json.loads(path.read_text())[name]
    with torch.device("meta"):
        model = SimpleMatch(preset(OFFICIAL[name]))
        state = {key: torch.empty(shape) for key, shape in shapes.items()}
    assert model.load_official_state_dict(state) == ([], [])
    used = {key: x for key, x in state.items() if not _without_use(key, name)}
    own = [key for key in model.state_dict() if name != "dinov2" or ".lora_" in key or not key.startswith("encoder.")]
    assert len(used) == len(own)
    assert model.load_official_state_dict(used) == ([], [])
    assert len(model.load_official_state_dict({})[0]) == len(own)


def _without_use(key: str, name: str) -> bool:
    """Classifiers, the last norm, and the second transposed convolution of a ViT's decoder."""
    if key.startswith("pair_image_encoder."):
        return key.split(".")[2] in ("norm", "head", "fc")
    return key.startswith("trans_conv2.") and name != "resnet101"
