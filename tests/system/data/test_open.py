"""Detection of layouts, and errors for missing ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from simplematch.data import DataError, open_dataset, recognise

from .trees import make_ap10k, make_pf_pascal, make_pf_willow, make_spair, write_image


def test_recognises_each_layout(tmp_path: Path) -> None:
    make_spair(tmp_path / "a/SPair-71k")
    make_pf_pascal(tmp_path / "b", "PF-dataset-PASCAL")
    make_pf_willow(tmp_path / "c/PF-WILLOW", with_csv=True)
    write_image(tmp_path / "d/holiday/one.png")
    make_ap10k(tmp_path / "e", 1)
    found = [recognise(tmp_path / name)[0] for name in "abcde"]
    assert found == ["spair", "pf-pascal", "pf-willow", "images", "images"]  # raw AP-10K is only images
    assert open_dataset("auto", tmp_path / "a", "train").split == "trn"


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"the folder .*nowhere is missing; it must have Layout/large.*cvlab.postech.ac.kr"
    ):
        open_dataset("spair", tmp_path / "nowhere")
    for name, origin in (("spair", "SPair-71k.tar.gz"), ("pf-willow", "PF-dataset.zip"), ("ap10k", "prepare_ap10k")):
        with pytest.raises(DataError, match=f"isn't {name}; it must have .*{origin}"):
            open_dataset(name, tmp_path)
    with pytest.raises(DataError, match="must have the layout of a known data set"):
        open_dataset("auto", tmp_path)
    make_pf_willow(tmp_path, with_csv=False)
    with pytest.raises(DataError, match=r"isn't pf-pascal \(it looks like pf-willow\)"):
        open_dataset("pf-pascal", tmp_path)


def test_unknown_names(tmp_path: Path) -> None:
    make_spair(tmp_path)
    with pytest.raises(ValueError, match=r"name must be 'auto' or one of spair.*, got 'spair-71k'"):
        open_dataset("spair-71k", tmp_path)
    with pytest.raises(ValueError, match="split must be one of trn, val, test, all for spair, got 'dev'"):
        open_dataset("spair", tmp_path, "dev")


def test_pascal_without_images(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path, listed=True)
    (tmp_path / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no folder JPEGImages beside or below .*PF-dataset-PASCAL.zip"):
        open_dataset("pf-pascal", tmp_path)


def test_subset(tmp_path: Path) -> None:
    make_spair(tmp_path)
    dataset = open_dataset("spair", tmp_path)
    part = dataset.subset([2, 0])
    assert [part.info(i).pair_id for i in range(2)] == [dataset.info(2).pair_id, dataset.info(0).pair_id]
    assert len(dataset) == 3 and part.name == "spair" and part[0].source.shape == (3, 30, 40)
    with pytest.raises(IndexError, match="index must be 0 to 1, got 2"):
        part.info(2)
