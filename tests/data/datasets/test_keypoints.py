"""People of COCO's files: who is a sample, who is left out and counted, what is refused."""

import json
import logging
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from pose_files import (
    PEOPLE,
    detection,
    person,
    registered_people,
    write_detections,
    write_people,
)

from metaprompt_d2.data.datasets.keypoints import load_annotated_people, load_detected_people


def annotated(root: Path, annotations: list[dict]) -> list[dict]:
    return load_annotated_people(str(write_people(root, annotations)), str(root), **PEOPLE)


def detected(root: Path, detections: list[dict]) -> list[dict]:
    files = write_people(root, []), write_detections(root, detections)
    return load_detected_people(str(files[0]), str(root), str(files[1]), **PEOPLE)


def ids(people: list[dict]) -> list[int]:
    return [item["person_id"] for item in people]


def test_one_sample_a_person_with_a_clean_box(tmp_path: Path) -> None:
    people = annotated(tmp_path, [person(7), person(8, 2, bbox=[-5.0, 60.0, 30.0, 60.0])])
    assert ids(people) == [7, 8]
    assert people[0]["person_box"] == [10, 10, 29, 59]
    assert people[1]["person_box"] == [0, 60, 29, 19]
    assert people[1]["file_name"] == str(tmp_path / "000000000002.jpg")
    assert (people[1]["height"], people[1]["width"], people[1]["box_score"]) == (80, 100, 1)
    assert people[0]["annotations"][0]["keypoints"] == person(7)["keypoints"]


def test_who_cannot_be_posed_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_keypoints = person(3)
    del no_keypoints["keypoints"], no_keypoints["num_keypoints"]
    rest = [
        person(1),
        person(2, iscrowd=1),
        no_keypoints,
        person(4, keypoints=[0] * 51, num_keypoints=0),
        person(5, bbox=[200.0, 10.0, 30.0, 60.0]),
        person(6, bbox=[10.0, 10.0, 0.0, 60.0]),
        person(7, area=0.0),
        person(8, bbox=[float("nan"), 10.0, 30.0, 60.0]),
    ]
    with caplog.at_level(logging.INFO):
        assert ids(annotated(tmp_path, rest)) == [1]
    assert "1 crowds (2)" in caplog.text
    assert "2 people without a labeled keypoint (3, 4)" in caplog.text
    assert "4 people whose box has no area within the image (5, 6, 7, 8)" in caplog.text


def test_an_image_without_people_gives_no_sample(tmp_path: Path) -> None:
    assert {item["image_id"] for item in annotated(tmp_path, [person(1)])} == {1}


def test_nobody_at_all_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0 people of .*people.json; left out: 1 crowds \(2\)"):
        annotated(tmp_path, [person(2, iscrowd=1)])


@pytest.mark.parametrize("count", [16, 18])
def test_another_number_of_keypoints_is_an_error(tmp_path: Path, count: int) -> None:
    with pytest.raises(
        ValueError, match=f"annotation 3 of category 1 has {count} keypoints, expected 17"
    ):
        annotated(tmp_path, [person(3, keypoints=[1] * 3 * count)])


def test_an_annotation_of_an_unknown_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="annotation 3 belongs to image 99"):
        annotated(tmp_path, [person(3, 99)])


def test_files_that_are_missing_or_no_annotations_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json does not exist"):
        load_annotated_people(str(tmp_path / "nothing.json"), "", **PEOPLE)
    file = tmp_path / "broken.json"
    file.write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        load_annotated_people(str(file), "", **PEOPLE)
    file.write_text("[]")
    with pytest.raises(ValueError, match="lacks one of COCO's lists"):
        load_annotated_people(str(file), "", **PEOPLE)


def test_detected_boxes_stay_as_they_are(tmp_path: Path) -> None:
    people = detected(tmp_path, [detection(2, 0.25, bbox=[-5.5, 60.0, 30.0, 60.0])])
    assert people[0]["person_box"] == [-5.5, 60, 30, 60]
    assert (people[0]["box_score"], people[0]["image_id"]) == (0.25, 2)
    assert "annotations" not in people[0]


def test_detections_that_cannot_be_posed_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rest = [
        detection(99),
        detection(category_id=3),
        detection(bbox=[10.0, 10.0, 0.0, 5.0]),
        detection(bbox=[-50.0, 10.0, 40.0, 5.0]),
        detection(),
    ]
    with caplog.at_level(logging.INFO):
        assert ids(detected(tmp_path, rest)) == [4]
    assert "1 detections of other categories than person, 1 (1)" in caplog.text
    assert "does not list (0)" in caplog.text
    assert "2 detections without area within their image (2, 3)" in caplog.text


def test_detections_of_unknown_images_alone_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 people of .*does not list"):
        detected(tmp_path, [detection(99)])


@pytest.mark.parametrize("content", [{}, [{"image_id": 1}], [3]])
def test_a_file_of_something_else_than_detections_is_an_error(
    tmp_path: Path, content: object
) -> None:
    with pytest.raises(ValueError, match=r"detections\.json: detections"):
        detected(tmp_path, content)


def test_registered_people_are_loaded_with_names_and_colors_of_keypoints(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, [person(1)])) as name:
        assert len(DatasetCatalog.get(name)) == 1
        metadata = MetadataCatalog.get(name)
        assert metadata.evaluator_type == "coco_person_topdown"
        assert len(metadata.keypoint_names) == 17
        assert metadata.keypoint_connection_rules


def test_the_real_annotations_and_detections(real_data: Path) -> None:
    folder = real_data / "coco"
    json_file = folder / "annotations/person_keypoints_val2017.json"
    people = load_annotated_people(str(json_file), str(folder / "val2017"), **PEOPLE)
    assert ids(people) == [442619, 198196, 230195]
    detections_file = folder / "annotations/COCO_val2017_detections_AP_H_56_person.json"
    found = load_detected_people(
        str(json_file), str(folder / "val2017"), str(detections_file), **PEOPLE
    )
    assert len(found) == len(json.loads(detections_file.read_text())) == 48
