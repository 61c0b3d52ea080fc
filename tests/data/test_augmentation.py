"""Resizing to a box and padding, by hand-derived numbers."""

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from hypothesis import given
from hypothesis import strategies as st

from metaprompt_d2.data import PadToSize, ResizeToBox


@pytest.mark.parametrize(
    ("image_size", "box", "expected"),
    [
        # factor min(2048/2048, 1024/1024) = 1
        ((1024, 2048), (2048, 1024), (1024, 2048)),
        # factor min(2048/683, 512/512) = 1: the long side has room, the short one has none
        ((512, 683), (2048, 512), (512, 683)),
        # factor min(2048/500, 512/333) = 1.5375...; 500 * 1.5375 = 768.77
        ((333, 500), (2048, 512), (512, 769)),
        # a tall image turns the box: factor min(2048/3000, 512/100) = 0.68267; 100 -> 68.27
        ((3000, 100), (2048, 512), (2048, 68)),
    ],
)
def test_images_fit_the_box_with_their_aspect(
    image_size: tuple[int, int], box: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = np.zeros((*image_size, 3), np.uint8)
    assert ResizeToBox(*box).get_transform(image).apply_image(image).shape[:2] == expected


@given(
    height=st.integers(8, 300),
    width=st.integers(8, 300),
    low=st.floats(0.3, 1.0),
    high=st.floats(1.0, 3.0),
)
def test_drawn_sizes_lie_between_those_of_the_range(
    height: int, width: int, low: float, high: float
) -> None:
    image = np.zeros((height, width), np.uint8)
    sizes = [
        ResizeToBox(160, 80, scales).get_transform(image).apply_image(image).shape
        for scales in [(low, low), (low, high), (high, high)]
    ]
    assert sizes[0][0] <= sizes[1][0] <= sizes[2][0]
    assert sizes[0][1] <= sizes[1][1] <= sizes[2][1]


def test_images_are_resized_by_opencv_without_antialiasing_and_labels_by_nearest() -> None:
    image = np.random.randint(0, 256, (40, 60, 3), np.uint8)
    labels = np.random.randint(0, 19, (40, 60), np.uint8)
    transform = ResizeToBox(30, 20).get_transform(image)
    expected = cv2.resize(image, (30, 20), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(transform.apply_image(image), expected)
    assert np.array_equal(transform.apply_segmentation(labels), labels[::2, ::2])


def test_coordinates_and_the_inverse_follow_the_resizing() -> None:
    transform = ResizeToBox(30, 20).get_transform(np.zeros((40, 60, 3), np.uint8))
    points = np.array([[60.0, 40.0], [6.0, 10.0]])
    assert transform.apply_coords(points.copy()).tolist() == [[30, 20], [3, 5]]
    back = transform.inverse().apply_coords(transform.apply_coords(points.copy()))
    assert np.allclose(back, points)


@pytest.mark.parametrize("box", [(100, 200), (100, 0)])
def test_an_impossible_box_is_refused(box: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="MIN_SIZE"):
        ResizeToBox(*box)


def test_an_impossible_range_is_refused() -> None:
    with pytest.raises(ValueError, match="INPUT.SCALE_RANGE"):
        ResizeToBox(200, 100, (0.0, 1.0))


def test_padding_is_the_mean_at_the_bottom_and_the_right() -> None:
    image = np.full((2, 3, 3), 9, np.uint8)
    labels = np.zeros((2, 3), np.uint8)
    augmented = T.AugInput(image, sem_seg=labels)
    T.AugmentationList([PadToSize((3, 5), [127.5, 1.25, 0.0])])(augmented)
    assert augmented.image.shape == (3, 5, 3)
    assert (augmented.image[:2, :3] == 9).all()
    assert augmented.image[2, 0].tolist() == augmented.image[0, 4].tolist() == [127.5, 1.25, 0.0]
    assert augmented.sem_seg.tolist() == [[0] * 3 + [255] * 2] * 2 + [[255] * 5]


def test_large_images_are_not_padded_nor_converted() -> None:
    image = np.zeros((8, 9, 3), np.uint8)
    transform = PadToSize((8, 8), [127.5] * 3).get_transform(image)
    assert transform.apply_image(image) is image
