"""Boxes to crops, the affine and its inverse, against the reference's arithmetic."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaprompt_d2.codecs import (
    box_to_crop,
    crop_matrix,
    points_to_crop,
    transform_points,
)

SIZE = (256, 192)


def test_a_wide_box_grows_in_height_and_a_high_one_in_width() -> None:
    center, extent = box_to_crop([10, 20, 90, 60], aspect=0.75, padding=1.25)
    np.testing.assert_allclose(center, [55, 50])
    np.testing.assert_allclose(extent, [90 * 1.25, 120 * 1.25])
    center, extent = box_to_crop([[0, 0, 30, 100], [4, 8, 75, 100]], aspect=0.75)
    np.testing.assert_allclose(center, [[15, 50], [41.5, 58]])
    np.testing.assert_allclose(extent, [[93.75, 125], [93.75, 125]])


def test_points_are_centred_on_their_mean() -> None:
    points = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 90.0]])
    center, extent = points_to_crop(points, aspect=0.75, padding=1.5)
    np.testing.assert_allclose(center, [10, 30])
    np.testing.assert_allclose(extent, [67.5 * 1.5, 90 * 1.5])


def test_the_matrix_is_the_references() -> None:
    center, extent, degrees = np.array([120.0, 80.0]), np.array([150.0, 200.0]), 25.0
    theta = np.deg2rad(degrees)
    kx, ky = 191 / 150, 255 / 200
    expected = [
        [
            kx * np.cos(theta),
            -kx * np.sin(theta),
            kx * (-120 * np.cos(theta) + 80 * np.sin(theta) + 75),
        ],
        [
            ky * np.sin(theta),
            ky * np.cos(theta),
            ky * (-120 * np.sin(theta) - 80 * np.cos(theta) + 100),
        ],
    ]
    np.testing.assert_allclose(crop_matrix(center, extent, SIZE, degrees), expected)


def test_the_crops_corners_are_its_first_and_last_pixels() -> None:
    matrix = crop_matrix([120, 80], [150, 200], SIZE)
    corners = transform_points(np.array([[45.0, -20.0], [195.0, 180.0], [120.0, 80.0]]), matrix)
    np.testing.assert_allclose(corners, [[0, 0], [191, 255], [95.5, 127.5]], atol=1e-9)


def test_the_content_turns_clockwise() -> None:
    matrix = crop_matrix([100, 100], [191, 255], SIZE, 90)
    np.testing.assert_allclose(
        transform_points(np.array([110.0, 100.0]), matrix), [95.5, 137.5], atol=1e-9
    )


@settings(deadline=None)
@given(
    center=st.tuples(*[st.floats(-500, 3000)] * 2),
    width=st.floats(2, 3000),
    rotation=st.floats(-180, 180),
    point=st.tuples(*[st.floats(-500, 3000)] * 2),
)
def test_affine_and_inverse_agree(
    center: tuple, width: float, rotation: float, point: tuple
) -> None:
    matrix = crop_matrix(center, [width, width / 0.75], SIZE, rotation)
    there = transform_points(np.array(point), matrix)
    back = transform_points(there, cv2.invertAffineTransform(matrix))
    np.testing.assert_allclose(back, point, atol=1e-4)


@pytest.mark.parametrize("extent", [(0, 10), (10, -1), (np.nan, 1), (np.inf, 1)])
def test_an_extent_that_is_not_positive_is_refused(extent: tuple) -> None:
    with pytest.raises(ValueError, match="expected pixels above 0"):
        crop_matrix([0, 0], extent, SIZE)


def test_a_crop_of_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        crop_matrix([0, 0], [1, 1], (1, 5))
