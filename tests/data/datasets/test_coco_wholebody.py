"""COCO-WholeBody's keypoints, their pairs and files."""

import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from keypoint_layouts import write_wholebody

from metaprompt_d2.data import find_keypoint_schema
from metaprompt_d2.data.datasets import register_coco_wholebody


def test_the_keypoints_are_those_of_the_paper() -> None:
    schema = find_keypoint_schema("coco_wholebody_topdown_train")
    coco = find_keypoint_schema("coco_2017_person_topdown_train")
    assert len(schema) == 133
    assert schema.names[:17] == coco.names
    assert schema.names[17:23:5] == ("left_big_toe", "right_heel")
    assert schema.names[23:91:67] == ("face-0", "face-67")
    assert schema.names[91:133:21] == ("left_hand_root", "right_hand_root")
    assert schema.names[95] == "left_thumb4"
    assert schema.names[132] == "right_pinky_finger4"
    assert schema.flip_indices[:17] == coco.flip_indices
    assert (schema.sigmas[23 + 47], schema.sigmas[91 + 4]) == (0.034, 0.047)
    # Sums of the official evaluation's standard deviations: body, feet, face, hands.
    sums = [np.sum(schema.oks_sigmas[place]) for place in schema.part_slices.values()]
    assert sums == pytest.approx([coco.oks_sigmas.sum(), 0.48, 1.137, 0.553, 0.553])


def test_a_mirror_image_of_a_face_is_a_face() -> None:
    """The 68 keypoints of iBUG: the same curve from the other end, for each part of the face."""
    flips = find_keypoint_schema("coco_wholebody_topdown_train").flip_indices
    face = np.array(flips[23:91]) - 23
    np.testing.assert_array_equal(face[:17], np.arange(16, -1, -1))  # chin
    np.testing.assert_array_equal(face[17:27], np.arange(26, 16, -1))  # brows
    np.testing.assert_array_equal(face[27:31], np.arange(27, 31))  # bridge of the nose
    np.testing.assert_array_equal(face[31:36], np.arange(35, 30, -1))  # nostrils
    np.testing.assert_array_equal(face[36:48], [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40])
    np.testing.assert_array_equal(face[48:60], [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55])
    np.testing.assert_array_equal(face[60:68], [64, 63, 62, 61, 60, 67, 66, 65])
    np.testing.assert_array_equal(flips[91:], [*range(112, 133), *range(91, 112)])  # hands


@pytest.mark.usefixtures("empty_catalogs")
def test_the_published_layout_is_read(tmp_path: Path) -> None:
    write_wholebody(tmp_path)
    register_coco_wholebody(str(tmp_path))
    person, *_ = DatasetCatalog.get("coco_wholebody_topdown_val_gt")
    assert len(person["annotations"][0]["keypoints"]) == 3 * 133
    folder = str(tmp_path / "coco/val2017")
    assert os.path.dirname(person["file_name"]) == folder
    metadata = MetadataCatalog.get("coco_wholebody_topdown_val_det")
    assert metadata.detections_file.endswith("COCO_val2017_detections_AP_H_56_person.json")
    train = MetadataCatalog.get("coco_wholebody_topdown_train").json_file
    assert train == str(tmp_path / "coco/annotations/coco_wholebody_train_v1.0.json")
