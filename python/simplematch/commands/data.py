"""`simplematch stats` and `simplematch prepare`."""

from __future__ import annotations

from pathlib import Path

from ..data import open_dataset, prepare_ap10k
from ..evaluation import format_statistics, statistics
from .lists import numbers


def stats(dataset: str, root: Path, split: str = "test", grids: str = "16,32,64") -> None:
    """Count keypoints that share a cell of a feature map (Table 1 of the paper).

    Args:
        dataset: as for eval.
        root: folder of the data set.
        split: split of the data set; the SPair-71k layout also has "all".
        grids: comma-separated numbers of cells along a side.
    """
    chosen = numbers("grids", grids)
    print(format_statistics(statistics(open_dataset(dataset, root, split), chosen)))


def prepare(source: Path, destination: Path, dataset: str = "ap10k", images: str = "link") -> None:
    """Make the pairs of AP-10K from its raw annotations.

    Args:
        source: the raw folder, with annotations/ and data/.
        destination: folder for the pairs; may be the source itself.
        dataset: ap10k, the only data set that needs it.
        images: link or copy the images.
    """
    if dataset != "ap10k":
        raise ValueError(f"dataset must be ap10k, the only one that needs preparing, got {dataset!r}")
    for split, count in prepare_ap10k(source, destination, images=images).items():
        print(f"{split}: {count} pairs")
