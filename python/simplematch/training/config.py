"""The configuration of a training run, stored as YAML."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from .._fields import check_fields
from .._yaml import read_yaml
from ..configs import recipe
from ..data.table import cache_folder
from ..models.card import card_facts

PRECISIONS = ("fp32", "bf16", "fp16", "auto")
TRACKERS = ("tensorboard", "wandb", "trackio", "none")
LOSSES = ("distance", "cross_entropy")
COPIES = 8  # of each image in a cache
RENAMED = {"exchange": "swap", "mirror": "hflip", "gamma_every": "lr_step_size"}


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of a training run.

    Attributes:
        preset: preset of the model, see `simplematch.models.PRESETS`; `model` replaces fields of its configuration.
        pretrained, weights: origin of the encoder's weights, see `SimpleMatch.from_preset`.
        dataset, root: arguments of `open_dataset`; training uses "trn", validation "val".
        output: folder for checkpoints and logs.
        group_size: None trains on the data set's pairs. G trains on groups of G images of a category instead: all
            G (G - 1) pairs of a group, with each image encoded once.
        loss: "distance" (the paper's, in pixels), or "cross_entropy" between the softmax over all cells of a scale and
            a Gaussian round the true point, as SD4Match and MARCO train; windows play no part in it.
        kernel_size, sigma: side and width of that Gaussian, in cells; None: kernel_size // 2 / 2.
        contrast: weight of -log p(true cell), added to the distance loss, see `GroupLosses`; needs groups.
        epochs, batch_size, accumulation: a step has `accumulation` batches of `batch_size` pairs (or groups) on each
            process.
        learning_rate, gamma, lr_step_size: Adam with StepLR: the rate is multiplied by gamma every lr_step_size steps.
        encoder_learning_rate: learning rate of the encoder; None: learning_rate.
        clip: largest norm of the gradient, or None.
        precision: "fp32", or mixed precision: "bf16" or "fp16". "auto": bf16 if the device has instructions for it,
            else fp32; a resumed run keeps its precision.
        channels_last: use the channels_last memory format, which is faster for convolutions on CPUs.
        synchronise: synchronise batch norm over all processes.
        sharded: shard weights, gradients and optimizer state over the processes (FSDP2); no effect on one process.
        compile: use torch.compile.
        max_keypoints: largest number of keypoints per training pair; a random subset is kept.
        crop, rotate, photometric, swap, affine, hflip: augmentation, see `PairTransform`.
        cache: folder that keeps the features of a frozen encoder (`model: {encoder_training: frozen}`), so that each
            image is encoded once; "auto": `features` in the folder SIMPLEMATCH_CACHE. None: encode in every step.
        cache_copies: number of augmented copies of each image, one of which is drawn in each epoch; 0: augment anew in
            every epoch, or with `cache` 8, and 1 without augmentation.
        skip_broken: replace pairs with unreadable images and log how many.
        workers: image-loading processes per training process.
        evaluate_every: epochs between validations.
        save_every: steps between states to resume from; a state is also saved after each epoch.
        keep_states: number of states to keep, in case the newest is damaged.
        log_every: steps between log entries.
        tracker: where to log: "tensorboard" (the folder `log` of `output`), "wandb", "trackio" or "none".
        max_steps: stop after this number of steps; None: after the last epoch.
        seed: seed of weights, order and augmentation.
        card: facts for the model cards of `best` and `last`, such as license and datasets, see
            `simplematch.models.card.CardFacts`.
    """

    preset: str
    dataset: str
    root: Path
    output: Path
    model: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    weights: Path | None = None
    group_size: int | None = None
    loss: str = "distance"
    kernel_size: int = 7
    sigma: float | None = None
    contrast: float = 0.0
    epochs: int = 10
    batch_size: int = 8
    accumulation: int = 1
    learning_rate: float = 6e-4
    encoder_learning_rate: float | None = None
    gamma: float = 0.95
    lr_step_size: int = 800
    clip: float | None = None
    precision: str = "fp32"
    channels_last: bool = False
    synchronise: bool = True
    sharded: bool = False
    compile: bool = False
    max_keypoints: int | None = 30
    crop: float = 0.5
    rotate: float = 0.5
    photometric: float = 1.0
    swap: float = 0.0
    affine: float = 0.0
    hflip: float = 0.0
    cache: Path | None = None
    cache_copies: int = 0
    skip_broken: bool = False
    workers: int = 4
    evaluate_every: int = 1
    save_every: int = 500
    keep_states: int = 2
    log_every: int = 20
    tracker: str = "tensorboard"
    max_steps: int | None = None
    seed: int = 0
    card: dict[str, Any] = field(default_factory=dict)

    DECIDING: ClassVar[tuple[str, ...]] = (
        "preset", "model", "dataset", "group_size", "loss", "kernel_size", "sigma", "contrast", "batch_size",
        "accumulation", "learning_rate", "encoder_learning_rate", "gamma", "lr_step_size", "clip", "precision",
        "synchronise", "max_keypoints", "crop", "rotate", "photometric", "swap", "affine", "hflip", "cache_copies",
        "seed",
    )  # fmt: skip
    """Fields that decide the result: a resumed run must not change them."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is not ClassVar:
                _check_type(name, getattr(self, name), hint)
        for name in ("root", "output", "weights", "cache"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value).expanduser())
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {self.precision!r}")
        if self.cache == Path("auto"):
            object.__setattr__(self, "cache", cache_folder() / "features")
        if self.cache is not None and self.cache_copies == 0:
            object.__setattr__(self, "cache_copies", COPIES if self.augments else 1)
        if self.cache_copies < 0:
            raise ValueError(f"cache_copies must be 0 or a whole number above zero, got {self.cache_copies!r}")
        for name in (
            "epochs",
            "batch_size",
            "accumulation",
            "lr_step_size",
            "evaluate_every",
            "save_every",
            "keep_states",
            "log_every",
            "kernel_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number above zero, got {getattr(self, name)!r}")
        for name in ("learning_rate", "encoder_learning_rate"):
            rate = getattr(self, name)
            if rate is not None and not rate > 0:
                raise ValueError(f"{name} must be above zero, got {rate!r}")
        if self.group_size is not None and self.group_size < 2:
            raise ValueError(f"group_size must be None or a whole number above one, got {self.group_size!r}")
        if self.contrast < 0 or (self.contrast and self.group_size is None):
            raise ValueError(f"contrast must be 0, or above 0 with a group_size, got {self.contrast!r}")
        if self.tracker not in TRACKERS:
            raise ValueError(f"tracker must be one of {', '.join(map(repr, TRACKERS))}, got {self.tracker!r}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(map(repr, LOSSES))}, got {self.loss!r}")
        if self.contrast and self.loss != "distance":
            raise ValueError(f"contrast must be 0 for loss {self.loss!r}, got {self.contrast!r}")
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"sigma must be null or above zero, got {self.sigma!r}")
        card_facts(self.card, "card")

    @property
    def augments(self) -> bool:
        """Whether images are augmented."""
        return any((self.crop, self.rotate, self.photometric, self.affine, self.hflip))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str = "config") -> TrainConfig:
        """Make a configuration from a mapping of its fields.

        Raises:
            ValueError: a field is unknown, missing or invalid.
        """
        check_names(fields, source)
        check_fields(cls, fields, ("preset", "dataset", "root", "output"), source)
        return cls(**fields)

    @classmethod
    def from_recipe(cls, name: str, root: str | Path, output: str | Path, **changes: Any) -> TrainConfig:
        """Make a configuration from a recipe such as "resnet101-spair-256", with some fields replaced."""
        return cls.from_dict({**recipe(name), "root": root, "output": output, **changes}, f"recipe {name}")

    @classmethod
    def from_yaml(cls, path: str | Path, **changes: Any) -> TrainConfig:
        """Make a configuration from a YAML file, with some fields replaced."""
        return cls.from_dict({**read_yaml(path), **changes}, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as YAML or json values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}


def check_names(fields: Mapping[str, Any], source: str) -> None:
    """Raise a ValueError if a field has the name of an earlier version."""
    for old, new in RENAMED.items():
        if old in fields:
            raise ValueError(f"{source} must have the field {new!r}, got its earlier name {old!r}")


_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a finite number"),
    str: ((str,), "text"),
    Path: ((str, Path), "a path"),
    dict: ((dict,), "fields and values"),
}


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Raise a ValueError unless `value` has the declared type of the field `name`."""
    choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and NoneType in choices:
        return
    kind = get_origin(choices[0]) or choices[0]
    types, words = _KINDS[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool) or _is_non_finite(value):
        also = ", or null" if NoneType in choices else ""
        raise ValueError(f"{name} must be {words}{also}, got {value!r}")


def _is_non_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
