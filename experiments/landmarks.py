"""Writes results of a run on Landmarks-SPair as json; `experiments/results_page.py` makes docs/results.md of them.

python experiments/landmarks.py curve RUN OUT.json       the run's log: losses, validation PCK, speed
python experiments/landmarks.py ceiling ROOT OUT.json    the score of a perfect matcher on the test pairs of faces
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from simplematch._files import write_text
from simplematch._json import to_json
from simplematch.data import open_dataset
from simplematch.evaluation import PCK, preset

ALPHAS = (0.05, 0.1, 0.15)


def curve(run: Path) -> dict[str, Any]:
    """Read a run's TensorBoard log by name: steps, minutes since the first, and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # A run that was resumed has several logs.
    folders = sorted({path.parent for path in (run / "log").rglob("events.out.tfevents.*")})
    series: dict[str, dict[str, list[float]]] = {}
    for folder in folders:
        log = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for name in log.Tags()["scalars"]:
            for event in log.Scalars(name):
                entry = series.setdefault(name, {"step": [], "time": [], "value": []})
                entry["step"].append(event.step)
                entry["time"].append(event.wall_time)
                entry["value"].append(round(event.value, 5))
    start = min(entry["time"][0] for entry in series.values())
    for entry in series.values():
        entry["minutes"] = [round((x - start) / 60, 2) for x in entry.pop("time")]
    lines = (run / "config.yaml").read_text().splitlines()
    config = "\n".join(line for line in lines if not line.startswith(("root:", "output:", "weights:")))
    return machine() | {"config": config, "series": series}


def ceiling(root: Path) -> dict[str, Any]:
    """Compute PCK, on the original pairs, of the map that takes an image's own keypoints to the other's.

    The keypoints of these pairs don't match their images, see docs/results.md. The map takes each image's own keypoints
    exactly to the other's and is linear in between, so it bounds the score of any matcher.
    """
    from scipy.interpolate import RBFInterpolator

    own, pairs = (open_dataset("spair", root, "test", annotations=x) for x in ("image", "pair"))
    metric = PCK(preset("default", "spair"), 256, {"category": pairs.categories})
    for index in range(len(pairs)):
        info, truth = pairs.info(index), own.info(index)
        if info.category == "face":
            carry = RBFInterpolator(truth.source_keypoints, truth.target_keypoints, kernel="linear", degree=1)
            metric.update([carry(info.source_keypoints)], [info])
    result = metric.compute()
    values = result.groups["category"]["face"].per_image
    return machine() | {"alphas": ALPHAS, "face": [values[result.protocol.alphas.index(alpha)] for alpha in ALPHAS]}


def machine() -> dict[str, Any]:
    """Return the machine and the versions of a result."""
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor}, {torch.get_num_threads()} threads"
    )
    return {"device": device, "torch": torch.__version__, "commit": commit}


def main() -> None:
    what, source, output = sys.argv[1:]
    result = {"curve": curve, "ceiling": ceiling}[what](Path(source))
    write_text(output, to_json(result) + "\n")


if __name__ == "__main__":
    main()
