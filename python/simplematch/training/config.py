"""Everything that decides a training run, as one typed record that a YAML file holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from .._yaml import read_yaml
from ..configs import recipe

PRECISIONS = ("fp32", "bf16", "fp16")
RENAMED = {"exchange": "swap", "mirror": "hflip", "gamma_every": "lr_step_size"}


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        preset: of the model, see `simplematch.models.PRESETS`; `model` replaces fields of its configuration.
        pretrained, weights: where the encoder's weights come from, as `SimpleMatch.from_preset` takes them.
        dataset, root: what `open_dataset` takes; trains on "trn", validates on "val".
        output: folder of checkpoints and logs.
        group_size: None trains on the data set's own pairs. A number G takes its images in groups of G of a category
            instead, and trains on all G (G - 1) pairs in a group while encoding each image once.
        contrast: weight of -log p(true cell) beside the paper's distances, see `GroupLosses`; needs groups.
        epochs, batch_size, accumulation: batch_size pairs (or groups) on each process, `accumulation` batches to a
            step.
        learning_rate, gamma, lr_step_size: Adam; the rate is multiplied by gamma every lr_step_size steps.
        encoder_learning_rate: of the encoder's own parameters; None: learning_rate.
        clip: largest norm of the gradient, or None.
        precision: "fp32", or mixed: "bf16" or "fp16".
        channels_last: keep images and weights with their channels together, as convolutions on CPUs like them.
        synchronise: let batch norm see the batches of all processes as one.
        compile: run the model through torch.compile.
        max_keypoints: of a training pair; more are thinned at random.
        crop, rotate, photometric, swap, affine, hflip: augmentation, as `PairTransform` takes them.
        skip_broken: put another pair in the place of one whose image can't be read, with a counted warning.
        workers: processes that decode images, for each process that trains.
        evaluate_every: epochs between validations.
        save_every: steps between checkpoints to resume from, besides those at the end of each epoch.
        keep_states: how many of these to keep, the newest; a damaged one leaves those before it.
        log_every: steps between entries of the log.
        max_steps: stop after so many steps; None: after the epochs.
        seed: of weights, order and augmentation.
    """

    preset: str
    dataset: str
    root: Path
    output: Path
    model: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    weights: Path | None = None
    group_size: int | None = None
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
    compile: bool = False
    max_keypoints: int | None = 30
    crop: float = 0.5
    rotate: float = 0.5
    photometric: float = 1.0
    swap: float = 0.0
    affine: float = 0.0
    hflip: float = 0.0
    skip_broken: bool = False
    workers: int = 4
    evaluate_every: int = 1
    save_every: int = 500
    keep_states: int = 2
    log_every: int = 20
    max_steps: int | None = None
    seed: int = 0

    DECIDING: ClassVar[tuple[str, ...]] = (
        "preset", "model", "dataset", "group_size", "contrast", "batch_size", "accumulation", "learning_rate",
        "encoder_learning_rate", "gamma", "lr_step_size", "clip", "precision", "synchronise", "max_keypoints", "crop",
        "rotate", "photometric", "swap", "affine", "hflip", "seed",
    )  # fmt: skip
    """Fields that a resumed run must have as the run before it, for it to be the same run."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is not ClassVar:
                _check_type(name, getattr(self, name), hint)
        for name in ("root", "output", "weights"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value).expanduser())
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {self.precision!r}")
        for name in (
            "epochs",
            "batch_size",
            "accumulation",
            "lr_step_size",
            "evaluate_every",
            "save_every",
            "keep_states",
            "log_every",
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
            raise ValueError(f"contrast must be 0, or above it where group_size is a number, got {self.contrast!r}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str = "config") -> TrainConfig:
        """A configuration from a mapping of its fields.

        Raises:
            ValueError: a field is unknown, missing, or has a value that can't be.
        """
        check_names(fields, source)
        known = {x.name for x in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"{source} has the unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
        missing = [name for name in ("preset", "dataset", "root", "output") if name not in fields]
        if missing:
            raise ValueError(f"{source} must have the field {missing[0]!r}, got {', '.join(sorted(fields)) or 'none'}")
        return cls(**fields)

    @classmethod
    def from_recipe(cls, name: str, root: str | Path, output: str | Path, **changes: Any) -> TrainConfig:
        """A run of `simplematch.configs`, such as "resnet101-spair-256", with some of its fields replaced."""
        return cls.from_dict({**recipe(name), "root": root, "output": output, **changes}, f"recipe {name}")

    @classmethod
    def from_yaml(cls, path: str | Path, **changes: Any) -> TrainConfig:
        """A configuration from a YAML file, with some of its fields replaced."""
        return cls.from_dict({**read_yaml(path), **changes}, str(path))

    def to_dict(self) -> dict[str, Any]:
        """The fields as YAML and json can hold them."""
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
    """Raise ValueError unless `value`, perhaps read from YAML, is what the field `name` is declared to be."""
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
