"""Models in folders and on the Hugging Face hub: `save_pretrained`, `from_pretrained`, `push_to_hub`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # re-exported without __all__
from torch import nn

from .._files import reason_of
from ..sizes import ImageSize
from . import storage
from .card import PIPELINE_TAG, Described, card_facts, facts_of, make_card, merged
from .signed import is_edited, sign, weights_of

MODEL_TYPE = "model_type"
EARLIER = "simplematch"  # the type of models whose configuration doesn't tell it, as earlier versions wrote


class HubModel(
    nn.Module,
    ModelHubMixin,
    library_name="simplematch",
    pipeline_tag=PIPELINE_TAG,
    tags=["semantic-correspondence", "keypoint-matching", "pytorch"],
):
    """A model with a configuration, as the mixin of `huggingface_hub`.

    It replaces the mixin's way of saving and loading: files change together, names and shapes are checked, and nothing
    but the model's own files is read.

    Args:
        config: the configuration.

    Attributes:
        image_size: size in pixels of the input images: S for a square, or (H, W).
        resize: "squash" or "letterbox": how images are brought to this size.
        mean, std: statistics of RGB values 0..1 that input images must be normalised with.
        card_facts: what the next model card says besides the configuration, see `simplematch.models.card.CardFacts`.
    """

    model_type: ClassVar[str] = ""
    config_type: ClassVar[type[Any]]
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.image_size: ImageSize = config.image_size
        self.resize: str = config.resize
        self.mean: tuple[float, float, float] = config.mean
        self.std: tuple[float, float, float] = config.std
        self.card_facts: dict[str, Any] = {}
        self._card: str | None = None  # of the folder that the weights were loaded from

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: object = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write `config.json`, `model.safetensors` and the model card `README.md` to a folder.

        The folder is created if necessary, and its files change together. A card that has been edited is kept. A loaded
        model whose weights haven't changed takes its card along; `model_card_kwargs` are added to it, or make a new one
        if it has been edited.

        Args:
            save_directory: the folder.
            config: None, or the model's own configuration, which is always the one that is written.
            repo_id: repository for `push_to_hub`. Default: the name of the folder.
            push_to_hub: also call `push_to_hub`, with `push_to_hub_kwargs`.
            model_card_kwargs: facts for the card: license, datasets, results and others of
                `simplematch.models.card.CardFacts`. What isn't known is omitted.

        Returns:
            The address of the commit, with `push_to_hub`.

        Raises:
            WriteError: a file can't be written; an earlier model is unchanged.
            ValueError: `config` is another one, or the card has no such fact.
        """
        if config is not None and config != self.config:
            raise ValueError(f"config must be None or the model's own, got {config!r}: make a model with it instead")
        folder = Path(save_directory)
        fields = {MODEL_TYPE: self.model_type, **self.config.to_dict()}
        storage.save(folder, fields, self.state_dict(), lambda digest: self._card_of(digest, folder, model_card_kwargs))
        if not push_to_hub:
            return None
        return self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **push_to_hub_kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin's **model_kwargs: a stored configuration is fixed
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Load a model that `save_pretrained` wrote, in eval mode.

        Args:
            pretrained_model_name_or_path: its folder, or its repository "owner/name" on the hub, which the other
                arguments are for.
            force_download: download files again that are in the cache.
            token: an access token, or True for the stored one.
            cache_dir: folder of the cache.
            local_files_only: use the cache alone, as the environment variable HF_HUB_OFFLINE=1 does.
            revision: a branch, tag or commit.

        Raises:
            FileNotFoundError: there is no such folder or repository, or one of its files is missing.
            ValueError: a file is damaged, the model is of another type, or the weights don't fit the configuration.
        """
        folder = folder_of(
            pretrained_model_name_or_path, force_download=force_download, token=token, cache_dir=cache_dir,
            local_files_only=local_files_only, revision=revision,
        )  # fmt: skip
        fields, state = storage.load(folder)
        model = cls(cls._config_of(fields, folder / storage.CONFIG))
        storage.check_fits(model.state_dict(), state, str(folder / storage.WEIGHTS))
        model.load_state_dict(state)
        model._card = storage.read_card(folder)
        return model.eval()

    @classmethod
    def _config_of(cls, fields: Mapping[str, Any], source: Path) -> Any:
        found = fields.get(MODEL_TYPE, EARLIER)
        if found != cls.model_type:
            raise ValueError(
                f"{source} must have the model_type {cls.model_type!r}, got {found!r}: load it with the class of that "
                "type, or with simplematch.models.load_model"
            )
        own = {name: x for name, x in fields.items() if name != MODEL_TYPE}
        return cls.config_type.from_dict(own, str(source))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save the model into a repository of the hub, in one commit; a card that has been edited there is kept.

        Args:
            repo_id: the repository "owner/name", which is created if necessary.
            options: those of `huggingface_hub.ModelHubMixin.push_to_hub`: commit_message, private, token, branch,
                create_pr, allow_patterns, ignore_patterns, delete_patterns, and model_card_kwargs of `save_pretrained`.

        Returns:
            The address of the commit.
        """
        card = _remote_card(repo_id, options.get("branch"), options.get("token"))
        if card is not None and is_edited(card):
            ignored = options.get("ignore_patterns") or []
            options["ignore_patterns"] = [*([ignored] if isinstance(ignored, str) else ignored), storage.CARD]
        return super().push_to_hub(repo_id, **options)

    def generate_model_card(self, **facts: Any) -> ModelCard:
        """Make the model card of `card_facts` and further facts, see `simplematch.models.card.CardFacts`."""
        summary = (inspect.getdoc(type(self)) or "").partition("\n")[0]
        parameters = sum(x.numel() for x in self.parameters())
        described = Described(type(self).__name__, summary, self.config.to_dict(), parameters)
        tags = self._hub_mixin_info.model_card_data.tags or []
        return make_card(described, card_facts(self.card_facts | facts), tags)

    def updated_card(self, folder: str | Path, **facts: Any) -> str:
        """Return the model card of the folder that the model was loaded from, with further facts.

        Args:
            folder: the folder.
            facts: see `simplematch.models.card.CardFacts`; results are added to those that the card has.

        Raises:
            ValueError: see `check_card`.
        """
        check_card(Path(folder))
        return self._card_of(storage.weights_digest(Path(folder)), Path(folder), facts)

    def _card_of(self, digest: str, folder: Path, facts: dict[str, Any] | None) -> str:
        """Return the card of the weights with a digest: the one that they already have, with `facts`, or a new one."""
        cards = (storage.read_card(folder), self._card)
        earlier = [card for card in cards if card is not None and weights_of(card) == digest]
        if facts is None and earlier:
            return earlier[0]
        known = next((facts_of(card) for card in earlier if not is_edited(card)), {}) | self.card_facts
        facts = known | (facts or {})
        facts["results"] = merged(known.get("results", ()), facts.get("results", ()))
        return sign(str(self.generate_model_card(**facts)), digest)


def check_card(folder: Path) -> None:
    """Check that the card of a folder may be rewritten.

    Raises:
        ValueError: the folder has no card, or one that has been edited or describes other weights.
    """
    card, path = storage.read_card(folder), folder / storage.CARD
    if card is None:
        raise ValueError(f"{path} must be the model card that save_pretrained wrote, but there is none: save it again")
    if is_edited(card):
        raise ValueError(f"{path} has been edited and is never overwritten: add results by hand, or remove it and save")
    if weights_of(card) != storage.weights_digest(folder):
        raise ValueError(f"{path} describes other weights than those beside it: remove it, and save the model again")


def is_repository(name: str | Path) -> bool:
    """Tell whether a name has the form of a repository on the hub, "owner/name"."""
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        return False
    return str(name).count("/") == 1


def folder_of(name: str | Path, **options: Any) -> Path:
    """Return the folder of a model: itself, or that of a repository in the hub's cache, downloaded if necessary.

    Args:
        name: a folder, or a repository "owner/name".
        options: arguments of `huggingface_hub.snapshot_download`.

    Raises:
        FileNotFoundError: neither exists, or the hub can't be reached.
    """
    path = Path(name)
    if path.exists() or not is_repository(name):
        return path
    files = [storage.CONFIG, storage.WEIGHTS, storage.CARD]
    try:
        return Path(snapshot_download(str(name), allow_patterns=files, **options))
    except (HfHubHTTPError, EntryNotFoundError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"path must be a folder that save_pretrained wrote, or a repository of the hub, got {str(name)!r}: there "
            f"is no such folder, and {_why_not(error, options.get('revision'))}"
        ) from error


def _why_not(error: Exception, revision: str | None) -> str:
    if isinstance(error, LocalEntryNotFoundError):
        return "it can't be downloaded and isn't in the cache: connect to the network, or name a cache_dir that has it"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such repository, or hides it: check the name, or give a token that may read it"
    if isinstance(error, RevisionNotFoundError):
        return f"the repository has no revision {revision!r}: name one of its branches, tags or commits"
    return f"the hub refuses: {reason_of(error).splitlines()[0]}"


def _remote_card(repo_id: str, revision: str | None, token: Any) -> str | None:
    """Read the card of a repository; None if it has none. Not reaching the hub raises: it may have one."""
    try:
        path = hf_hub_download(repo_id, storage.CARD, revision=revision, token=token)
    except LocalEntryNotFoundError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
        return None
    return Path(path).read_text(encoding="utf-8")
