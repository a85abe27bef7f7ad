"""PCK of keypoints with a counterpart in the target, on pairs whose numbers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simplematch.cli import main
from simplematch.data import DataError, PairDataset, Symmetry, open_dataset, symmetry_of
from simplematch.evaluation import GeoAwareResult, PCKProtocol, Prediction, Predictions, geo_aware, score_predictions

from ..data.trees import edit_json, make_ap10k, make_pf_willow, make_spair, write_image, write_json
from ..models.tiny import tiny_model

PROTOCOL = PCKProtocol("bbox", "original", alphas=(0.1, 0.2))
POINTS = {"left": [20, 20], "right": [60, 20], "nose": [40, 50], "tail": [90, 90]}
FAR = [99, 5]
# common keypoints, all keypoints of the target, and predictions: boxes are 100 pixels wide
PAIRS = {
    "a-b": (["left", "right", "nose"], ["left", "right", "nose"], [[75, 20], [60, 29], FAR]),
    "b-c": (["left", "nose"], ["left", "right", "nose"], [FAR, [40, 65]]),  # the source lacks "right"
    "c-d": (["left", "tail"], ["left", "tail"], [[60, 20], FAR]),  # the target lacks "right"
}


@pytest.fixture
def dataset(tmp_path: Path) -> PairDataset:
    """Three pairs; pair 0's left ear lands near the right ear."""
    (tmp_path / "Layout/large").mkdir(parents=True)
    (tmp_path / "Layout/large/test.txt").write_text("".join(f"{name}:animal\n" for name in PAIRS))
    for name, (common, known, _) in PAIRS.items():
        source, target = name.split("-")
        points = {key: POINTS[key] if key in known else None for key in POINTS}
        size = {"image_width": 100, "image_height": 100}
        for image in (source, target):
            write_image(tmp_path / f"JPEGImages/animal/{image}.jpg", 0, 100, 100)
        write_json(
            tmp_path / f"ImageAnnotation/animal/{target}.json", size | {"filename": f"{target}.jpg", "kps": points}
        )
        record = {"kps_ids": common} | {f"{x}_kps": [POINTS[key] for key in common] for x in ("src", "trg")}
        record |= {"src_imname": f"{source}.jpg", "trg_imname": f"{target}.jpg"}
        record |= {f"{x}_imsize": [100, 100, 3] for x in ("src", "trg")}
        record |= {f"{x}_bndbox": [0, 0, 100, 100] for x in ("src", "trg")}
        write_json(tmp_path / f"PairAnnotation/test/{name}:animal.json", record)
    return open_dataset("spair", tmp_path)


def write_symmetry(path: Path, **groups: object) -> Symmetry:
    return Symmetry.load(write_json(path, groups))


def predictions(dataset: PairDataset) -> Predictions:
    found = [np.array(predicted, dtype=float) for _, _, predicted in PAIRS.values()]
    return Predictions([Prediction(dataset.info(i), p, np.ones(len(p))) for i, p in enumerate(found)], 64)


def score(dataset: PairDataset, path: Path) -> GeoAwareResult:
    symmetry = write_symmetry(path / "groups.json", animal=[["left", "right"]])
    return geo_aware(predictions(dataset), dataset, symmetry, PROTOCOL)


def test_known_pairs(dataset: PairDataset, tmp_path: Path) -> None:
    """Geo-aware are both ears of pair 0 (one right, one 15 pixels from its counterpart) and the ear of pair 1."""
    found = score(dataset, tmp_path).groups
    scores = found["animal"]
    assert (scores.geo_aware.pairs, scores.geo_aware.points) == (2, 3)
    assert scores.geo_aware.per_image == [0.25, 0.25] and scores.geo_aware.per_point == [1 / 3, 1 / 3]
    assert scores.wrong == [2, 2] and scores.confused == [0, 1]
    # the nose of pair 0 (wrong) and of pair 1 (15 pixels off); both points of pair 2, whose ear has no counterpart
    assert (scores.rest.pairs, scores.rest.points) == (3, 4)
    assert scores.rest.per_image == [0.0, 1 / 3] and scores.rest.per_point == [0.0, 0.25]
    assert found["all"] == scores


def test_both_parts_are_the_whole(dataset: PairDataset, tmp_path: Path) -> None:
    whole = score_predictions(predictions(dataset), PROTOCOL).overall
    parts = score(dataset, tmp_path).groups["all"]
    hits = [x * parts.geo_aware.points + y * parts.rest.points for x, y in zip(
        parts.geo_aware.per_point, parts.rest.per_point, strict=True)]  # fmt: skip
    assert parts.geo_aware.points + parts.rest.points == whole.points
    np.testing.assert_allclose(hits, np.array(whole.per_point) * whole.points)


def test_a_match_between_both_is_right_and_no_confusion(dataset: PairDataset, tmp_path: Path) -> None:
    """At alpha 0.4 the left ear of pair 0 is near both ears."""
    symmetry = write_symmetry(tmp_path / "groups.json", animal=[["left", "right"]])
    items = predictions(dataset)
    items.items[0].predicted[0] = 40, 20
    (scores, _) = geo_aware(
        items, dataset, symmetry, PCKProtocol("bbox", "original", alphas=(0.1, 0.4))
    ).groups.values()
    assert scores.wrong == [2, 1] and scores.confused == [0, 0]


def test_nan_is_wrong_and_no_confusion(dataset: PairDataset, tmp_path: Path) -> None:
    items = predictions(dataset)
    items.items[0].predicted[:] = math.nan
    symmetry = write_symmetry(tmp_path / "groups.json", animal=[["left", "right"]])
    scores = geo_aware(items, dataset, symmetry, PROTOCOL).groups["all"]
    assert scores.wrong == [3, 3] and scores.confused == [0, 0]


def test_any_of_a_group_is_a_counterpart(dataset: PairDataset, tmp_path: Path) -> None:
    """With the nose in the group, pair 0's nose is geo-aware, and pair 1's ear may be mistaken for two others."""
    symmetry = write_symmetry(tmp_path / "groups.json", animal=[["left", "right", "nose"]])
    scores = geo_aware(predictions(dataset), dataset, symmetry, PROTOCOL).groups["all"]
    assert scores.geo_aware.points == 5 and scores.rest.points == 2 and scores.wrong == [4, 3]


def test_swapped_pairs_look_into_the_other_image(dataset: PairDataset, tmp_path: Path) -> None:
    """Pair "c-d" from d to c: c has the right ear, so d's ear is geo-aware; a has no annotation of its own."""
    infos = [dataset.info(i).swapped() for i in range(3)]
    items = [Prediction(info, info.target_keypoints, np.ones(len(info.target_keypoints)), True) for info in infos]
    symmetry = write_symmetry(tmp_path / "groups.json", animal=[["left", "right"]])
    protocol = PCKProtocol("bbox", "original", reverse=True)
    scores = geo_aware(Predictions(items, 64), dataset, symmetry, protocol).groups["all"]
    assert (scores.geo_aware.pairs, scores.geo_aware.points, scores.rest.points) == (3, 4, 3)
    assert scores.geo_aware.per_image == [1.0] * 7 and scores.wrong == [0] * 7
    with pytest.raises(ValueError, match="must have pairs from source to target"):
        geo_aware(Predictions(items, 64), dataset, symmetry, PROTOCOL)


def test_eval_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, output = tmp_path / "data", tmp_path / "result.json"
    make_spair(root)
    torch.manual_seed(0)
    tiny_model("efficientnet-lite0-256").save_pretrained(tmp_path / "model")
    write_json(root / "symmetry.json", {"*": [["0", "1"]]})  # found in the folder of the data set
    data = ["eval", "--dataset", "spair", "--root", str(root), "--checkpoint", str(tmp_path / "model")]
    main([*data, "--output", str(output), "--codebase", "default,cats"])
    printed = capsys.readouterr().out
    report = json.loads(output.read_text())
    assert len(report["geo_aware"]) == 2 and printed.count(f"geo-aware keypoints ({root / 'symmetry.json'})") == 2
    scores = report["geo_aware"][0]["groups"]["cat face"]
    assert (scores["geo_aware"]["points"], scores["rest"]["points"]) == (6, 6)
    line = next(line for line in printed.splitlines() if line.startswith("cat face, geo-aware"))
    assert line.split()[3:5] == ["3", "6"] and line.split()[-1] == f"{100 * scores['geo_aware']['per_image'][-1]:.1f}"
    rows = output.with_suffix(".csv").read_text()
    assert ",geo-aware,cat face,confused,0.1," in rows and ",geo-aware rest,all,per-point,0.3," in rows
    write_json(root / "symmetry.json", {"cat face": [["0", "7"]]})
    with pytest.raises(SystemExit):
        main(data)
    assert "category 'cat face' must group its keypoints (0, 1, 2, 3, 4, 5, 6), got '7'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dog": [["left", "right"]]}, r"must name categories of .* \(animal\), got 'dog'"),
        ({"animal": [["left", "ear"]]}, r"'animal' must group its keypoints \(left, nose, tail, right\), got 'ear'"),
        ({"*": [["left", "ear"]]}, "'animal' must group its keypoints"),
        (
            {"animal": [["left", "right"], ["right", "nose"]]},
            "keypoint 'right' of category 'animal' must be in one group",
        ),
        ({"animal": [["left", "left"]]}, "keypoint 'left' of category 'animal' must be in one group, once"),
        ({"animal": [["left"]]}, r"must be a list of groups of at least two keypoints, got \['left'\]"),
        ({"animal": ["left", "right"]}, "must be a list of groups of at least two keypoints, got 'left'"),
        ({"animal": {"left": "right"}}, "must be a list of groups of at least two keypoints"),
        ({"animal": [[0, True]]}, "must be a list of groups of at least two keypoints"),
        ([["left", "right"]], "must hold a JSON object, got list"),
        ({}, "must have a list of groups of keypoints for each category, got none"),
    ],
)
def test_mistakes_in_the_file(dataset: PairDataset, tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        symmetry_of(dataset, write_json(tmp_path / "groups.json", content))


def test_files_of_the_package(dataset: PairDataset, shared_data: Path) -> None:
    landmarks = open_dataset("spair", shared_data / "data/Landmarks-SPair")
    found = symmetry_of(landmarks, "landmarks-spair")
    assert found is not None and found.partners("face")["16"] == ("19",) and found.partners("people")["0"] == ("5",)
    spair = symmetry_of(open_dataset("spair", shared_data / "data/SPair-71k-mini"), "spair-71k")
    assert spair is not None and len(spair.groups) == 18 and spair.partners("cow")["9"] == ("10", "11", "12")
    with pytest.raises(DataError, match=r"symmetry spair-71k must name categories of .* \(animal\), got 'aeroplane'"):
        symmetry_of(dataset, "spair-71k")
    with pytest.raises(
        DataError, match="symmetry must be a file or one of ap-10k, landmarks-spair, spair-71k, got 'spair'"
    ):
        symmetry_of(dataset, "spair")
    assert symmetry_of(dataset) is None


def test_faces_and_people_are_mirrored(shared_data: Path) -> None:
    """In every frontal face, the first of a group is on the viewer's left; people mostly face the viewer, too."""
    landmarks = open_dataset("spair", shared_data / "data/Landmarks-SPair")
    symmetry = Symmetry.load("landmarks-spair")
    for category, least in (("face", 0.99), ("people", 0.5)):
        infos = [info for i in range(len(landmarks)) if (info := landmarks.info(i)).category == category]
        points = [landmarks.target_keypoints(info) for info in infos[::7]]
        for first, second in symmetry.groups[category]:
            sides = [known[first][0] < known[second][0] for known in points if first in known and second in known]
            assert np.mean(sides) > least, (category, first, second)


def test_ap10k_reads_all_keypoints_of_the_target(tmp_path: Path) -> None:
    from simplematch.data import prepare_ap10k

    make_ap10k(tmp_path)
    prepare_ap10k(tmp_path, tmp_path)
    dataset = open_dataset("ap10k", tmp_path, "val")
    symmetry = symmetry_of(dataset, "ap-10k")
    assert symmetry is not None and symmetry.partners(dataset.categories[0])["6"] == ("9", "12", "15")
    info = dataset.info(0)
    for pair in (info, info.swapped()):
        known = dataset.target_keypoints(pair)
        assert set(pair.keypoint_ids) < set(known)
        assert all((known[k] == p).all() for k, p in zip(pair.keypoint_ids, pair.target_keypoints, strict=True))


def test_willow_collects_keypoints_from_pairs_and_warps_have_none(tmp_path: Path, photographs: Path) -> None:
    make_pf_willow(tmp_path, with_csv=True)
    dataset = open_dataset("pf-willow", tmp_path)
    assert set(dataset.target_keypoints(dataset.info(0))) == {str(i) for i in range(10)}
    assert dataset.keypoint_names(dataset.categories[0]) == {str(i) for i in range(10)}
    with pytest.raises(DataError, match=r"symmetry needs keypoints with names, which .* doesn't have"):
        write_symmetry(tmp_path / "groups.json", **{"*": [["0", "1"]]}).check(open_dataset("images", photographs))


def test_keypoints_that_an_image_lacks_are_no_counterparts(tmp_path: Path) -> None:
    make_spair(tmp_path)
    dataset = open_dataset("spair", tmp_path)
    info = dataset.info(0)
    assert set(dataset.target_keypoints(info)) == set("012345") and "6" in dataset.keypoint_names("cat face")
    edit_json(tmp_path / f"ImageAnnotation/cat face/{info.target_path.stem}.json", kps={"0": None, "1": [1, 2]})
    again = open_dataset("spair", tmp_path).target_keypoints(info)
    assert set(again) == {"1", *info.keypoint_ids} and (again["0"] == info.target_keypoints[0]).all()
