"""Pairs and connections by the names of keypoints."""

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from metaprompt_d2.data import find_keypoint_schema
from metaprompt_d2.data.datasets.keypoint_names import connect, pair_sides
from metaprompt_d2.visualization import compare_people


def test_sides_are_paired_and_colored() -> None:
    names = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]
    assert pair_sides(names) == [("left_eye", "right_eye"), ("left_ear", "right_ear")]
    connections = connect(["nose", "left_eye", "left_ear"], ["left_eye", "right_eye"])
    assert [connection[:2] for connection in connections] == [
        ("nose", "left_eye"),
        ("left_eye", "left_ear"),
        ("left_eye", "right_eye"),
    ]
    colors = [color for *_, color in connections]
    assert colors[0] == colors[1] != colors[2]


@pytest.mark.parametrize(
    "name", ["coco_wholebody_topdown_train", "ap10k_topdown_train_split1", "crowdpose_topdown_val"]
)
def test_skeletons_are_drawn(name: str) -> None:
    count = len(find_keypoint_schema(name))
    points = np.random.default_rng(0).uniform(5, 95, (1, count, 2))
    keypoints = torch.from_numpy(np.concatenate([points, np.ones((1, count, 1))], axis=2))
    people = Instances((100, 100), pred_keypoints=keypoints.float())
    people.pred_boxes = Boxes(torch.tensor([[0.0, 0, 100, 100]]))
    image = np.zeros((100, 100, 3), np.uint8)
    assert compare_people(image, people, None, MetadataCatalog.get(name)).any()
