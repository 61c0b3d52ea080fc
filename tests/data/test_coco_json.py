"""COCO's files of people: what is broken is named by file, entry and field."""

import json
from pathlib import Path

import pytest
from pose_files import detection, person

from metaprompt_d2.data.coco_json import (
    check_posed_people,
    read_detections,
    read_people,
    split_parts,
)

IMAGE = {"id": 1, "file_name": "1.jpg", "height": 80, "width": 100}
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]


def write(tmp_path: Path, content: object) -> str:
    file = tmp_path / "people.json"
    file.write_text(json.dumps(content))
    return str(file)


def content(**changes: object) -> dict:
    return {"images": [IMAGE], "annotations": [person(7)], "categories": CATEGORIES} | changes


def test_what_is_left_out_is_completed(tmp_path: Path) -> None:
    bare = {"id": 3, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    dog = {"category_id": 2}  # other categories are left alone
    read = read_people(write(tmp_path, content(annotations=[bare, dog])), ["person"], 17)
    (found,) = read.annotations
    assert (read.images, read.classes) == ([IMAGE], {1: 0})
    assert found["keypoints"] == [0] * 51
    assert (found["num_keypoints"], found["area"], found["iscrowd"]) == (0, 12, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {"id": 1}}, "images are .*, expected a list"),
        ({"images": [3]}, r"images\[0\] is 3, expected names and values"),
        ({"images": [IMAGE | {"id": [1]}]}, r"images\[0\]: id is \[1\], expected an integer or"),
        ({"images": [IMAGE | {"height": 0}]}, r"images\[0\]: height is 0, expected a size"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] has no 'name'"),
        ({"annotations": [person(7, bbox=None)]}, "annotation 7: bbox is None, expected x, y"),
        ({"annotations": [person(7, bbox=[1, 2, 3])]}, "annotation 7: bbox is .*, expected x, y"),
        ({"annotations": [person(7, area="x")]}, "annotation 7: area is x, expected a number"),
        (
            {"annotations": [person(7, keypoints=[None] * 51)]},
            "annotation 7 of category 1: keypoints is ",
        ),
        ({"annotations": [person(7, keypoints=[1, 2, 2])]}, "annotation 7 of category 1 has 1 k"),
        ({"annotations": [person(7, image_id=5)]}, "annotation 7 belongs to image 5, which"),
        ({"annotations": [person(7, iscrowd="no")]}, "annotation 7: iscrowd is no, expected 0 or"),
        ({"categories": CATEGORIES[1:]}, r"categories are \['dog'\], expected one named 'person'"),
        (
            {"images": [IMAGE, IMAGE | {"id": "1", "file_name": "2.jpg"}]},
            r"the images 1\.jpg and 2\.jpg have the same id '1'",
        ),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"people\.json: {message}"):
        read_people(write(tmp_path, content(**changes)), ["person"], 17)


def test_detections_and_posed_people_are_checked_alike(tmp_path: Path) -> None:
    assert read_detections(write(tmp_path, [detection()])) == [detection()]
    with pytest.raises(ValueError, match=r"detections\[1\]: score is high, expected a number"):
        read_detections(write(tmp_path, [detection(), detection(score="high")]))
    posed = {"image_id": 1, "score": 0.5, "keypoints": [1.0] * 51}
    check_posed_people("a.json", [posed], 17)
    with pytest.raises(ValueError, match=r"a\.json: entries\[0\] has 17 keypoints, expected 16"):
        check_posed_people("a.json", [posed], 16)


def test_an_image_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    file = write(tmp_path, content(images=[IMAGE, IMAGE]))
    assert read_people(file, ["person"], 17).images == [IMAGE]


PARTS = [("body", 2), ("foot", 1)]


@pytest.mark.parametrize(
    ("fields", "keypoints"),
    [
        ({"foot_kpts": [5, 6, 0.1], "foot_valid": True}, [1, 2, 2, 0, 0, 0, 5, 6, 0.1]),
        ({"foot_kpts": [5, 6, 0.1]}, [1, 2, 2, 0, 0, 0, 5, 6, 0.1]),
        ({"foot_kpts": [5, 6, 0.1], "foot_valid": False}, [1, 2, 2, 0, 0, 0, 0, 0, 0]),
        ({"foot_kpts": None}, [1, 2, 2, 0, 0, 0, 0, 0, 0]),
        ({}, [1, 2, 2, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_parts_are_joined_if_they_are_valid(
    tmp_path: Path, fields: dict, keypoints: list[float]
) -> None:
    item = person(7, keypoints=[1, 2, 2, 0, 0, 0], num_keypoints=1) | fields
    file = write(tmp_path, content(annotations=[item]))
    (found,) = read_people(file, ["person"], 3, parts=PARTS).annotations
    assert found["keypoints"] == keypoints
    assert found["num_keypoints"] == sum(flag > 0 for flag in keypoints[2::3])


def test_results_are_split_as_they_are_joined() -> None:
    keypoints = [float(number) for number in range(9)]
    fields = split_parts(keypoints, PARTS)
    assert fields == {"keypoints": keypoints[:6], "foot_kpts": keypoints[6:]}
    (entry,) = check_posed_people(
        "a.json", [{"image_id": 1, "score": 0.5} | fields], 3, parts=PARTS
    )
    assert entry["keypoints"] == keypoints
    assert split_parts(keypoints, []) == {"keypoints": keypoints}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"foot_kpts": [1, 2]}, "has 0.666667 keypoints in foot_kpts, expected 1"),
        ({"foot_kpts": "no"}, ": foot_kpts is no, expected a list of numbers"),
        ({"foot_kpts": [1, 2, 2], "foot_valid": "no"}, ": foot_valid is no, expected 0 or 1"),
        ({"keypoints": [1, 2, 2]}, "has 1 keypoints in keypoints, expected 2"),
    ],
)
def test_a_broken_part_is_named(tmp_path: Path, fields: dict, message: str) -> None:
    item = person(7, keypoints=[0] * 6) | fields
    file = write(tmp_path, content(annotations=[item]))
    with pytest.raises(ValueError, match=rf"people\.json: annotation 7 of category 1 ?{message}"):
        read_people(file, ["person"], 3, parts=PARTS)


def test_images_have_the_numbers_that_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path, content(images=[IMAGE | {"crowdIndex": "high"}]))
    with pytest.raises(ValueError, match=r"images\[0\]: crowdIndex is high, expected a number"):
        read_people(file, ["person"], 17, image_numbers=["crowdIndex"])
