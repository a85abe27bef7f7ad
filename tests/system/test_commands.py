"""`simplematch draw | curve | ablate | doctor`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simplematch.cli import main
from simplematch.training import TrainConfig
from simplematch.training.ablation import NAMES, rows_of
from simplematch.training.ablation_tables import PAPER, markdown
from simplematch.viz import MatchPanel, draw_curves, draw_grid
from simplematch.viz.matches import RIGHT, WRONG

from .data.trees import make_spair
from .models.tiny import CHANGES, tiny_model

TINY = CHANGES["efficientnet-lite0-256"]


def colour_count(path: Path, colour: str) -> int:
    """Count the pixels of an image that are close to a colour such as #ff0000."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    pixels = np.array(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - wanted).max(-1) < 30).sum())


def test_draw_has_a_column_for_each_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spair(tmp_path / "data")
    for name in ("one", "two"):
        tiny_model("efficientnet-lite0-256").save_pretrained(tmp_path / name)
    sizes = []
    for models in (["one"], ["one", "two"]):
        picture = tmp_path / f"{len(models)}.png"
        names = ",".join(str(tmp_path / name) for name in models)
        data = ["--dataset", "spair", "--root", str(tmp_path / "data"), "--pairs", "2"]
        main(["draw", "--models", names, *data, "--output", str(picture)])
        sizes.append(Image.open(picture).size)
    assert sizes[1][1] == sizes[0][1] and sizes[1][0] > 1.8 * sizes[0][0]
    assert f"written: {tmp_path / '2.png'}" in capsys.readouterr().out


def test_lines_are_green_where_right_and_red_where_wrong(tmp_path: Path) -> None:
    blank = np.zeros((40, 60, 3), np.uint8)
    points = np.array([[10.0, 10.0], [50.0, 30.0]])
    counts = []
    for correct in ([True, True], [True, False], [False, False]):
        panel = MatchPanel(blank, blank, points, points, correct=np.array(correct), title="title")
        draw_grid([[panel]]).savefig(tmp_path / "p.png")
        counts.append((colour_count(tmp_path / "p.png", RIGHT), colour_count(tmp_path / "p.png", WRONG)))
    assert counts[0][0] > counts[1][0] > counts[2][0] == 0
    assert counts[2][1] > counts[1][1] > counts[0][1] == 0


def test_curve_draws_results_of_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spair(tmp_path / "data")
    tiny_model("efficientnet-lite0-256").save_pretrained(tmp_path / "model")
    result = str(tmp_path / "result.json")
    data = ["--dataset", "spair", "--root", str(tmp_path / "data"), "--checkpoint", str(tmp_path / "model")]
    main(["eval", *data, "--output", result])
    main(["curve", result, "--output", str(tmp_path / "curve.png")])
    assert Image.open(tmp_path / "curve.png").size[0] > 400
    lines = draw_curves({"a": ([0.1, 0.2], [0.5, 0.75])}).axes[0].lines
    assert lines[0].get_ydata().tolist() == [50, 75]  # type: ignore[union-attr]
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["curve", str(tmp_path / "other.json")])
    assert "other.json is not a result of simplematch eval --output" in capsys.readouterr().err


def test_ablate_trains_each_row_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spair(tmp_path / "data")
    fields = {
        "epochs": 1, "batch_size": 1, "group_size": 2, "pretrained": False, "model": TINY, "workers": 0,
        "precision": "fp32", "log_every": 1,
    }  # fmt: skip
    command = ["ablate", "feature-map-size", str(tmp_path / "data"), str(tmp_path / "out"), "--fields"]
    main([*command, json.dumps(fields)])
    printed = capsys.readouterr().out
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert list(table["rows"]) == ["4x4 of 64 x 64", "8x8 of 64 x 64", "16x16 of 64 x 64"]
    for title, found in table["rows"].items():
        assert title in printed and len(found["all"]) == len(table["alphas"]) == 3
    lines = (tmp_path / "out/table.md").read_text().splitlines()
    assert lines[0] == "| feature-map-size | all | cat face | the paper's Table 9, SPair-71k |"
    assert lines[2].startswith("| 4x4 of 64 x 64 | ") and lines[2].endswith(" |  |")  # not a row of the paper
    models = sorted((tmp_path / "out").glob("*/last/model.safetensors"))
    written = [path.stat().st_mtime_ns for path in models]
    main([*command, json.dumps(fields)])
    assert capsys.readouterr().out == printed
    assert [path.stat().st_mtime_ns for path in models] == written

    with pytest.raises(SystemExit):  # a result with other settings doesn't belong to this table
        main([*command, json.dumps(fields | {"learning_rate": 1e-5})])
    error = capsys.readouterr().err
    assert "learning_rate must be 0.001, as in the run in" in error
    assert "got 1e-05: choose another output folder" in error


def configuration(preset: str, tmp_path: Path) -> TrainConfig:
    return TrainConfig(preset=preset, dataset="spair", root=tmp_path, output=tmp_path)


@pytest.mark.parametrize(
    ("name", "preset", "expected"),
    [
        ("window", "ibot-b16-256", [((2,), (x,)) for x in (9, 15, 30, 45, 60)]),
        ("multi-scale-loss", "resnet101-256", [((0, 1, 2), (None, 15, 30)), ((2,), (30,))]),
        ("feature-map-size", "resnet101-256", [((0,), (None,)), ((0, 1), (None, 15)), ((0, 1, 2), (None, 15, 30))]),
        ("feature-map-size", "ibot-b16-256", [((0,), (None,)), ((1,), (23,)), ((2,), (45,))]),
    ],
)
def test_rows_change_levels_and_windows(name: str, preset: str, expected: list[object], tmp_path: Path) -> None:
    from simplematch.models import preset as configuration_of

    own = configuration_of(preset)
    rows = [
        {"levels": own.levels, "windows": own.windows} | row.model
        for row in rows_of(name, configuration(preset, tmp_path))
    ]
    assert [(tuple(row["levels"]), tuple(row["windows"])) for row in rows] == expected


def test_rows_of_resolutions_fit_the_patches(tmp_path: Path) -> None:
    sizes = [row.model["image_size"] for row in rows_of("resolution", configuration("dinov2-b14-252", tmp_path))]
    assert sizes == [252, 322, 378, 448, 518]
    rows = rows_of("feature-map-size", configuration("ibot-b16-256", tmp_path), [256, 512])
    assert [row.title.split()[0] for row in rows] == ["16x16", "32x32", "64x64", "32x32", "64x64", "128x128"]


@pytest.mark.parametrize("name", NAMES)
def test_tables_stand_beside_the_papers(name: str, tmp_path: Path) -> None:
    """Every row of the paper's table has a row of ours, and its numbers are in the last column."""
    config = configuration("efficientnet-lite0-256", tmp_path)
    sizes = [256, 512] if name == "feature-map-size" else None
    table = {row.title: {"all": [0.5, 0.625, 1.0]} for row in rows_of(name, config, sizes)}
    number, paper = PAPER[name]
    lines = markdown(name, table).splitlines()
    assert lines[0] == f"| {name} | all | the paper's {number}, SPair-71k |" and set(paper) <= set(table)
    for title, line in zip(table, lines[2:], strict=True):
        theirs = " / ".join("-" if x is None else f"{x:.1f}" for x in paper[title]) if title in paper else ""
        assert line == f"| {title} | 50.0 / 62.5 / 100.0 | {theirs} |"


def test_unknown_ablation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"name must be one of {', '.join(NAMES)}, got 'colour'"):
        rows_of("colour", configuration("ibot-b16-256", tmp_path))
    with pytest.raises(ValueError, match="sizes must be None for multi-scale-loss"):
        rows_of("multi-scale-loss", configuration("resnet101-256", tmp_path), [3])
    with pytest.raises(ValueError, match="contrast must be 0 for multi-scale-loss"):
        config = configuration("resnet101-256", tmp_path)
        rows_of("multi-scale-loss", replace(config, contrast=1.0, group_size=2))
    with pytest.raises(ValueError, match="preset must have several levels for multi-scale-loss"):
        rows_of("multi-scale-loss", configuration("ibot-b16-256", tmp_path))


def test_doctor_names_what_is_there_and_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_spair(tmp_path / "somewhere/SPair-71k")
    monkeypatch.setenv("SIMPLEMATCH_DATA", str(tmp_path))
    main(["doctor"])
    printed = capsys.readouterr().out
    assert f"spair: {tmp_path / 'somewhere'}" in printed
    assert "pf-willow: not found; it must have test_pairs.csv" in printed
    assert "https://www.di.ens.fr/willow/research/proposalflow" in printed
    for text in ("torch 2.", "cpu: ", "processor: bf16", "ibot-b16-256", "https://github.com/bytedance/ibot"):
        assert text in printed
