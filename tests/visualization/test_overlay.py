"""Predictions of all tasks drawn over their image."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances

from metaprompt_d2.visualization import draw_overlay

IMAGE = np.full((32, 48, 3), 100, np.uint8)


def test_overlays_of_all_tasks_have_the_images_size() -> None:
    metadata = Metadata(
        name="any",
        stuff_classes=["a", "b"],
        stuff_colors=[(200, 0, 0), (0, 0, 200)],
        ignore_label=255,
        max_depth=10.0,
    )
    logits = torch.stack([torch.ones(32, 48), torch.zeros(32, 48)])
    classes = draw_overlay(IMAGE, {"sem_seg": logits}, metadata)
    assert np.median(classes, axis=(0, 1)).tolist() == [170, 30, 30]
    depth = torch.full((32, 48), 10.0)
    depth[0] = float("nan")
    metres = draw_overlay(IMAGE, {"depth": depth}, metadata)
    assert (metres[0] == 128).all()
    np.testing.assert_allclose(metres[1, 1], [68, 1, 84], atol=1)
    with pytest.raises(ValueError, match="nothing can be drawn"):
        draw_overlay(IMAGE, {"proposals": None}, metadata)


def classes_drawn(labels: np.ndarray, names: list[str]) -> np.ndarray:
    """The overlay of a class map over a black image."""
    metadata = Metadata(name="any", stuff_classes=names, ignore_label=255)
    scores = torch.nn.functional.one_hot(torch.from_numpy(labels), len(names)).permute(2, 0, 1)
    return draw_overlay(np.zeros((*labels.shape, 3), np.uint8), {"sem_seg": scores}, metadata)


def test_a_class_is_named_on_its_largest_area_unless_that_is_thin() -> None:
    labels = np.zeros((120, 200), np.int64)
    labels[10:60, 120:190] = 1  # larger than the other one
    labels[80:110, 10:40] = 1
    labels[:, 60:64] = 2
    changed = classes_drawn(labels, ["", "bb", "ccc"]) != classes_drawn(labels, ["", "", ""])
    assert changed[25:45, 145:165].any()
    changed[25:45, 140:170] = False
    assert not changed.any()  # neither on the smaller area nor on the thin class


def test_a_name_at_the_border_stays_inside() -> None:
    labels = np.zeros((100, 300), np.int64)
    labels[:, 270:] = 1
    changed = classes_drawn(labels, ["", "sidewalk"]) != classes_drawn(labels, ["", ""])
    columns = np.flatnonzero(changed.any(axis=(0, 2)))
    assert 210 < columns.min() < columns.max() < 299


def test_there_may_be_more_classes_than_a_byte_holds() -> None:
    labels = np.full((32, 48), 299)
    drawn = classes_drawn(labels, [str(number) for number in range(300)])
    assert drawn.shape == (32, 48, 3)
    assert np.median(drawn, axis=(0, 1)).any()


@pytest.mark.parametrize("is_pose", [True, False])
def test_people_and_detectron2s_instances_are_drawn(is_pose: bool) -> None:
    metadata = MetadataCatalog.get("keypoints_coco_2017_val")
    found = Instances((32, 48), pred_boxes=Boxes(torch.tensor([[5.0, 5, 40, 28]])))
    found.scores = torch.ones(1)
    if is_pose:
        keypoints = torch.tensor([[[8.0 + 2 * index, 16, 1] for index in range(17)]])
        found.pred_keypoints, found.crop_areas = keypoints, torch.ones(1)
    drawn = draw_overlay(IMAGE, {"instances": found}, metadata)
    assert drawn.shape == IMAGE.shape
    assert (drawn != 100).any()
    assert found.pred_boxes.tensor.tolist() == [[5, 5, 40, 28]]


def test_panoptic_segments_are_drawn() -> None:
    metadata = MetadataCatalog.get("coco_2017_val_panoptic_separated")
    segments = torch.ones(32, 48, dtype=torch.int32)
    info = [{"id": 1, "category_id": 0, "isthing": False}]
    output = {"panoptic_seg": (segments, info), "sem_seg": torch.zeros(54, 32, 48)}
    assert (draw_overlay(IMAGE, output, metadata) != 100).any()


def test_uncertain_detections_are_not_drawn_but_posed_people_are() -> None:
    metadata = MetadataCatalog.get("keypoints_coco_2017_val")
    found = Instances((32, 48), pred_boxes=Boxes(torch.tensor([[5.0, 5, 40, 28]])))
    found.scores = torch.full((1,), 0.1)
    assert (draw_overlay(IMAGE, {"instances": found}, metadata) == 100).all()
    found.pred_keypoints = torch.tensor([[[8.0 + 2 * index, 16, 1] for index in range(17)]])
    found.crop_areas = torch.ones(1)
    assert (draw_overlay(IMAGE, {"instances": found}, metadata) != 100).any()


def test_pixels_without_a_class_are_black() -> None:
    metadata = Metadata(name="any", stuff_classes=["a", "b"], ignore_label=255)
    scores = torch.ones(2, 32, 48)
    scores[1, :, 24:] = torch.nan
    drawn = draw_overlay(IMAGE, {"sem_seg": scores}, metadata)
    assert (drawn[:, 25:] == 0).all()
    assert (drawn[0, 0] > 0).any()


@pytest.mark.parametrize("task", ["sem_seg", "depth", "pose", "boxes"])
def test_an_overlay_is_enlarged_before_names_are_written(task: str) -> None:
    metadata = Metadata(name="any", stuff_classes=["road", "car"], max_depth=10.0)
    scores = torch.zeros(2, 32, 48)
    scores[1, :, 24:] = 1
    found = Instances((32, 48), pred_boxes=Boxes(torch.tensor([[5.0, 5, 40, 28]])))
    if task == "pose":
        found.crop_areas, found.pred_keypoints = torch.ones(1), torch.ones(1, 17, 3)
        metadata = MetadataCatalog.get("keypoints_coco_2017_val")
    output = {"sem_seg": scores} if task == "sem_seg" else {"instances": found}
    output = {"depth": torch.ones(32, 48)} if task == "depth" else output
    small, large = (draw_overlay(IMAGE, output, metadata, scale=scale) for scale in (1, 4))
    assert large.shape == (128, 192, 3)
    if task == "sem_seg":  # at the small size there is no room
        assert (large != small.repeat(4, axis=0).repeat(4, axis=1)).any()
