"""Functions of other codebases replaced by ours: stand-ins with their names, parameters and mathematics."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from simplematch.drop_in.case import look_up
from simplematch.drop_in.cases import CODEBASES
from simplematch.drop_in.clone import opened
from simplematch.drop_in.verify import agrees, verify
from simplematch_kernels.integrations import NAMES, PatchError, integration, patch

STAND_INS = Path(__file__).parent / "stand_ins"


def stand_in(name: str) -> Path:
    """Its folder; Semantic-Correspondence has the functions of SD4Match."""
    return STAND_INS / ("sd4match" if name == "semantic_correspondence" else name)


@pytest.fixture(autouse=True)
def _no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in needs none of the packages that the functions of its codebase need."""
    for name, codebase in CODEBASES.items():
        monkeypatch.setitem(CODEBASES, name, replace(codebase, requires=()))


@pytest.fixture
def clone(request: pytest.FixtureRequest, _no_packages: None) -> Iterator[str]:
    """The name of a codebase whose stand-in can be imported."""
    with opened(integration(request.param), CODEBASES[request.param], stand_in(request.param)):
        yield request.param


def write_clone(folder: Path, text: str) -> Path:
    """A clone of CATs with this text as its module."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "cats.py").write_text(text)
    return folder


def import_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    for name in ("models", "models.cats"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_results_and_gradients_are_those_of_the_codebase(name: str) -> None:
    result = verify(name, stand_in(name), rounds=0)
    assert result["replaced"] == [x.place for x in integration(name).replacements]
    for row in result["cases"]:
        assert agrees(row), row
        assert row["compared"] > 0


@pytest.mark.parametrize("clone", NAMES, indirect=True)
def test_every_function_is_replaced_and_restored(clone: str) -> None:
    places = [x.place for x in integration(clone).replacements]
    before = [look_up(place) for place in places]
    with patch(clone) as patched:
        assert patched.replaced == tuple(places)
        assert all(look_up(place) != theirs for place, theirs in zip(places, before, strict=True))
    assert [look_up(place) for place in places] == before


@pytest.mark.parametrize("clone", ["chm"], indirect=True)
def test_a_class_method_is_restored_as_one(clone: str) -> None:
    geometry = look_up("model.base.geometry:Geometry")
    before = vars(geometry)["transfer_kps"]
    patched = patch(clone)
    assert isinstance(vars(geometry)["transfer_kps"], classmethod)
    assert vars(geometry)["transfer_kps"] is not before
    patched.unpatch()
    assert vars(geometry)["transfer_kps"] is before
    patched.unpatch()  # once more does nothing
    assert vars(geometry)["transfer_kps"] is before


@pytest.mark.parametrize("clone", ["sd4match"], indirect=True)
def test_names_imported_elsewhere_are_replaced_and_restored(clone: str) -> None:
    evaluator = import_module("utils.evaluator")
    before = dict(vars(evaluator))
    with patch(clone):
        assert evaluator.nearest is look_up("utils.matching:nn_get_matches") is not before["nearest"]
        assert evaluator.softargmax_get_matches is not before["softargmax_get_matches"]
    assert vars(evaluator) == before
    with patch(clone):
        del sys.modules["utils.evaluator"]
        evaluator = import_module("utils.evaluator")  # imports ours by name
    assert evaluator.nearest is before["nearest"]


@pytest.mark.parametrize("clone", ["semantic_correspondence"], indirect=True)
def test_names_in_other_packages_stay(clone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = look_up("utils.matching:nn_get_matches")
    monkeypatch.setattr(sys.modules[__name__], "theirs", theirs, raising=False)
    with patch(clone):
        assert sys.modules[__name__].__dict__["theirs"] is theirs


@pytest.mark.parametrize("clone", ["cats"], indirect=True)
def test_the_switch(clone: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    theirs = look_up("models.cats:CATs.soft_argmax")
    caplog.set_level(logging.INFO, "simplematch_kernels")
    monkeypatch.setenv("SIMPLEMATCH_INTEGRATIONS", "off")
    with patch(clone) as patched:
        assert patched.replaced == () and look_up("models.cats:CATs.soft_argmax") is theirs
    assert caplog.messages == ["cats: nothing is replaced, SIMPLEMATCH_INTEGRATIONS is off"]
    monkeypatch.setenv("SIMPLEMATCH_INTEGRATIONS", "no")
    with pytest.raises(ValueError, match="SIMPLEMATCH_INTEGRATIONS must be on or off, got 'no'"):
        patch(clone)
    monkeypatch.setenv("SIMPLEMATCH_INTEGRATIONS", "on")
    caplog.clear()
    with patch(clone):
        assert look_up("models.cats:CATs.soft_argmax") is not theirs
    assert caplog.messages == ["cats: models.cats:CATs.soft_argmax is replaced"]


@pytest.mark.parametrize("clone", ["cats"], indirect=True)
def test_an_error_in_the_block_restores(clone: str) -> None:
    theirs = look_up("models.cats:CATs.soft_argmax")
    with pytest.raises(RuntimeError, match="stop"), patch(clone):
        raise RuntimeError("stop")
    assert look_up("models.cats:CATs.soft_argmax") is theirs


@pytest.mark.parametrize("clone", ["cats"], indirect=True)
def test_a_second_patch_is_refused(clone: str) -> None:
    with patch(clone), pytest.raises(PatchError, match=r"is replaced already; call unpatch\(\) first"):
        patch(clone)


CATS = r"patch\('cats'\) looked for CATs.soft_argmax\(self, corr, beta=0.02\) in module models.cats of "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class CATs:\n    def soft_argmax(self, corr, beta=0.05): ...",
            r"which has soft_argmax\(self, corr, beta=0.05\)",
        ),
        ("class CATs:\n    def soft_argmax(self, corr): ...", r"which has soft_argmax\(self, corr\)"),
        ("class CATs:\n    def argmax(self, corr, beta=0.02): ...", "which has no such function"),
        ("class Cats: ...", "which has no class CATs"),
        ("CATs = 3", "which has no class CATs"),
        ("raise RuntimeError('broken')", r"which can't be imported \(RuntimeError: broken\)"),
        (
            "import no_such_package",
            r"which can't be imported \(ModuleNotFoundError: No module named 'no_such_package'\)",
        ),
    ],
)
def test_what_was_looked_for(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_written(write_clone(tmp_path, text), monkeypatch)
    with pytest.raises(PatchError, match=CATS + ".*" + message):
        patch("cats")


def test_nothing_is_replaced_if_one_function_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "utils").mkdir()
    text = (STAND_INS / "sd4match" / "utils" / "matching.py").read_text().replace("def kernel_", "def other_")
    (tmp_path / "utils" / "matching.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [x for x in sys.modules if x == "utils" or x.startswith("utils.")]:
        monkeypatch.delitem(sys.modules, name)
    before = dict(vars(import_module("utils.matching")))
    with pytest.raises(PatchError, match=r"kernel_softargmax_get_matches\(.*which has no such function"):
        patch("sd4match")
    assert vars(import_module("utils.matching")) == before
    del sys.modules["utils"], sys.modules["utils.matching"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"name must be one of cats, chm, .* got 'dog'"):
        patch("dog")


@pytest.mark.parametrize("clone", ["kornia"], indirect=True)
def test_scripts_compile_theirs(clone: str) -> None:
    """Directly, and where a module calls them by a name of its own module."""
    first, second = torch.randn(5, 8), torch.randn(6, 8)
    module = import_module("kornia.feature.matching")
    expected = module.match_nn(first, second)
    with patch(clone), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for scripted in (torch.jit.script(module.match_nn), torch.jit.script(module.DescriptorMatcher())):
            found = scripted(first, second)
            assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
            assert "cdist" in str(scripted.inlined_graph)


@pytest.mark.parametrize("clone", ["kornia"], indirect=True)
def test_what_ours_cannot_do_is_left_to_theirs(clone: str) -> None:
    first, second = torch.randn(5, 8), torch.randn(6, 8)
    given = torch.rand(5, 6)
    with patch(clone):
        match_nn = look_up("kornia.feature:match_nn")
        assert torch.equal(match_nn(first, second, given)[1][:, 1], given.argmin(1))
        ratio = look_up("kornia.feature:match_snn")(first.requires_grad_(), second, 1.0)[0]
        (gradient,) = torch.autograd.grad(ratio.sum(), first)
    distance = torch.cdist(first, second).sort(1).values
    (expected,) = torch.autograd.grad((distance[:, 0] / distance[:, 1]).sum(), first)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("clone", ["roma"], indirect=True)
def test_the_approximate_softmax_is_left_to_theirs(clone: str) -> None:
    model: Any = look_up("romatch.models.tiny:TinyRoMa")().eval()
    model.exact_softmax = False
    with patch(clone):
        assert model.pos_embed(torch.zeros(1, 4, 4, 4, 4)) == "approximate"


@pytest.mark.parametrize("clone", ["sd_dino"], indirect=True)
def test_masks_are_left_to_theirs(clone: str) -> None:
    maps, mask = torch.randn(1, 3, 4, 4), torch.ones(8, 8)
    with patch(clone):
        assert look_up("pck_tss:nearest_neighbor_flow")(maps, maps, (8, 8), mask, mask) == "with masks"


@pytest.mark.parametrize("clone", ["lightglue"], indirect=True)
def test_the_assignment_matrix_is_there_while_training(clone: str) -> None:
    assign = look_up("lightglue.lightglue:MatchAssignment")(8)
    with patch(clone):
        scores, _ = assign(torch.randn(1, 3, 8), torch.randn(1, 4, 8))
        assert scores.shape == (1, 4, 5)
        assert look_up("lightglue.lightglue:filter_matches")(scores, 0.1)[0].shape == (1, 3)


def test_a_program_is_patched_while_it_runs(tmp_path: Path) -> None:
    """The module that holds the function is then `__main__`."""
    text = (STAND_INS / "dift" / "eval_homography.py").read_text() + (
        "\n\nmatcher = mnn_matcher\n"
        "from simplematch_kernels.integrations import patch\n"
        "with patch('dift'):\n"
        "    print(hasattr(mnn_matcher, '__wrapped__'), hasattr(matcher, '__wrapped__'))\n"
        "print(hasattr(mnn_matcher, '__wrapped__'), 'eval_homography' in __import__('sys').modules)\n"
    )
    (tmp_path / "eval_homography.py").write_text(text)
    command = [sys.executable, str(tmp_path / "eval_homography.py")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=STAND_INS.parents[2])
    assert run.stdout.split() == ["True", "True", "False", "False"]
