"""Outputs of the commands on full disks, over links and at invalid paths: one sentence, and no partial files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simplematch import _files
from simplematch.cli import main
from simplematch.data import AP10K, DataError, prepare_ap10k
from simplematch.data import prepare as prepare_module
from simplematch.training import ablation

from .data.trees import make_ap10k, make_spair, write_image, write_json
from .models.tiny import tiny_model

Sentence = Callable[..., str]
# Imported by name, because the package has functions of the same names.
draw_module, evaluate_module, match_module = (
    import_module(f"simplematch.commands.{name}") for name in ("draw", "evaluate", "match")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` in the layout of SPair-71k, a tiny `model`, and two photographs."""
    root = tmp_path_factory.mktemp("outputs")
    make_spair(root / "data")
    tiny_model("efficientnet-lite0-256").save_pretrained(root / "model")
    for i, name in enumerate("ab"):
        write_image(root / f"{name}.png", i, 64, 48)
    return root


@pytest.fixture
def sentence(capsys: pytest.CaptureFixture[str]) -> Sentence:
    """Run a command that must fail, and return its only line on standard error."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, arguments)))
        error = capsys.readouterr().err.strip()
        assert caught.value.code == 2 and error.startswith("simplematch: ") and "\n" not in error
        return error.removeprefix("simplematch: ")

    return run


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_files.os, "fsync", full)


def evaluating(folder: Path, *more: object) -> list[object]:
    return ["eval", "--dataset", "spair", "--root", folder / "data", "--checkpoint", folder / "model", *more]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def earlier(folder: Path, *names: str) -> dict[str, str]:
    """Write files of an earlier call."""
    for name in names:
        (folder / name).write_text("earlier")
    return contents(folder)


@pytest.mark.usefixtures("full_disk")
def test_eval_on_a_full_disk(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = earlier(tmp_path, "r.json", "r.csv", "p.jsonl")
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, evaluating(folder, "--output", tmp_path / "r.json", "--predictions", tmp_path / "p.jsonl"))))
    printed = capsys.readouterr()
    assert caught.value.code == 2 and contents(tmp_path) == before
    assert "per image" in printed.out  # the results of a long run are still printed
    assert printed.err.count("\n") == 1
    assert "r.json can't be written, no space left on device: free some space" in printed.err
    assert "(the file that was there is unchanged)" in printed.err


@pytest.mark.usefixtures("full_disk")
def test_match_draw_and_curve_on_a_full_disk(folder: Path, tmp_path: Path, sentence: Sentence) -> None:
    before = earlier(tmp_path, "m.json", "m.csv", "m.png", "d.png", "c.png")
    pictures = [folder / "a.png", folder / "b.png"]
    data = ["--dataset", "spair", "--root", folder / "data", "--pairs", 1]
    result = write_json(folder / "result.json", {"results": [headline()]})
    for arguments, name in (
        (["match", *pictures, "--model", folder / "model", "--output", tmp_path / "m"], "m.json"),
        (["draw", "--models", folder / "model", *data, "--output", tmp_path / "d.png"], "d.png"),
        (["curve", result, "--output", tmp_path / "c.png"], "c.png"),
    ):
        assert f"{name} can't be written, no space left on device" in sentence(*arguments)
        assert contents(tmp_path) == before


def test_a_full_disk_behind_what_is_printed(
    tmp_path: Path, sentence: Sentence, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "a.png")
    command = ["stats", "--dataset", "images", "--root", str(tmp_path)]
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert sentence(*command) == "standard output: no space left on device"
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 1 and capsys.readouterr().err == ""
    # Closing both, as Python does at exit, raises nothing.


def test_wrong_places_are_named_before_the_work(
    folder: Path, tmp_path: Path, sentence: Sentence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, "load_model", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr(match_module, "open_image", lambda *_: pytest.fail("it began"))
    for option, name in (("--output", "none/r.json"), ("--predictions", "none/p.jsonl")):
        error = sentence(*evaluating(folder, option, tmp_path / name))
        assert error.endswith(f"{name} can't be written, no such file or directory: make its folder first.")
    (tmp_path / "r.csv").mkdir()
    assert "r.csv can't be written, is a directory: name a file" in sentence(
        *evaluating(folder, "--output", tmp_path / "r.json")
    )
    error = sentence("match", folder / "a.png", folder / "b.png", "--output", tmp_path / "none/m")
    assert "none/m.json can't be written" in error
    assert os.listdir(tmp_path) == ["r.csv"]


def test_files_that_would_replace_one_another(folder: Path, tmp_path: Path, sentence: Sentence) -> None:
    error = sentence(*evaluating(folder, "--output", tmp_path / "r.csv"))
    assert error.startswith("output must not end in .csv, the suffix of the table beside it")
    for name in ("r.json", "r.csv"):
        error = sentence(*evaluating(folder, "--output", tmp_path / "r.json", "--predictions", tmp_path / name))
        assert error.startswith("predictions must differ from output and its table")


def test_match_never_replaces_its_photographs(folder: Path, tmp_path: Path, sentence: Sentence) -> None:
    photograph = (tmp_path / "a.png").write_bytes((folder / "a.png").read_bytes()) and tmp_path / "a.png"
    (tmp_path / "link.png").symlink_to("a.png")
    for name in ("a", "link"):
        error = sentence("match", photograph, folder / "b.png", "--output", tmp_path / name)
        assert error.startswith("output must not overwrite an input image")
    assert photograph.read_bytes() == (folder / "a.png").read_bytes() and len(os.listdir(tmp_path)) == 2


def test_links_stay_and_their_files_are_replaced(folder: Path, tmp_path: Path) -> None:
    for name in ("r.json", "p.jsonl"):
        (tmp_path / f"real-{name}").write_text("earlier")
        (tmp_path / name).symlink_to(f"real-{name}")
    main(list(map(str, evaluating(folder, "--output", tmp_path / "r.json", "--predictions", tmp_path / "p.jsonl"))))
    assert {path.name for path in tmp_path.iterdir() if path.is_symlink()} == {"r.json", "p.jsonl"}
    assert json.loads((tmp_path / "real-r.json").read_text())["results"]
    assert len((tmp_path / "real-p.jsonl").read_text().splitlines()) == 4
    assert not list(tmp_path.glob(".*"))


def test_match_draws_the_pixels_that_it_matched(folder: Path, tmp_path: Path) -> None:
    """A 16-bit image is drawn like the 8-bit image."""
    grey = np.array(Image.open(folder / "a.png").convert("L"))
    wide = grey.astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    pictures = []
    for name in ("wide", "grey"):
        output = tmp_path / f"out-{name}"
        main(["match", str(tmp_path / f"{name}.png"), str(folder / "b.png"), "--model", str(folder / "model"),
              "--output", str(output)])  # fmt: skip
        drawn = np.array(Image.open(output.with_suffix(".png")).convert("RGB")).astype(int)
        pictures.append((drawn[40:], json.loads(output.with_suffix(".json").read_text())["matches"]))
    assert pictures[0][1] == pictures[1][1]
    assert (pictures[0][0] == pictures[1][0]).all()  # below the title


def test_match_says_what_is_odd_about_a_photograph(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "long.png", width=4, height=300)
    main(["match", str(tmp_path / "long.png"), str(folder / "b.png"), "--model", str(folder / "model"),
          "--output", str(tmp_path / "out")])  # fmt: skip
    (record,) = [record for record in caplog.records if record.name == "simplematch.commands.match"]
    assert record.getMessage().startswith(f"image_a {tmp_path / 'long.png'} is 4 x 300 pixels; below 16 pixels a side")


def headline(**changes: Any) -> dict[str, Any]:
    return {"headline": [0.5, None], "protocol": {"alphas": [0.1, 0.2], "threshold": "bbox"}} | changes


def test_curves_of_results_with_one_name_and_without_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(draw_module, "draw_curves", lambda curves, _: drawn.update(curves))
    monkeypatch.setattr(draw_module, "save_figure", lambda *_: None)
    files = [write_json(tmp_path / name / "result.json", {"results": [headline()]}) for name in ("one", "two")]
    main(["curve", ",".join(map(str, files))])
    assert list(drawn) == [str(file) for file in files]
    alphas, pck = drawn[str(files[0])]
    assert alphas == [0.1, 0.2] and pck[0] == 0.5 and np.isnan(pck[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is not a result of simplematch eval --output"),
        (json.dumps({"results": {"0": 1}}), "is not a result of"),
        (json.dumps({"results": [headline(headline=[1, 2, 3])]}), "is not a result of"),
        (json.dumps({"results": [headline(headline="ab")]}), "is not a result of"),
        (json.dumps({"results": [headline(protocol=[])]}), "is not a result of"),
        ('{"results": [NaN]}', "NaN is not a JSON number"),
        ('{"results": [1e999]}', "the number 1e999 is too large"),
        ('{"results": 1, "results": 2}', "the key 'results' appears twice"),
        ("[" * 5000, "it is nested too deeply"),
        ("[]", "must hold a JSON object, got list"),
    ],
)
def test_results_that_are_none(text: str, message: str, tmp_path: Path, sentence: Sentence) -> None:
    (tmp_path / "result.json").write_text(text)
    error = sentence("curve", tmp_path / "result.json", "--output", tmp_path / "c.png")
    assert f"{tmp_path / 'result.json'}" in error and message in error
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("text", ['{"all": [0.1]}', '{"all": "abc"}', '{"all": [0.1, NaN, 0.3]}', "[]", "{"])
def test_results_of_an_ablation_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DataError, match=r"result\.json "):
        ablation._read_result(tmp_path / "result.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1, NaN]]", "NaN is not a JSON number"),
        ("[[1, 1e999]]", "the number 1e999 is too large"),
        ("[" * 5000, "it is nested too deeply"),
        ('{"x": 1, "x": 2}', "the key 'x' appears twice"),
    ],
)
def test_points_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "points.json").write_text(text)
    with pytest.raises(DataError, match=rf"points .*points\.json must hold x and y of each point, .*: .*{message}"):
        match_module.read_points(str(tmp_path / "points.json"))


def test_prepared_pairs_appear_when_all_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "sync", lambda: synced.append((tmp_path / "out/PairAnnotation").exists()))
    make_ap10k(tmp_path / "raw", 55)
    whole = prepare_module._write_pairs
    calls = []

    def until_the_disk_is_full(folder: Path, pairs: Any) -> int:
        calls.append(folder)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(folder, pairs)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "_write_pairs", until_the_disk_is_full)
        with pytest.raises(_files.WriteError, match="PairAnnotation can't be written, no space left on device"):
            prepare_ap10k(tmp_path / "raw", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["ImageAnnotation", "JPEGImages"]
    write_json(tmp_path / "out/PairAnnotation.part/trn/half.json", {})  # left by a killed process
    counts = prepare_ap10k(tmp_path / "raw", tmp_path / "out")
    assert len(AP10K(tmp_path / "out", "trn")) == counts["trn"]
    assert sorted(os.listdir(tmp_path / "out")) == ["ImageAnnotation", "JPEGImages", "PairAnnotation"]
    assert not list((tmp_path / "out").rglob(".*")) and synced == [False]


def test_copies_replace_links_and_leave_the_raw_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)  # it would wait for all other writes on the machine
    make_ap10k(tmp_path / "raw", 53)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "raw/data").iterdir()}
    prepare_ap10k(tmp_path / "raw", tmp_path / "out")
    for path in (tmp_path / "out/PairAnnotation").rglob("*.json"):
        path.unlink()
    for path in (tmp_path / "out/PairAnnotation").iterdir():
        path.rmdir()
    prepare_ap10k(tmp_path / "raw", tmp_path / "out", images="copy")
    assert not any(path.is_symlink() for path in (tmp_path / "out/JPEGImages").rglob("*"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "raw/data").iterdir()} == before
