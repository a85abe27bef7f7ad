"""What a run tells its model cards."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from simplematch.training import TrainConfig
from simplematch.training.card import run_facts


def test_a_card_tells_names_instead_of_paths(tmp_path: Path) -> None:
    fields = [x.name for x in dataclasses.fields(TrainConfig) if "Path" in str(x.type)]
    assert {"root", "output", "weights", "cache"} <= set(fields)
    paths = {name: tmp_path / f"the {name}" for name in fields}
    facts = run_facts(TrainConfig(preset="resnet101-256", dataset="spair", **paths, card={"license": "mit"}))
    told = facts["training"]
    assert str(tmp_path) not in json.dumps(facts) and facts["license"] == "mit"
    assert told["root"] == "the root" and told["weights"] == "the weights" and "output" not in told
    assert told["preset"] == "resnet101-256" and told["learning_rate"] == 6e-4
