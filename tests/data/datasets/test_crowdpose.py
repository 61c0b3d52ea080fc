"""CrowdPose's keypoints and files."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from keypoint_layouts import write_crowdpose

from metaprompt_d2.data import find_keypoint_schema
from metaprompt_d2.data.datasets import register_crowdpose


def test_the_keypoints_are_those_of_the_paper() -> None:
    schema = find_keypoint_schema("crowdpose_topdown_train")
    parts = ["shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
    names = [f"{side}_{part}" for part in parts for side in ("left", "right")]
    assert schema.names == (*names, "head", "neck")
    assert schema.flip_indices == (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13)
    tenths = (0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79)
    assert schema.sigmas == pytest.approx([tenth / 10 for tenth in tenths])


@pytest.mark.usefixtures("empty_catalogs")
def test_the_published_layout_is_read(tmp_path: Path) -> None:
    write_crowdpose(tmp_path)
    register_crowdpose(str(tmp_path))
    people = DatasetCatalog.get("crowdpose_topdown_test_gt")
    assert len(people) == 17  # all but the one without visible keypoints
    assert people[0]["file_name"] == str(tmp_path / "crowdpose/images/1.jpg")
    found = DatasetCatalog.get("crowdpose_topdown_test_det")
    assert [item["box_score"] for item in found] == [0.9] * 18
    trainval = MetadataCatalog.get("crowdpose_topdown_trainval").json_file
    assert trainval == str(tmp_path / "crowdpose/annotations/mmpose_crowdpose_trainval.json")
