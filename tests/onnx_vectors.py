"""Runs every golden vector, and every option of the tests with all sizes free, through ONNX: minutes.

    python -m tests.onnx_vectors DATA RESULT.json

DATA/vectors holds the recorded inputs. Vectors with the same options share one export, whose sizes are free. The
result has a line for each vector: how far onnxruntime's answer lies from PyTorch's and from the recorded one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import simplematch_kernels as smk

from . import onnx_models as models
from .onnx_models import DIM, TOLERANCE
from .test_golden import PRESETS, load

PIXELS = 5e-3
"""Of the recorded answers, as in the tests of the backends."""


class Vector:
    """A recorded call: the model to export, its inputs, and which of their sizes are free."""

    def __init__(self, data: Path, name: str) -> None:
        arrays, options = load(data, name, torch.device("cpu"))
        self.name, self.key, self.expected = name, repr(sorted(options.items())), arrays["expected"]
        self.rows = torch.ones(self.expected.shape[:2], dtype=torch.bool)
        if "scores" in arrays:
            self.model, self.inputs = models.Calls([lambda scores: smk.localize(scores, **options)]), [arrays["scores"]]
            self.dims: list[Any] = [{1: DIM}]
            return
        self.inputs = [arrays[key] for key in ("source", "target", "keypoints")]
        self.dims = [{1: DIM}, {1: DIM}, {1: DIM}]
        if "num_keypoints" in arrays:
            counts = arrays["num_keypoints"]
            self.inputs.append(counts)
            self.dims = [{0: DIM, 1: DIM}, {0: DIM, 1: DIM}, {0: DIM, 1: DIM}, {0: DIM}]
            self.rows = torch.arange(self.rows.shape[1]) < counts[:, None]
        self.model = models.Calls([lambda *tensors: _match(tensors, options)])


def _match(tensors: tuple[Tensor, ...], options: dict[str, Any]) -> smk.Matches:
    source, target, keypoints, *counts = tensors
    return smk.sparse_window_match(source, target, keypoints, num_keypoints=counts[0] if counts else None, **options)


class Whole(nn.Module):
    """One of the authors' models, of images, keypoints and counts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, target: Tensor, keypoints: Tensor, counts: Tensor) -> list[Tensor]:
        found = self.model(source, target, keypoints, counts)
        return [found.keypoints, found.score]


def run_vectors(vectors: list[Vector], folder: Path) -> Iterator[dict[str, Any]]:
    """A line for each, in their order; those of one key share an export."""
    sessions: dict[str, tuple[str, Any]] = {}
    for vector in vectors:
        if vector.key not in sessions:
            session = models.exported(vector.model, vector.inputs, vector.dims, folder / f"{vector.name}.onnx")
            sessions[vector.key] = vector.name, session
        export, session = sessions[vector.key]
        yield _line(vector.name, export, session, vector.model, vector.inputs, vector.expected, vector.rows)


def run_whole_models(data: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """A line for each of the authors' models, whose encoders need the packages of training."""
    from .system.models import test_golden as whole

    for run, name in whole.RUNS.items():
        record = json.loads((data / "vectors" / f"model_{run}.json").read_text())
        arrays = np.load(data / "vectors" / f"model_{run}.npz")
        filler = whole._module(data / "vectors" / "fill.py")
        model = Whole(whole._official_model(whole.preset(name), record, filler)).eval()
        keypoints, counts, expected = (
            torch.from_numpy(arrays[x]) for x in ("keypoints", "num_keypoints", "prediction")
        )
        inputs = [*whole._images(record, filler), keypoints, counts]
        session = models.exported(model, inputs, None, folder / f"model_{run}.onnx")
        rows = torch.arange(keypoints.shape[1]) < counts[:, None]
        yield _line(f"model_{run}", f"model_{run}", session, model, inputs, expected, rows)


def run_options(folder: Path) -> Iterator[dict[str, Any]]:
    """Every call of the tests with all sizes free, at other sizes than the example's."""
    calls = {
        **{f"localize {name}": models.matching(**options) for name, options in models.LOCALIZATIONS.items()},
        **{f"match {name}": models.matching(**options) for name, options in models.MATCHES.items()},
        **models.OTHERS,
        **{f"loss {name}": call for name, call in models.LOSSES.items()},
    }
    for name, call in calls.items():
        model = models.Calls([call])
        session = models.exported(model, models.SMALL, models.IN_MAPS, folder / "options.onnx")
        worst = max(models.difference(session, model, inputs) for inputs in (models.SMALL, models.OTHER))
        yield {"name": name, "from_pytorch": worst}


def _line(
    name: str, export: str, session: Any, model: nn.Module, inputs: list[Tensor], expected: Tensor, rows: Tensor
) -> dict[str, Any]:
    from_pytorch = models.difference(session, model, inputs)
    answer = torch.from_numpy(
        session.run(None, {x.name: value.numpy() for x, value in zip(session.get_inputs(), inputs, strict=True)})[0]
    )
    pixels = float((answer - expected)[rows].abs().max())
    return {"name": name, "export": export, "from_pytorch": from_pytorch, "pixels_from_recorded": pixels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("result", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    result: dict[str, Any] = {
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")},
        "tolerance": TOLERANCE,
    }
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), arguments.data
        runs = {
            "vectors": run_vectors([Vector(data, each) for each in PRESETS], folder),
            "models": run_whole_models(data, folder),
            "options": run_options(folder),
        }
        for part, lines in runs.items():
            result[part] = []
            for line in lines:
                print(json.dumps(line), flush=True)
                result[part].append(line)
    arguments.result.write_text(json.dumps(result, indent=1) + "\n")
    bad = [line["name"] for part in runs for line in result[part] if not passes(line)]
    if bad:
        sys.exit(f"not within the tolerance: {', '.join(bad)}")


def passes(line: dict[str, Any]) -> bool:
    within: bool = line["from_pytorch"] <= TOLERANCE and line.get("pixels_from_recorded", 0) <= PIXELS
    return within


if __name__ == "__main__":
    main()
