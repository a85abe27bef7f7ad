"""Opens a data set from its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._files import DataError
from . import ap10k, pf_pascal, pf_willow
from .ap10k import AP10K
from .dataset import PairDataset
from .pf_pascal import PFPascal
from .pf_willow import PFWillow
from .spair import SPair
from .warps import SUFFIXES, WarpedImages

_SPAIR_FOLDERS = ("", "SPair-71k", "SPair-71k/SPair-71k")
_SPLITS = {"train": "trn", "training": "trn", "validation": "val"}
_Opener = Callable[..., PairDataset]

NEEDED = {
    "spair": "Layout/large/<split>.txt, PairAnnotation, ImageAnnotation and JPEGImages, which SPair-71k.tar.gz from "
    "https://cvlab.postech.ac.kr/research/SPair-71k holds",
    "pf-pascal": "trn_pairs.csv or train_pairs.csv (from the lists of NC-Net or DHPF) and JPEGImages with Annotations, "
    "which PF-dataset-PASCAL.zip from https://www.di.ens.fr/willow/research/proposalflow holds",
    "pf-willow": "test_pairs.csv, or <class>/*.mat with <class>/*.png, which PF-dataset.zip from "
    "https://www.di.ens.fr/willow/research/proposalflow holds",
    "ap10k": "PairAnnotation, ImageAnnotation and JPEGImages, which prepare_ap10k writes from the raw AP-10K of "
    "https://github.com/AlexTheBad/AP-10K",
    "images": f"images ({', '.join(sorted(SUFFIXES))})",
}


def open_dataset(name: str, root: Path | str, split: str = "test", **options: Any) -> PairDataset:
    """Open a data set in any of its known layouts.

    Args:
        name: "spair", "pf-pascal", "pf-willow", "ap10k", "images", or "auto" to detect it from the folder's contents.
        root: the folder of the data set, or its parent if the folder has its usual name.
        split: "trn" (or "train"), "val" or "test". AP-10K also has "test_cross_species", "test_cross_family",
            "val_cross_species" and "val_cross_family"; the SPair-71k layout has "all".
        options: options of the data set's class, such as `skip_broken=True`.

    Raises:
        ValueError: name or split is unknown.
        DataError: a file is missing or broken; one sentence names the file and its origin.
    """
    root = Path(root).expanduser()
    split = _SPLITS.get(split, split)
    if name not in (*NEEDED, "auto"):
        raise ValueError(f"name must be 'auto' or one of {', '.join(NEEDED)}, got '{name}'")
    if not root.is_dir():
        needed = f"; it must have {NEEDED[name]}" if name in NEEDED else ""
        raise DataError(f"the folder {root} is missing{needed}.")
    found = recognise(root)
    if name == "auto":
        if not found:
            raise DataError(f"{root} must have the layout of a known data set ({', '.join(NEEDED)}), got another.")
        name = found[0]
    elif name not in found:
        instead = f" (it looks like {found[0]})" if found else ""
        raise DataError(f"{root} isn't {name}{instead}; it must have {NEEDED[name]}.")
    _check_split(name, split)
    return _OPENERS[name](root, split, **options)


def recognise(root: Path, *, images: bool = True) -> list[str]:
    """List the data sets whose layout a folder has, the most specific first.

    "images" is any folder with images. `images=False` leaves it out, which avoids walking the whole folder.
    """
    return [name for name, has_layout in _LAYOUTS.items() if (images or name != "images") and has_layout(root)]


def _check_split(name: str, split: str) -> None:
    special = {"spair": [*_SPLIT_NAMES, "all"], "pf-willow": ["test"], "ap10k": [*_SPLIT_NAMES, *_CROSS]}
    splits = special.get(name, _SPLIT_NAMES)
    if name != "images" and split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)} for {name}, got '{split}'")


_SPLIT_NAMES = ["trn", "val", "test"]
_CROSS = [f"{split}_cross_{group}" for split in ("val", "test") for group in ("species", "family")]


def _spair_root(root: Path) -> Path | None:
    return next((root / name for name in _SPAIR_FOLDERS if (root / name / "Layout").is_dir()), None)


def _has_willow(root: Path) -> bool:
    if any(next((root / name).glob("*/*.mat"), None) for name in pf_willow.FOLDERS):
        return not _has_pascal(root)
    lists = [root / f / n for f in pf_willow.FOLDERS for n in ("test_pairs.csv", "test_pairs_pf.csv")]
    return any(path.is_file() and path.read_text(errors="replace")[:32].startswith("imageA,") for path in lists)


def _has_pascal(root: Path) -> bool:
    paths = [path for split in _SPLIT_NAMES if (path := pf_pascal.find_list(root, split))]
    return any("source_image" in path.read_text(errors="replace")[:64] for path in paths)


def _has_ap10k(root: Path) -> bool:
    folders = [root / name for name in ap10k.FOLDERS]
    return any((f / "PairAnnotation").is_dir() and not (f / "Layout").is_dir() for f in folders)


def _has_images(root: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in root.rglob("*"))


def _open_spair(root: Path, split: str, **options: Any) -> PairDataset:
    return SPair(_spair_root(root) or root, split, **options)


_LAYOUTS: dict[str, Callable[[Path], bool]] = {
    "spair": lambda root: _spair_root(root) is not None,
    "ap10k": _has_ap10k,
    "pf-pascal": _has_pascal,
    "pf-willow": _has_willow,
    "images": _has_images,
}
_OPENERS: dict[str, _Opener] = {
    "spair": _open_spair,
    "pf-pascal": PFPascal,
    "pf-willow": PFWillow,
    "ap10k": AP10K,
    "images": WarpedImages,
}
