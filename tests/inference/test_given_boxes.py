"""Boxes that a user gives: corners, categories and what is wrong with them."""

import numpy as np
import pytest

from metaprompt_d2.inference.given_boxes import AnyBoxes, read_boxes
from metaprompt_d2.utils.errors import InputError

SIZE = (64, 96)
GOOD = [10.0, 5.0, 40.0, 60.0]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 1, 0, 3), (0, 3, 2, 1), (2, 3, 0, 1)])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_boxes_are_corners_in_their_order(order: tuple[int, ...], bad: float | None) -> None:
    """Every other order and every value that isn't a number is an error, never "nobody"."""
    box = [GOOD[index] for index in order]
    if bad is None and order == (0, 1, 2, 3):
        assert read_boxes([box], "boxes", size=SIZE)[0].tolist() == [GOOD]
        return
    for place in range(4) if bad is not None else [None]:
        broken = [bad if index == place else value for index, value in enumerate(box)]
        with pytest.raises(InputError, match="boxes: .* expected corners x0, y0, x1, y1 with"):
            read_boxes([GOOD, broken], "boxes", size=SIZE)


@pytest.mark.parametrize("box", [[-9, 1, 0, 9], [1, -9, 5, -1], [96, 0, 99, 9], [0, 64, 9, 70]])
def test_boxes_outside_of_the_image_are_refused(box: list[float]) -> None:
    with pytest.raises(InputError, match="outside of the image of 64x96"):
        read_boxes([box], "boxes", size=SIZE)
    if min(box) < 0:
        with pytest.raises(InputError, match="lies outside of the image$"):
            read_boxes([box], "boxes")  # whose size isn't known yet


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros((0, 5))])
def test_no_boxes_are_nobody(boxes: AnyBoxes) -> None:
    corners, categories = read_boxes(boxes, "boxes")
    assert (corners.shape, categories.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("boxes", [[[1, 2, 3]], [1, 2, 3, 4], [[[1, 2, 3, 4]]], 7, [[1] * 6]])
def test_other_shapes_are_refused(boxes: AnyBoxes) -> None:
    with pytest.raises(InputError, match=r"^boxes have shape \(.*\), expected x0, y0, x1, y1"):
        read_boxes(boxes, "boxes")


def test_a_fifth_number_is_the_category() -> None:
    corners, categories = read_boxes([[*GOOD, 2], [*GOOD, 0]], "boxes", num_categories=3)
    assert corners.tolist() == [GOOD, GOOD]
    assert categories.tolist() == [2, 0]
    assert read_boxes([GOOD], "boxes")[1].tolist() == [0]


@pytest.mark.parametrize("category", [-1, 2, 0.5, float("nan"), float("inf")])
def test_a_category_that_does_not_exist_is_refused(category: float) -> None:
    with pytest.raises(InputError, match=r"^boxes: \[10.*, expected the index .* from 0 to 1, at"):
        read_boxes([[*GOOD, category]], "boxes", num_categories=2)
    if category != 2:
        with pytest.raises(InputError, match="expected the index of a category, from 0, at"):
            read_boxes([[*GOOD, category]], "boxes")
