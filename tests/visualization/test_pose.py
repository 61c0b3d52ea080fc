"""Pictures of people: skeletons, and people and keypoints that are too uncertain to draw."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances

from metaprompt_d2.visualization import annotated_people, compare_people, draw_overlay


def people(*keypoints: list) -> Instances:
    return Instances(
        (60, 100),
        pred_boxes=Boxes(torch.tensor([[10.0, 5, 90, 55]] * len(keypoints)).view(-1, 4)),
        pred_keypoints=torch.tensor(keypoints).view(-1, 17, 3),
    )


@pytest.mark.parametrize("with_truth", [False, True])
def test_skeletons_are_drawn_where_the_keypoints_are(with_truth: bool) -> None:
    image = np.full((60, 100, 3), 50, np.uint8)
    metadata = MetadataCatalog.get("mini_coco_person_topdown_val")
    found = people([[20.0 + 4 * index, 30.0, 1.0] for index in range(17)])
    row = compare_people(image, found, people() if with_truth else None, metadata)
    width, gap = 500, 4  # enlarged five times
    count = 3 if with_truth else 2
    assert row.shape[1] == count * width + (count - 1) * gap
    title = row.shape[0] - 300
    parts = [row[title:, i * (width + gap) :][:, :width] for i in range(count)]
    assert (parts[0] == 50).all()
    if with_truth:
        assert (parts[1] == 50).all()  # nobody is annotated
    changed = (parts[-1] != 50).any(axis=2)
    assert changed[140:160, 100:420].any(axis=0).mean() > 0.3


def test_unlikely_keypoints_are_not_drawn() -> None:
    image = np.full((60, 100, 3), 50, np.uint8)
    metadata = MetadataCatalog.get("mini_coco_person_topdown_val")
    found = people([[50.0, 30.0, 0.01]] * 17)
    row = compare_people(image, found, None, metadata)
    assert (row[-200:-100, 504 + 150 : 504 + 350] == 50).all()


def test_detections_below_a_score_are_not_drawn_and_the_truth_is() -> None:
    image = np.full((60, 100, 3), 50, np.uint8)
    metadata = MetadataCatalog.get("mini_coco_person_topdown_val")
    line = [[20.0 + 4 * index, 30.0, 1.0] for index in range(17)]
    found = people(line, line)

    def changed(scores: list[float]) -> tuple[bool, bool]:
        """Whether the columns of ground truth and prediction show somebody."""
        found.scores = torch.tensor(scores)
        row = compare_people(image, found, people(line), metadata)[-300:]
        return tuple(bool((row[:, 504 * i : 504 * i + 500] != 50).any()) for i in (1, 2))

    assert changed([0.1, 0.29]) == (True, False)
    assert changed([0.1, 0.31]) == (True, True)
    assert len(found) == 2


def overlays(thing_classes: list[str], categories: list[int]) -> np.ndarray:
    """The difference that `pred_classes` make to a picture, (H, W) bool."""
    known = MetadataCatalog.get("mini_coco_person_topdown_val").as_dict()
    metadata = Metadata(**known | {"name": "test", "thing_classes": thing_classes})
    image = np.full((300, 500, 3), 50, np.uint8)
    found = people(*[[[200.0 + 4 * index, 150.0, 1.0] for index in range(17)]] * len(categories))
    found = Instances((300, 500), **found.get_fields())
    found.pred_boxes.scale(5, 5)
    found.crop_areas = torch.ones(len(found))
    drawn = []
    for fields in ({}, {"pred_classes": torch.tensor(categories)}):
        shown = Instances((300, 500), **found.get_fields() | fields)
        np.random.seed(0)  # of the boxes' colors
        drawn.append(draw_overlay(image, {"instances": shown}, metadata))
    return (drawn[0] != drawn[1]).any(axis=2)


def test_names_of_categories_are_written_if_there_are_several() -> None:
    assert not overlays(["person"], [0]).any()
    cat, dog = overlays(["cat", "a long name"], [0]), overlays(["cat", "a long name"], [1])
    assert cat[:60, 40:100].any()  # at the box's corner
    assert not cat[60:].any()
    assert dog.sum() > 2 * cat.sum()


def test_annotated_people_have_their_category() -> None:
    person = {"bbox": [1, 2, 3, 4], "bbox_mode": 1, "keypoints": [0.0] * 51}
    item = {"height": 9, "width": 9}
    item["annotations"] = [person | {"category_id": number} for number in (1, 0)]
    assert annotated_people(item).pred_classes.tolist() == [1, 0]
