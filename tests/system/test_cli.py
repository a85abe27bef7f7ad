"""The commands, run through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from simplematch.cli import main
from simplematch.models.signed import is_edited
from simplematch.training import TrainConfig

from .training.test_training import configuration


def test_eval_writes_what_it_prints(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, predictions = tmp_path / "result.json", tmp_path / "predictions.jsonl"
    data = ["--dataset", "images", "--root", str(photographs), "--backend", "reference"]
    main(["eval", *data, "--output", str(output), "--predictions", str(predictions)])
    printed = capsys.readouterr().out
    assert "6 pairs of 8 images, 8 encoded" in printed
    (result,) = json.loads(output.read_text())["results"]
    assert result["description"] in printed and 0 <= result["headline"][2] <= 1
    with output.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["pck"]) == result["overall"]["per_image"][0]
    assert len(predictions.read_text().splitlines()) == 7


def test_train_resume_and_eval(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.json"  # JSON is valid YAML
    config: TrainConfig = configuration(photographs, tmp_path / "out", evaluate_every=9)
    run.write_text(json.dumps(config.to_dict()))
    main(["train", "--config", str(run), "--fields", '{"max_steps": 2}'])
    assert "stopped, resume with --resume true: 2 steps" in capsys.readouterr().out
    main(["train", "--config", str(run), "--resume", "true", "--allow-changes=true"])
    assert "done: 6 steps" in capsys.readouterr().out
    last = tmp_path / "out/last"
    main(["eval", "--dataset", "images", "--root", str(photographs), "--checkpoint", str(last), "--card", "true"])
    assert "image 64 x 64" in capsys.readouterr().out
    splits = [x.dataset_split for x in ModelCard.load(last / "README.md").data.eval_results or ()]
    assert splits == ["val"] * 3 + ["test"] * 3
    assert not is_edited((last / "README.md").read_text()) and "after step 6" in (last / "README.md").read_text()


def test_stats(photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats", "--dataset", "images", "--root", str(photographs), "--grids", "4"])
    assert "4x4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "--dataset", "spair", "--root", "nowhere"], "the folder nowhere is missing"),
        (
            ["eval", "--dataset", "spair", "--root", ".", "--preset", "x"],
            "model must be the folder of a checkpoint, a repository owner/name of the hub, or one of",
        ),
        (
            ["stats", "--dataset", "spair", "--root", ".", "--grids", "4,x"],
            "grids must be comma-separated whole numbers above zero",
        ),
        (["eval", "--believe", "pair"], "option --believe must be given as --annotations"),
        (["eval", "--believe=pair"], "option --believe must be given as --annotations"),
        (
            ["train", "--recipe", "ibot-spair-256", "--root", ".", "--output", "o", "--fields.exchange", "0.5"],
            "must have the field 'swap', got its earlier name 'exchange'",
        ),
        (["eval", "--dataset", "spair", "--root", ".", "--card", "true"], "card must be false unless checkpoint is a"),
        (["train"], "train needs --recipe or --config, and not both"),
        (["train", "--recipe", "ibot-spair-256"], "train --recipe needs --root and --output"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    error = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and message in error and "\n" not in error
