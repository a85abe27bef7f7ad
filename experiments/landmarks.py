"""Writes results of a run on Landmarks-SPair as json; `experiments/results_page.py` makes docs/results.md of them.

python experiments/landmarks.py curve RUN OUT.json    the run's log: losses, validation PCK, speed
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
    write_text(output, to_json({"curve": curve}[what](Path(source))) + "\n")


if __name__ == "__main__":
    main()
