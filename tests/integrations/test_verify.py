"""`simplematch verify-drop-in` and `simplematch integrations`, on stand-ins of codebases."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from simplematch.cli import main
from simplematch.drop_in.cases import CODEBASES
from simplematch.drop_in.clone import opened, version_of
from simplematch.drop_in.report import as_page
from simplematch.drop_in.stubs import stubbed
from simplematch_kernels.integrations import NAMES, integration

ROOT = Path(__file__).parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"


def copy_of_cats(folder: Path, **changes: str) -> Path:
    """The stand-in of CATs with other text."""
    text = (STAND_INS / "cats" / "models" / "cats.py").read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "cats.py").write_text(text)
    return folder


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and standard error of a command that fails."""
    with pytest.raises(SystemExit) as stopped:
        main(["verify-drop-in", *arguments])
    return int(str(stopped.value.code)), capsys.readouterr().err.strip()


def test_a_clone_that_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "found.json", tmp_path / "found.html"]
    clone = copy_of_cats(tmp_path / "clone")
    (clone / ".git").mkdir()
    (clone / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (clone / ".git" / "refs" / "heads").mkdir(parents=True)
    (clone / ".git" / "refs" / "heads" / "main").write_text("0123456789abcdef\n")
    main(["verify-drop-in", "cats", str(clone), "--rounds", "1", "--output", str(files[0]), "--html", str(files[1])])
    printed = capsys.readouterr().out
    assert "cats (SunghwanHong/Cost-Aggregation-transformers at 0123456789): 2 of 2 cases agree" in printed
    found = json.loads(files[0].read_text())
    assert found["version"] == version_of(clone) == "0123456789abcdef"
    assert found["replaced"] == ["models.cats:CATs.soft_argmax"]
    for row in found["cases"]:
        assert 0 < row["difference"] < 5e-3 and 0 < row["gradient_difference"] < 1e-4 and row["apart"] == 0
        for cost in (row["forward"], row["forward_and_backward"]):
            assert min(cost["theirs_ms"], cost["ours_ms"], cost["time_ratio"]) > 0
        assert row["title"] in printed and row["title"] in files[1].read_text()
    assert files[1].read_text().count("<tr>") == 1 + len(found["cases"])


def test_a_clone_that_differs_exits_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clone = copy_of_cats(tmp_path, other=("x / beta", "x / beta / 2"))
    with pytest.raises(SystemExit) as stopped:
        main(["verify-drop-in", "cats", str(clone), "--rounds", "1"])
    assert stopped.value.code == 1
    assert "0 of 2 cases agree" in capsys.readouterr().out


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.mkdir()
    older = copy_of_cats(tmp_path / "older", other=("beta=0.02", "beta=0.1"))
    needs = copy_of_cats(tmp_path / "needs", other=("import torch\n", "import torch\nimport no_such_package\n"))
    repository = "SunghwanHong/Cost-Aggregation-transformers"
    for arguments, message in (
        (("cats", str(missing)), f"{missing} is no folder; it must be a clone of {repository}."),
        (("cats", str(empty)), f"{empty} is no clone of {repository}: it has no models/cats.py."),
        (("cats", str(older)), "which has soft_argmax(self, corr, beta=0.1); it is another version of the code."),
        (("cats", str(needs)), "cats needs the package no_such_package, which is not installed."),
        (("dog", str(empty)), "name must be one of cats, chm,"),
        (("cats", str(older), "--rounds", "0"), "rounds must be a whole number above zero, got 0"),
        (("cats", str(older), "--output", str(missing / "x.json")), "can't be written"),
    ):
        status, text = failure(capsys, *arguments)
        assert status == 2 and message in text and "\n" not in text, text


def test_the_process_is_as_it_was(tmp_path: Path) -> None:
    before = (dict(sys.modules), list(sys.path), list(sys.meta_path), torch.Tensor.cuda)
    with opened(integration("cats"), CODEBASES["cats"], STAND_INS / "cats"):
        assert __import__("models.cats").cats.__file__ == str(STAND_INS / "cats" / "models" / "cats.py")
        assert __import__("timm").anything.__class__.__name__ == "Stub"
    assert (dict(sys.modules), list(sys.path), list(sys.meta_path), torch.Tensor.cuda) == before


def test_stand_ins_of_packages() -> None:
    with stubbed(("no_such_package",), {}):
        import no_such_package.deep.inside as inside  # type: ignore[import-not-found]
        from no_such_package import Base, registry

        class Model(Base):  # type: ignore[misc]
            value = 3

        @registry.register("name")
        def function() -> int:
            return 4

        assert Model().value == 3 and function() == 4
        assert isinstance(inside.anything[0](1).more, type(registry))
        with pytest.raises(ModuleNotFoundError):
            __import__("another_missing_package")
    assert not any(name.startswith("no_such_package") for name in sys.modules)


def test_the_page_is_that_of_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = ROOT / "docs" / "integrations"
    if not results.is_dir():
        pytest.skip("the results are not here")
    main(["integrations", "--results", str(results), "--output", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == (ROOT / "docs" / "integrations.md").read_text()
    with pytest.raises(SystemExit) as stopped:
        main(["integrations", "--results", str(tmp_path / "none"), "--output", str(tmp_path / "page.md")])
    assert stopped.value.code == 2 and "has no results; run simplematch verify-drop-in" in capsys.readouterr().err


def test_the_tool_runs_every_clone_and_skips_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ROOT / "tools" / "integrations.py"
    if not file.is_file():
        pytest.skip("the tools are not here")
    spec = spec_from_file_location("integrations_tool", file)
    assert spec is not None and spec.loader is not None
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name in ("cats", "chm"):
        (tmp_path / name).mkdir()
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=int("chm" in command))

    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "find_spec", lambda name: None)
    monkeypatch.setattr(tool.subprocess, "run", run)
    (tmp_path / "docs").mkdir()
    assert tool.main(tmp_path) == 1
    verified = [command[command.index("verify-drop-in") + 1] for command in commands[:-1]]
    assert verified == ["cats", "chm"] and commands[-1][-1] == "integrations"
    printed = capsys.readouterr().out
    assert f"dift: no clone in {tmp_path}" in printed and "failed: chm" in printed


def test_the_page_names_every_codebase() -> None:
    page = as_page([])
    for name in NAMES:
        assert f"## {name}\n" in page and f"| `{name}` | not on a clone | |" in page
        assert (ROOT / "examples" / "integrations" / name / "README.md").is_file()
