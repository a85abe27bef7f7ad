"""`python -m benchmarks`: measure here, write benchmarks/results/<device>/<date>-<commit>.json, print the tables."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path
from typing import Any

import torch

from . import report, suites
from .machine import commit, machine, save

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="only the paper's shape in float32")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each provider (default: 15)")
    parser.add_argument("--no-save", action="store_true", help="print the tables without writing a result file")
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    dtypes = ("float32",) if arguments.quick else ("float32", "bfloat16")
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(device),
        "operator": suites.operator(device, arguments.rounds, dtypes, ("contiguous", "channels_last")),
        "overhead": suites.overhead(device, 40 * arguments.rounds),
    }
    if not arguments.quick:
        result["memory"] = suites.memory(device)
        result["scaling"] = suites.scaling(device, arguments.rounds)
        result["import"] = suites.import_time()
    print(report.tables(result))
    if not arguments.no_save:
        path = save(result, RESULTS)
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
