"""Pictures: what stands where, and in which colour."""

import numpy as np
from detectron2.data import Metadata

from metaprompt_d2.visualization import compare_sem_seg, stack_rows

GREY = np.full((28, 40, 3), 100, np.uint8)


def metadata(**more) -> Metadata:
    return Metadata().set(stuff_classes=["road", "car"], ignore_label=255, **more)


def test_image_truth_and_prediction_stand_side_by_side_in_the_classes_colours() -> None:
    truth = np.zeros((28, 40), np.uint8)
    truth[:, :5] = 255
    picture = compare_sem_seg(
        GREY, np.ones((28, 40), int), truth, metadata(stuff_colors=[(200, 0, 0), (0, 200, 0)])
    )
    assert picture.shape == (14 + 28, 3 * 40 + 2 * 4, 3)
    image, truth_picture, prediction = (picture[14:, start : start + 40] for start in (0, 44, 88))
    assert (image == 100).all()
    assert (truth_picture[:, :5] == 0).all()  # ignored
    assert (truth_picture[:, 5:] == (170, 30, 30)).all()  # 0.3 * 100 + 0.7 * colour
    assert (prediction == (30, 170, 30)).all()


def test_without_ground_truth_and_colours_there_are_two_pictures_with_distinct_classes() -> None:
    prediction = np.zeros((28, 40), int)
    prediction[:14] = 1
    picture = compare_sem_seg(GREY, prediction, None, metadata())
    assert picture.shape == (14 + 28, 2 * 40 + 4, 3)
    assert (picture[14 + 5, 60] != picture[14 + 20, 60]).any()


def test_rows_are_stacked_and_narrow_ones_filled_with_white() -> None:
    stacked = stack_rows([np.zeros((5, 8, 3), np.uint8), np.zeros((3, 6, 3), np.uint8)])
    assert stacked.shape == (5 + 3 + 2 * 4, 8, 3)
    assert (stacked[9:12, 6:] == 255).all()
    assert (stacked[9:12, :6] == 0).all()
