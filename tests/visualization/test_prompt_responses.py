"""Pictures of responses, of changes, and of predictions over their image."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances

from metaprompt_d2.visualization import (
    draw_change,
    draw_overlay,
    draw_prompts,
    draw_response,
    draw_table,
    response_range,
)

IMAGE = np.full((32, 48, 3), 100, np.uint8)
DARK, BRIGHT = [0, 0, 4], [252, 255, 164]  # the ends of matplotlib's inferno


def mixed(color: list[int]) -> np.ndarray:
    return 0.25 * 100 + 0.75 * np.array(color)


def ramp() -> np.ndarray:
    return np.repeat(np.linspace(-3, 5, 12, dtype=np.float32)[None], 8, axis=0)


def test_a_response_is_bright_where_it_is_high() -> None:
    drawn = draw_response(IMAGE, ramp())
    assert drawn.shape == IMAGE.shape
    np.testing.assert_allclose(drawn[10, 0], mixed(DARK), atol=2)
    np.testing.assert_allclose(drawn[10, -1], mixed(BRIGHT), atol=2)


def test_responses_of_several_steps_share_their_colours() -> None:
    low, high = response_range([ramp(), ramp() + 8])
    assert (low, high) == (-3, 13)
    drawn = draw_response(IMAGE, ramp(), (low, high))
    assert drawn[10, -1].sum() < draw_response(IMAGE, ramp() + 8, (low, high))[10, -1].sum()


def test_a_response_without_contrast_is_drawn() -> None:
    drawn = draw_response(IMAGE, np.ones((8, 12), np.float32))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_a_change_counts_in_standard_deviations() -> None:
    before = np.stack([ramp(), 100 * ramp()])
    after = before + before.std(axis=(1, 2), keepdims=True)
    after[:, :, 6:] = before[:, :, 6:]
    drawn = draw_change(IMAGE, before, after, end=1)
    np.testing.assert_allclose(drawn[10, -1], mixed(DARK), atol=2)
    assert drawn[10, 0].min() > 120  # magma's bright end


def test_prompts_stand_in_rows() -> None:
    responses = np.stack([ramp()] * 5)
    sheet = draw_prompts(IMAGE, responses, list("abcde"), columns=2)
    assert sheet.shape == (3 * (32 + 14 + 4), 2 * 48 + 4, 3)
    assert (sheet[-20:, 60:] == 255).all()  # no sixth


def test_a_table_has_gaps_of_its_columns_width() -> None:
    wide = np.zeros((32, 60, 3), np.uint8)
    table = draw_table([[("a", IMAGE), ("", None)], [("b", IMAGE), ("c", wide)]])
    assert table.shape == (2 * (32 + 14 + 4), 48 + 4 + 60, 3)
    assert (table[:46, 48:] == 255).all()


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
        joints = torch.tensor([[[8.0 + 2 * joint, 16, 1] for joint in range(17)]])
        found.pred_keypoints, found.crop_areas = joints, torch.ones(1)
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
