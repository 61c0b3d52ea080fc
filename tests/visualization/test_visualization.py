"""Pictures: layout, colours by hand, and ids without a colour."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances

from metaprompt_d2.visualization import (
    compare_depth,
    compare_people,
    compare_sem_seg,
    draw_ground_truth,
    stack_rows,
)

HEIGHT, WIDTH, TITLE, GAP = 28, 40, 14, 4
COLORS = [(100, 0, 0), (0, 200, 50)]
METADATA = Metadata(name="two", stuff_classes=["a", "b"], stuff_colors=COLORS, ignore_label=255)


def filled(value: int, *shape: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, *shape), value, np.uint8)


def panels(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The pictures of a row without their titles."""
    return [picture[TITLE:, i * (WIDTH + GAP) :][:, :WIDTH] for i in range(count)]


def test_image_truth_and_prediction_stand_side_by_side_below_titles() -> None:
    row = compare_sem_seg(filled(50, 3), filled(0), filled(1), METADATA)
    assert row.dtype == np.uint8
    assert row.shape == (HEIGHT + TITLE, 3 * WIDTH + 2 * GAP, 3)
    assert (row[:, WIDTH : WIDTH + GAP] == 255).all()
    title = row[:TITLE, :WIDTH]
    assert 0 < (title < 128).mean() < 0.5  # black letters on white


def test_colours_are_blended_seven_to_three() -> None:
    image, truth, prediction = panels(
        compare_sem_seg(filled(50, 3), filled(1), filled(0), METADATA), 3
    )
    assert (image == 50).all()
    # 0.3 * 50 + 0.7 * colour, cut off
    assert (truth == [15 + 70, 15, 15]).all()
    assert (prediction == [15, 15 + 140, 15 + 35]).all()


def test_ids_that_are_no_class_are_black() -> None:
    labels = filled(0).astype(np.int64)
    labels[0], labels[1], labels[2], labels[3] = 255, 2, 1000, -1
    _, truth, prediction = panels(compare_sem_seg(filled(200, 3), filled(0), labels, METADATA), 3)
    assert not truth[:4].any()
    assert truth[4:].any(axis=2).all()
    assert prediction.any(axis=2).all()


def test_without_truth_two_pictures_remain() -> None:
    row = compare_sem_seg(filled(0, 3), filled(0), None, METADATA)
    assert row.shape[1] == 2 * WIDTH + GAP
    _, prediction = panels(row, 2)
    assert (prediction == [70, 0, 0]).all()


def test_without_colours_every_class_gets_its_own() -> None:
    names = [str(i) for i in range(30)]
    metadata = Metadata(name="many", stuff_classes=names, ignore_label=255)
    labels = filled(0)
    labels.flat[:30] = range(30)
    _, prediction = panels(compare_sem_seg(filled(0, 3), labels, None, metadata), 2)
    assert len(np.unique(prediction.reshape(-1, 3)[:30], axis=0)) == 30


def test_titles_grow_with_the_picture() -> None:
    image = np.zeros((280, 300, 3), np.uint8)
    row = compare_sem_seg(image, image[..., 0], None, METADATA)
    assert row.shape[0] == 280 + 280 // 14


GREY = [128, 128, 128]
NEAR, FAR = [253, 231, 37], [68, 1, 84]  # the ends of matplotlib's viridis


def depth_row(prediction: np.ndarray, truth: np.ndarray | None, max_depth: float = 80) -> tuple:
    """(image, ground truth, prediction, error), or without the second and fourth; the whole row."""
    row = compare_depth(filled(50, 3), prediction, truth, max_depth=max_depth)
    count = 2 if truth is None else 4
    assert row.shape == (TITLE + HEIGHT + 2 * TITLE, count * (WIDTH + GAP) - GAP, 3)
    assert row.dtype == np.uint8
    return [panel[:HEIGHT] for panel in panels(row, count)], row


def depth_map(value: float) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), value, np.float32)


def test_depth_is_coloured_from_near_to_the_farthest_truth() -> None:
    truth, prediction = depth_map(20), depth_map(0)
    prediction[:, 20:] = 90
    (image, truth_picture, picture, _), _ = depth_row(prediction, truth)
    assert (image == 50).all()
    np.testing.assert_allclose(truth_picture[0, 0], FAR, atol=1)
    np.testing.assert_allclose(picture[0, 0], NEAR, atol=1)
    np.testing.assert_allclose(picture[0, -1], FAR, atol=1)


def test_the_maximum_depth_bounds_the_scale() -> None:
    (_, truth, _, _), _ = depth_row(depth_map(10), depth_map(70), max_depth=10)
    np.testing.assert_allclose(truth[0, 0], FAR, atol=1)


def test_the_error_is_black_where_none_and_bright_from_a_fifth_on() -> None:
    prediction = depth_map(20)
    prediction[:, 20:] = 24
    (_, _, _, error), _ = depth_row(prediction, depth_map(20))
    np.testing.assert_allclose(error[0, 0], [0, 0, 4], atol=1)
    assert error[0, -1].min() > 150


def test_what_has_no_depth_is_grey() -> None:
    truth, prediction = depth_map(20), depth_map(10)
    truth[:5] = 0
    prediction[10], prediction[11] = np.nan, np.inf
    (_, truth_picture, picture, error), _ = depth_row(prediction, truth)
    assert (truth_picture[:5] == GREY).all()
    assert (picture[10:12] == GREY).all()
    assert (error[:5] == GREY).all() and (error[10:12] == GREY).all()
    for drawn in (truth_picture[5:], picture[:10], error[5:10]):
        assert (drawn != GREY).any(axis=2).all()


def test_sparse_depth_is_drawn_with_points_of_three_pixels_the_nearest_in_front() -> None:
    truth = depth_map(0)
    truth[10, 10], truth[10, 12], truth[0, 0] = 5, 20, 20
    (_, picture, _, error), _ = depth_row(depth_map(5), truth)
    for drawn in (picture, error):
        assert (drawn != GREY).any(axis=2).sum() == 3 * 5 + 4
    assert (picture[10, 11] == picture[10, 10]).all()
    assert (error[10, 11] == error[10, 12]).all()  # the larger one


def test_the_scale_bar_runs_over_the_colours_of_its_picture() -> None:
    _, row = depth_row(depth_map(10), depth_map(20))
    bar = row[TITLE + HEIGHT :]
    assert (bar[:, :WIDTH] == 255).all()  # none below the image
    start = 2 * (WIDTH + GAP)
    np.testing.assert_allclose(bar[TITLE // 2, start], NEAR, atol=1)
    np.testing.assert_allclose(bar[TITLE // 2, start + WIDTH - 1], FAR, atol=1)
    assert 0 < (bar[TITLE:, start : start + WIDTH] < 128).mean() < 0.5  # black figures on white


@pytest.mark.parametrize("truth", [None, depth_map(0)], ids=["no truth", "truth without a value"])
def test_without_truth_the_scale_is_that_of_the_maximum_depth(truth: np.ndarray | None) -> None:
    drawn, _ = depth_row(depth_map(80), truth)
    picture = drawn[1] if truth is None else drawn[2]
    np.testing.assert_allclose(picture[0, 0], FAR, atol=1)


def test_rows_are_stacked_and_narrow_ones_filled_with_white() -> None:
    rows = [np.zeros((3, 5, 3), np.uint8), np.ones((2, 8, 3), np.uint8)]
    stacked = stack_rows(rows)
    assert stacked.shape == (3 + GAP + 2 + GAP, 8, 3)
    assert not stacked[:3, :5].any()
    assert (stacked[:3, 5:] == 255).all()
    assert (stacked[3 : 3 + GAP] == 255).all()
    assert (stacked[3 + GAP : 5 + GAP] == 1).all()


def test_no_rows_cannot_be_stacked() -> None:
    with pytest.raises(ValueError, match="empty"):
        stack_rows([])


def test_ground_truth_stands_beside_its_image() -> None:
    classes = {"stuff_classes": ["a", "b"], "stuff_colors": COLORS}
    metadata = Metadata(name="both", ignore_label=255, max_depth=8.0, **classes)
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    depth[:, :30] = 4
    row = draw_ground_truth(filled(50, 3), metadata, sem_seg=filled(255), depth=depth)
    image, classes, metres = panels(row, 3)
    assert (image == 50).all()
    assert (classes == 0).all()  # ignored
    assert (metres[:, 30:] == 128).all()  # no value
    assert len(np.unique(metres[:, :30].reshape(-1, 3), axis=0)) == 1
    assert (metres[0, 0] != 128).any()
    assert draw_ground_truth(filled(50, 3), metadata).shape == (HEIGHT + TITLE, WIDTH, 3)


def people(*keypoints: list) -> Instances:
    return Instances(
        (60, 100),
        pred_boxes=Boxes(torch.tensor([[10.0, 5, 90, 55]] * len(keypoints)).view(-1, 4)),
        pred_keypoints=torch.tensor(keypoints).view(-1, 17, 3),
    )


@pytest.mark.parametrize("with_truth", [False, True])
def test_skeletons_are_drawn_where_the_joints_are(with_truth: bool) -> None:
    image = np.full((60, 100, 3), 50, np.uint8)
    metadata = MetadataCatalog.get("mini_coco_person_topdown_val")
    found = people([[20.0 + 4 * joint, 30.0, 1.0] for joint in range(17)])
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


def test_unlikely_joints_are_not_drawn() -> None:
    image = np.full((60, 100, 3), 50, np.uint8)
    metadata = MetadataCatalog.get("mini_coco_person_topdown_val")
    found = people([[50.0, 30.0, 0.01]] * 17)
    row = compare_people(image, found, None, metadata)
    assert (row[-200:-100, 504 + 150 : 504 + 350] == 50).all()
