"""Model cards: `README.md` of a model's folder, with the Hugging Face hub's metadata. Unknown facts are omitted."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from simplematch_kernels import __version__

from .._fields import check_fields
from .._json import loads, to_json
from ..sizes import checked_size, size_text

PIPELINE_TAG = "keypoint-matching"
FOLDER = "path/to/this/folder"
_PACKAGES = ("torch", "timm", "safetensors", "huggingface_hub")


@dataclass(frozen=True)
class CardResult:
    """PCK of a model on a data set, for its card.

    Attributes:
        dataset: name of the data set, such as "SPair-71k".
        layout: the layout of its files, such as "spair".
        split: its split.
        protocol: the protocol in one line.
        pairs, points: numbers of pairs and of keypoints.
        pck: PCK, 0 to 1, at each alpha.
    """

    dataset: str
    layout: str
    split: str
    protocol: str
    pairs: int
    points: int
    pck: dict[float, float]


@dataclass(frozen=True)
class CardFacts:
    """What a card says besides what the model itself knows; None or empty: not known, and omitted.

    Attributes:
        license: an identifier of the hub, such as "apache-2.0", of the weights.
        datasets: identifiers of the training data on the hub, or their names.
        base_model: identifier on the hub of the model that training began with.
        encoder_weights: where the encoder's weights come from, in words.
        training: settings of the training run.
        step: the training step of the weights.
        results: PCK of the weights.
    """

    license: str | None = None
    datasets: Sequence[str] = ()
    base_model: str | None = None
    encoder_weights: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None
    results: Sequence[CardResult] = ()

    def __post_init__(self) -> None:
        for name in ("license", "base_model", "encoder_weights"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} of a model card must be text, got {value!r}")
        if isinstance(self.datasets, str) or not all(isinstance(x, str) for x in self.datasets):
            raise ValueError(f"datasets of a model card must be a list of names, got {self.datasets!r}")


def card_facts(fields: Mapping[str, Any], source: str = "model_card_kwargs") -> CardFacts:
    """Make facts of their names and values, which come from `source`.

    Raises:
        ValueError: a name is unknown or a value has a wrong type.
    """
    check_fields(CardFacts, fields, (), source)
    return CardFacts(**fields)


@dataclass(frozen=True)
class Described:
    """A model as its card describes it.

    Attributes:
        kind: the name of its class in `simplematch.models`.
        summary: what it is, in one sentence.
        config: its configuration as json values.
        parameters: number of its parameters.
    """

    kind: str
    summary: str
    config: Mapping[str, Any]
    parameters: int

    @property
    def title(self) -> str:
        return f"{self.kind}: {self.config['encoder']}, {size_text(checked_size(self.config['image_size']))}"


def make_card(model: Described, facts: CardFacts, tags: Sequence[str]) -> ModelCard:
    """Write the card of a model."""
    data = ModelCardData(
        license=facts.license,
        library_name="simplematch",
        pipeline_tag=PIPELINE_TAG,
        tags=list(tags),
        datasets=list(facts.datasets) or None,
        base_model=facts.base_model,
        metrics=["pck"] if facts.results else None,
        model_name=model.title if facts.results else None,
        eval_results=[x for result in facts.results for x in _eval_results(result)] or None,
    )
    parts = [f"# {model.title}\n\n{model.summary}", _use(model), _model(model, facts)]
    parts += [part for part in (_training(facts), _results(facts)) if part]
    text = "\n\n".join([*parts, _versions()])
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")


_ENCODER = re.compile(r"The encoder's weights were loaded from (.*)\. Configuration:\n")
_TRAINING = re.compile(r"\n## Training\n\n[^\n]*?(?:after step (\d+)\. )?Settings:\n\n```json\n(.*?)\n```\n", re.DOTALL)


def facts_of(text: str) -> dict[str, Any]:
    """Return the facts that `make_card` wrote into a card, by name."""
    data: Any = ModelCard(text).data
    facts: dict[str, Any] = {"license": data.license, "datasets": data.datasets, "base_model": data.base_model}
    facts["results"] = _results_of(data.eval_results or [])
    encoder, training = _ENCODER.search(text), _TRAINING.search(text)
    facts["encoder_weights"] = encoder and encoder[1]
    if training:
        facts |= {"step": training[1] and int(training[1]), "training": loads(training[2])}
    return {name: x for name, x in facts.items() if x}


def merged(earlier: Sequence[CardResult], results: Sequence[CardResult]) -> list[CardResult]:
    """Add results to earlier ones, in place of those of the same data and protocol."""
    new = {_key(result): result for result in results}
    return [*(result for result in earlier if _key(result) not in new), *new.values()]


def _key(result: CardResult) -> tuple[str, ...]:
    return result.dataset, result.layout, result.split, result.protocol


def _results_of(found: Sequence[EvalResult]) -> list[CardResult]:
    results: dict[tuple[str, ...], CardResult] = {}
    for x in found:
        args = x.metric_args or {}
        result = CardResult(
            x.dataset_name, x.dataset_type, x.dataset_split or "", args["protocol"], args["pairs"], args["points"], {}
        )
        results.setdefault(_key(result), result).pck[args["alpha"]] = x.metric_value
    return list(results.values())


def _eval_results(result: CardResult) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=PIPELINE_TAG,
            dataset_type=result.layout,
            dataset_name=result.dataset,
            dataset_split=result.split,
            metric_type="pck",
            metric_name=f"PCK@{alpha:g}",
            metric_value=round(pck, 4),
            metric_args={"alpha": alpha, "protocol": result.protocol, "pairs": result.pairs, "points": result.points},
        )
        for alpha, pck in result.pck.items()
        if math.isfinite(pck)
    ]


def _use(model: Described) -> str:
    return f"""## Use

```python
import simplematch
from simplematch.models import {model.kind}

model = {model.kind}.from_pretrained("{FOLDER}")  # or the name of this repository on the hub
found = simplematch.match("a.jpg", "b.jpg", [(120, 80)], model=model)
print(found.matches, found.confidence)
```"""


def _model(model: Described, facts: CardFacts) -> str:
    origin = f" The encoder's weights were loaded from {facts.encoder_weights}." if facts.encoder_weights else ""
    return f"## Model\n\n{model.parameters} parameters.{origin} Configuration:\n\n{_json(model.config)}"


def _training(facts: CardFacts) -> str:
    if not facts.training:
        return ""
    after = "" if facts.step is None else f" These are the weights after step {facts.step}."
    return f"## Training\n\nTrained by `simplematch train`.{after} Settings:\n\n{_json(facts.training)}"


def _json(values: Mapping[str, Any]) -> str:
    return f"```json\n{to_json(dict(values), indent=1)}\n```"


def _results(facts: CardFacts) -> str:
    if not facts.results:
        return ""
    return "## Evaluation\n\n" + "\n\n".join(_table(result) for result in facts.results)


def _table(result: CardResult) -> str:
    heads = " | ".join(f"PCK@{alpha:g}" for alpha in result.pck)
    values = " | ".join(f"{100 * pck:.1f} %" if math.isfinite(pck) else "" for pck in result.pck.values())
    about = f"`{result.dataset}` (layout `{result.layout}`), split `{result.split}`"
    about += f": {result.pairs} pairs, {result.points} keypoints. Protocol: {result.protocol}."
    return f"{about}\n\n| {heads} |\n|{'---|' * len(result.pck)}\n| {values} |"


def _versions() -> str:
    found = [f"simplematch {__version__}", f"Python {platform.python_version()}"]
    found += [f"{name} {x}" for name in _PACKAGES if (x := _version(name))]
    return "## Versions\n\n" + ", ".join(found) + "."


def _version(package: str) -> str | None:
    if package == "torch":
        return torch.__version__  # with the build's suffix
    try:
        return version(package)
    except PackageNotFoundError:
        return None
