"""Untrusted annotations: paths stay inside the data set, and values of a wrong type give one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from simplematch._yaml import read_yaml
from simplematch.data import DataError, PFWillow, SPair, open_dataset, prepare_ap10k
from simplematch.data.files import inside

from .trees import edit_json, make_ap10k, make_pf_pascal, make_pf_willow, make_spair, write_image, write_json

OUTSIDE = [
    "../secret.jpg",
    "a/../../secret.jpg",
    "/etc/secret.jpg",
    "..",
    "/",
    ".",
    "",
    "a\0.jpg",
    "\ud800.jpg",
    5,
    ["a"],
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leads_outside_is_named(name: Any) -> None:
    with pytest.raises(DataError, match=r"^pairs\.json: field 'x' must be .*, got .*\.$"):
        inside(name, "pairs.json: field 'x'")


@pytest.mark.parametrize("name", ["a.jpg", "b/a.jpg", "..a.jpg", "a..b/c.jpg", "~/a.jpg"])
def test_what_stays_inside_is_taken(name: str) -> None:
    assert inside(name, "pairs.json") == Path(name)


@pytest.mark.parametrize("field", ["src_imname", "trg_imname", "category"])
@pytest.mark.parametrize("value", ["../../../secret.jpg", "/etc/secret.jpg", 7])
def test_spair_pairs(field: str, value: Any, tmp_path: Path) -> None:
    (file, *_) = make_spair(tmp_path)
    edit_json(file, **{field: value})
    with pytest.raises(DataError, match=rf"field '{field}' must be .*, got .*") as caught:
        SPair(tmp_path, "test")
    assert str(file) in str(caught.value)
    assert len(SPair(tmp_path, "test", skip_broken=True)) == 2


def test_spair_lists_and_images(tmp_path: Path) -> None:
    make_spair(tmp_path)
    edit_json(tmp_path / "ImageAnnotation/cat face/a-1.json", filename="../../../secret.jpg")
    with pytest.raises(
        DataError, match=r"a-1\.json: field 'filename' must be a path inside .*, got '\.\./\.\./\.\./secret\.jpg'"
    ):
        SPair(tmp_path, "test").images()
    with (tmp_path / "Layout/large/test.txt").open("a") as file:
        file.write("../../../secret:cat\n")
    with pytest.raises(
        DataError, match=r"Layout: a line of the list of test pairs must be a path inside .*, got '.*secret:cat\.json'"
    ):
        SPair(tmp_path, "test")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kps_ids", 5, "field 'kps_ids' must be a list, got 5"),
        ("src_imsize", [True, 30, 3], "field 'src_imsize' must be positive integers, got .*"),
        ("src_imsize", [1 << 40, 30, 3], "field 'src_imsize' must be positive integers, got .*"),
        ("src_kps", [["1", "2"]] * 3, "field 'src_kps' must be a list of points, got .*"),
        ("src_kps", [[10**300, 2]] * 3, "field 'src_kps' must be a list of points, got .*"),
        ("src_kps", [[[[1, 2]]]], "field 'src_kps' must hold 2 finite numbers per point, got .*"),
        ("src_kps", {"0": [1, 2]}, "field 'src_kps' must be a list of points, got .*"),
        ("src_bndbox", "1234", "field 'src_bndbox' must be four numbers, got '1234'"),
        ("src_bndbox", ["1", "2", "3", "4"], "field 'src_bndbox' must be four numbers, got .*"),
    ],
)
def test_values_of_a_wrong_kind(field: str, value: Any, message: str, tmp_path: Path) -> None:
    (file, *_) = make_spair(tmp_path)
    edit_json(file, **{field: value})
    with pytest.raises(DataError, match=message) as caught:
        SPair(tmp_path, "test")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"category": "a", "category": "b"}', "the key 'category' appears twice"),
        ('{"src_kps": [[NaN, 1]]}', "NaN is not a JSON number"),
        ('{"src_kps": [[1e999, 1]]}', "the number 1e999 is too large"),
        ("[" * 5000, "it is nested too deeply"),
        ("[]", "must hold a JSON object, got list"),
    ],
)
def test_annotations_that_are_no_json(text: str, message: str, tmp_path: Path) -> None:
    (file, *_) = make_spair(tmp_path)
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        SPair(tmp_path, "test")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["..", "a/.."])
def test_pf_pascal_takes_names_alone(name: str, tmp_path: Path) -> None:
    make_pf_pascal(tmp_path)
    path = tmp_path / "test_pairs.csv"
    text = path.read_text()
    listed = "PF-dataset-PASCAL/JPEGImages/2008_000001.jpg"
    path.write_text(text.replace(listed, "/elsewhere/../JPEGImages/2008_000001.jpg"))
    assert open_dataset("pf-pascal", tmp_path, "test").info(0).source_path.parent.name == "JPEGImages"
    path.write_text(text.replace(listed, name))
    with pytest.raises(DataError, match=r"test_pairs\.csv, line 2: column 'source_image' must be .*, got '\.\.'"):
        open_dataset("pf-pascal", tmp_path, "test")


def test_pf_willow(tmp_path: Path) -> None:
    make_pf_willow(tmp_path / "data", with_csv=True)
    secret = write_image(tmp_path / "secret.png")
    path = tmp_path / "data/test_pairs.csv"
    text = path.read_text()
    for name in (str(secret), "../secret.png"):
        path.write_text(text.replace("PF-dataset/car(G)/Image_000.png", name, 1))
        with pytest.raises(DataError, match=r"test_pairs\.csv, line 2: an image must be a path inside"):
            PFWillow(tmp_path / "data")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    make_ap10k(root, 53)
    return root


def changed(raw: Path, folder: Path, part: str, **changes: Any) -> Path:
    """Copy the raw AP-10K and change an entry of `part`."""
    folder.mkdir()
    (folder / "data").symlink_to(raw / "data")
    for name in ("train", "val", "test"):
        content = json.loads((raw / f"annotations/ap10k-{name}-split1.json").read_text())
        chosen = content[part][-1]  # the only annotation of its image, and not a crowd
        chosen.update(changes)
        write_json(folder / f"annotations/ap10k-{name}-split1.json", content)
    return folder


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("categories", {"name": "../../../outside"}, "field 'name' must be a path inside"),
        ("categories", {"supercategory": "/outside"}, "field 'supercategory' must be a path inside"),
        ("categories", {"name": "big/cat"}, "field 'name' must be a name without '/', got 'big/cat'"),
        ("categories", {"name": 7}, "field 'name' must be the name of a file, got 7"),
        ("categories", {"id": "1"}, "field 'id' must be a whole number, got '1'"),
        ("images", {"id": [1]}, r"field 'id' must be a whole number, got \[1\]"),
        ("annotations", {"image_id": None}, "field 'image_id' must be a whole number, got None"),
        ("annotations", {"category_id": 99}, "an annotation of category 99, which is not in 'categories'"),
        ("annotations", {"keypoints": "none"}, "field 'keypoints' must be a list, got 'none'"),
        ("annotations", {"keypoints": ["1"] * 51}, "field 'keypoints' must be a list of points, got .*"),
    ],
)
def test_raw_ap10k(part: str, changes: dict[str, Any], message: str, raw: Path, tmp_path: Path) -> None:
    source = changed(raw, tmp_path / "source", part, **changes)
    with pytest.raises(DataError, match=message):
        prepare_ap10k(source, tmp_path / "deep/prepared")
    assert os.listdir(tmp_path) == ["source"] and not (tmp_path / "source/ImageAnnotation").exists()


def test_raw_ap10k_names_images_inside(raw: Path, tmp_path: Path) -> None:
    source = changed(raw, tmp_path / "source", "images", file_name="../annotations/secret.jpg")
    content = json.loads((source / "annotations/ap10k-val-split1.json").read_text())
    for image in content["images"]:
        image["file_name"] = "../annotations/secret.jpg"
    write_json(source / "annotations/ap10k-val-split1.json", content)
    with pytest.raises(DataError, match=r"field 'file_name' must be a path inside .*, got '.*secret\.jpg'"):
        prepare_ap10k(source, tmp_path / "prepared")


def test_ap10k_pairs(raw: Path, tmp_path: Path) -> None:
    prepare_ap10k(raw, tmp_path)
    file = next((tmp_path / "PairAnnotation/val").glob("*.json"))
    edit_json(file, src_json_path="x/ImageAnnotation/../../secret.json")
    with pytest.raises(DataError, match=r"every path must be a path inside .*, got 'ImageAnnotation/.*secret\.json'"):
        open_dataset("ap10k", tmp_path, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "the key 'a' appears again in line 2"),
        ("a: .nan\n", r"line 1 must have a finite number, got \.nan"),
        ("a: 1.0e+999\n", r"line 1 must have a finite number, got 1\.0e\+999"),
        ("a: [", "can't be read as YAML: expected the node content, .* in line 1"),
        ("[" * 500, "it is nested too deeply"),
        ("- 1\n", "must hold fields and values, got list"),
        ("a: !!python/object/apply:os.getpid []\n", "could not determine a constructor"),
        ("#" + " " * (1 << 20), "it is larger than 1 MiB"),
    ],
)
def test_configurations(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(DataError, match=r"run\.yaml is missing"):
        read_yaml(path)
    path.write_text(text)
    with pytest.raises(DataError, match=r"run\.yaml .*" + message) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
