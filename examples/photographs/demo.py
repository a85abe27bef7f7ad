"""Match keypoints of one photograph in another, and compare with the ground truth.

    python examples/photographs/demo.py            writes demo.png and prints the percentage of correct keypoints

There are four pairs: three photographs with known warps, and a stereo pair with measured disparity. The features come
from an ImageNet classifier; `sparse_window_match` is compared with a plain argmax.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from drawing import draw_matches, write_small_copy
from features import PhotographFeatures, as_batch
from pairs import Pair, load_pairs
from torch import Tensor

import simplematch_kernels as smk

THRESHOLDS = (0.01, 0.05, 0.1)  # of the longer side of the target photograph
DRAWN_THRESHOLD = 0.05
HEADER = """
                                       sparse_window_match             argmax
             points      map     time  PCK@.01  @.05   @.1  error      PCK@.01  @.05   @.1  error"""


def main() -> None:
    options = parse_options()
    device = torch.device(options.device)
    print(smk.explain(device))
    model = PhotographFeatures().to(device)
    print(HEADER)

    pairs, found, right, titles = load_pairs(options.keypoints), [], [], []
    for pair in pairs:
        source, target = (model(as_batch(photograph).to(device)) for photograph in (pair.source, pair.target))
        keypoints = torch.from_numpy(pair.keypoints)[None].to(device)
        size = pair.source.shape[:2]

        matches = match(source, target, keypoints, size, "window")
        peaks = match(source, target, keypoints, size, "argmax")
        took = milliseconds(lambda: match(source, target, keypoints, size, "window"), device)  # noqa: B023

        found.append(matches.keypoints[0].cpu().numpy())
        errors, peak_errors = distances(found[-1], pair), distances(peaks.keypoints[0].cpu().numpy(), pair)
        right.append(errors <= DRAWN_THRESHOLD * max(size))
        summary = f"{right[-1].sum()} of {len(errors)} right, median error {np.median(errors):.1f} pixels"
        titles.append(f"{pair.name}: {summary}")
        cells = f"{target.shape[2]}x{target.shape[3]}"
        measured = f"{scores(errors, size)}      {scores(peak_errors, size)}"
        print(f"{pair.name:12} {len(errors):6} {cells:>8} {took:5.1f} ms  {measured}")

    print("\nPCK@a: percentage of keypoints found within a x the longer side of the photograph; error: median, pixels")
    draw_matches(options.output, pairs, found, right, titles)
    print(f"Green lines in the picture are within {DRAWN_THRESHOLD:.0%}, red ones are not: {options.output.resolve()}")
    if options.small_copy:
        write_small_copy(options.output, options.small_copy)


def match(source: Tensor, target: Tensor, keypoints: Tensor, size: tuple[int, int], localization: str) -> smk.Matches:
    """Match the keypoints of the source in the target."""
    return smk.sparse_window_match(
        source,
        target,
        keypoints,
        source_size=size,
        target_size=size,
        source_coords="align_corners",
        target_coords="align_corners",
        sampling="bilinear",
        localization=localization,
        window_size=5,
    )


def distances(found: np.ndarray, pair: Pair) -> np.ndarray:
    """Compute the distances (N,) in pixels between the matches and the ground truth."""
    return np.linalg.norm(found - pair.truth, axis=1)


def scores(errors: np.ndarray, size: tuple[int, int]) -> str:
    """Format PCK at every threshold and the median error as columns."""
    percentages = [100 * np.mean(errors <= threshold * max(size)) for threshold in THRESHOLDS]
    return "{:7.0f} {:5.0f} {:5.0f} {:6.2f}".format(*percentages, np.median(errors))


def milliseconds(run: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo.png"), help="where to write the figure")
    parser.add_argument("--small-copy", type=Path, help="where to write a small copy of the figure")
    parser.add_argument("--keypoints", type=int, default=60, help="largest number per pair")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
