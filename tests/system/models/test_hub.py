"""Models in folders, in the hub's cache and on the hub, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelHubMixin, constants, hub_mixin
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import save_file

from simplematch.models import NearestConfig, NearestNeighbour, SimpleMatch, load_model
from simplematch.models import hub as own_hub

from .kinds import KINDS, Model
from .tiny import pair, tiny_config, tiny_model

COMMITS = {"main": "1" * 40, "v1": "2" * 40}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_HUB_OFFLINE=1 sets when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def cached(cache: Path, revision: str, model: Model) -> None:
    """Put a model into a cache as a download of owner/name does."""
    repository = cache / "models--owner--name"
    model.save_pretrained(repository / "snapshots" / COMMITS[revision])
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(COMMITS[revision])


def assert_same(expected: Model, actual: Model) -> None:
    """Equal types and configurations, and results equal to the bit."""
    assert type(actual) is type(expected) and actual.config == expected.config and not actual.training
    inputs = pair(expected.image_size)
    with torch.inference_mode():
        for x, y in zip(expected(*inputs), actual(*inputs), strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_a_folder_and_the_cache(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind]()
    assert isinstance(model, ModelHubMixin)
    model.save_pretrained(tmp_path / "folder")
    assert sorted(x.name for x in (tmp_path / "folder").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    cached(tmp_path / "cache", "main", model)
    assert_same(model, type(model).from_pretrained(tmp_path / "folder"))
    assert_same(model, load_model(str(tmp_path / "folder")))
    assert_same(model, load_model("owner/name", cache_dir=tmp_path / "cache"))


def test_revisions_are_told_apart(tmp_path: Path) -> None:
    models = {"main": tiny_model("resnet101-256").eval(), "v1": tiny_model("ibot-b16-256").eval()}
    for revision, model in models.items():
        cached(tmp_path, revision, model)
    for local_files_only in (False, True):
        options: dict[str, Any] = {"cache_dir": tmp_path, "local_files_only": local_files_only}
        assert_same(models["main"], SimpleMatch.from_pretrained("owner/name", **options))
        assert_same(models["v1"], SimpleMatch.from_pretrained("owner/name", revision="v1", **options))
        assert_same(models["v1"], load_model("owner/name", revision=COMMITS["v1"], **options))


def test_a_folder_goes_before_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = KINDS["nearest-pyramid"]()
    model.save_pretrained("owner/name")
    assert_same(model, load_model("owner/name"))


def test_a_configuration_survives_json() -> None:
    for config in (NearestConfig("test_vit", 1, 64), NearestConfig("test_efficientnet", None)):
        assert NearestConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_models_of_earlier_versions_have_no_type(tmp_path: Path) -> None:
    model = tiny_model("resnet101-256").eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    (tmp_path / "README.md").unlink()
    assert_same(model, SimpleMatch.from_pretrained(tmp_path))
    assert_same(model, load_model(tmp_path))


def test_another_type_is_one_sentence(tmp_path: Path) -> None:
    KINDS["nearest-pyramid"]().save_pretrained(tmp_path)
    message = r"config.json must have the model_type 'simplematch', got 'nearest-neighbour': load it with the class of"
    with pytest.raises(ValueError, match=message):
        SimpleMatch.from_pretrained(tmp_path)
    tiny_model("resnet101-256").save_pretrained(tmp_path)
    message = r"config.json must have the model_type 'nearest-neighbour', got 'simplematch': load it with the class of"
    with pytest.raises(ValueError, match=message):
        NearestNeighbour.from_pretrained(tmp_path)


@pytest.mark.parametrize("found", ["bert", ["simplematch"], None])
def test_a_model_of_another_library_is_one_sentence(found: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": found, "hidden_size": 8}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"config.json must have a model_type of 'simplematch', 'nearest-neighbour', "):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=r"config.json must have the model_type 'simplematch', got .*: load it with"):
        SimpleMatch.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, r"config.json has the unknown field 'colour'; known are block, encoder"),
        ({"block": -1}, r"config.json: block must be a whole number from zero, or null for a pyramid, got -1"),
        ({"block": 9}, r"block must be 0 to \d+ for 'test_vit', got 9"),
        ({"encoder": 3}, r"config.json: encoder must be the name of a timm model, got 3"),
        ({"encoder": "hf-hub:a/b"}, r"encoder must be the name of a timm model, such as"),
        ({"image_size": 60}, r"image_size must be a multiple of 16 and 4, got 60"),
        (
            {"image_size": "big"},
            r"config.json: image_size must be a whole number above zero, or a height .*, got 'big'",
        ),
        ({"std": [0, 1, 1]}, r"config.json: std must hold 3 numbers above zero, got \(0, 1, 1\)"),
        ({"mean": 5}, r"config.json: mean must be a list, got 5"),
    ],
)
def test_wrong_fields_of_a_matcher_are_one_sentence(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    KINDS["nearest-vit"]().save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | change))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_missing_files_are_one_sentence(tmp_path: Path) -> None:
    cached(tmp_path, "main", KINDS["nearest-vit"]())
    (snapshot,) = (tmp_path / "models--owner--name/snapshots").iterdir()
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*snapshots/1+/model.safetensors"):
        load_model("owner/name", cache_dir=tmp_path)
    (snapshot / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*snapshots/1+/config.json"):
        NearestNeighbour.from_pretrained("owner/name", cache_dir=tmp_path)
    message = r"got 'owner/other': there is no such folder, and it can't be downloaded and isn't in the cache: connect"
    with pytest.raises(FileNotFoundError, match=message):
        load_model("owner/other", cache_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"got 'owner/name': .* and it can't be downloaded and isn't in the"):
        load_model("owner/name", cache_dir=tmp_path, revision="v7")


def test_refusals_of_the_hub_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, message in (
        (
            refusal(RepositoryNotFoundError),
            "the hub has no such repository, or hides it: check the name, or give",
        ),
        (refusal(own_hub.RevisionNotFoundError), "the repository has no revision 'v7': name one of its branches"),
        (refusal(HfHubHTTPError), "the hub refuses: no"),
    ):

        def refuse(*arguments: object, error: Exception = error, **options: object) -> str:
            raise error

        monkeypatch.setattr(own_hub, "snapshot_download", refuse)
        with pytest.raises(FileNotFoundError, match=message):
            SimpleMatch.from_pretrained("owner/name", revision="v7")


def refusal(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    error = kind.__new__(kind)  # its own arguments hold a response of the client library
    error.args = ("no\nand more",)
    return error


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "./a", "~/a/b"])
def test_names_that_are_no_repository(name: str) -> None:
    with pytest.raises(ValueError, match=r"model must be the folder of a checkpoint, a repository owner/name of the "):
        load_model(name)
    with pytest.raises(FileNotFoundError, match=r"path must be a folder that save_pretrained wrote, but there is no"):
        SimpleMatch.from_pretrained(name)


class Hub:
    """Stands for `huggingface_hub.HfApi`, and keeps what is uploaded."""

    def __init__(self, card: str | None = None) -> None:
        self.card, self.files, self.options = card, dict[str, bytes](), dict[str, Any]()

    def __call__(self, token: str | None = None) -> Hub:
        return self

    def create_repo(self, repo_id: str, **options: object) -> Any:
        return type("Address", (), {"repo_id": repo_id})

    def upload_folder(self, *, folder_path: Path, **options: Any) -> str:
        ignored = options.get("ignore_patterns") or ()
        self.files = {x.name: x.read_bytes() for x in Path(folder_path).iterdir() if x.name not in ignored}
        self.options = options
        return "https://hub/commit"

    def download(self, folder: Path, *arguments: object, **options: object) -> str:
        if self.card is None:
            raise refusal(RepositoryNotFoundError)
        (folder / "remote.md").write_text(self.card)
        return str(folder / "remote.md")


def hub_with(card: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(card)
    monkeypatch.setattr(hub_mixin, "HfApi", hub)
    monkeypatch.setattr(own_hub, "hf_hub_download", lambda *a, **o: hub.download(folder, *a, **o))
    return hub


def test_push_uploads_what_save_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = hub_with(None, tmp_path, monkeypatch)
    model = tiny_model("resnet101-256").eval()
    facts = {"license": "apache-2.0"}
    assert model.push_to_hub("owner/name", commit_message="one", model_card_kwargs=facts) == "https://hub/commit"
    model.save_pretrained(tmp_path / "saved", model_card_kwargs=facts)
    assert hub.files == {x.name: x.read_bytes() for x in (tmp_path / "saved").iterdir()}
    assert hub.options["commit_message"] == "one" and hub.options["repo_id"] == "owner/name"
    hub.files.clear()
    assert model.save_pretrained(tmp_path / "again", push_to_hub=True, repo_id="owner/name") == "https://hub/commit"
    assert hub.files["README.md"] == (tmp_path / "again/README.md").read_bytes()


def test_push_keeps_an_edited_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("resnet101-256").eval()
    model.save_pretrained(tmp_path / "saved")
    written = (tmp_path / "saved/README.md").read_text()
    hub = hub_with(written, tmp_path, monkeypatch)
    model.push_to_hub("owner/name")
    assert set(hub.files) == {"README.md", "config.json", "model.safetensors"}
    for card in (written.replace("# SimpleMatch", "# Ours"), "---\nlicense: mit\n---\n"):
        hub = hub_with(card, tmp_path, monkeypatch)
        model.push_to_hub("owner/name", ignore_patterns="*.tmp")
        assert set(hub.files) == {"config.json", "model.safetensors"}
        assert hub.options["ignore_patterns"] == ["*.tmp", "README.md"]


def test_push_needs_to_see_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection the repository's card isn't taken for missing."""

    def no_connection(*arguments: object, **options: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(own_hub, "hf_hub_download", no_connection)
    monkeypatch.setattr(hub_mixin, "HfApi", lambda **options: pytest.fail("it began"))
    with pytest.raises(LocalEntryNotFoundError):
        tiny_model("resnet101-256").push_to_hub("owner/name")


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    model = tiny_model("resnet101-256")
    model.save_pretrained(tmp_path, config=model.config)
    with pytest.raises(ValueError, match=r"config must be None or the model's own, got SimpleMatchConfig\("):
        model.save_pretrained(tmp_path, config=tiny_config("resnet101-256", temperature=1.0))
    with pytest.raises(ValueError, match=r"config must be None or the model's own, got \{\}: make a model with it"):
        model.save_pretrained(tmp_path, config={})
