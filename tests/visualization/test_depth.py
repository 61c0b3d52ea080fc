"""Pictures of depth: scales, errors, missing and sparse values."""

import numpy as np
import pytest
from picture_panels import GAP, HEIGHT, TITLE, WIDTH, filled, panels

from metaprompt_d2.visualization import compare_depth

GRAY = [128, 128, 128]
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


def test_depth_is_colored_from_near_to_the_farthest_truth() -> None:
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


def test_what_has_no_depth_is_gray() -> None:
    truth, prediction = depth_map(20), depth_map(10)
    truth[:5] = 0
    prediction[10], prediction[11] = np.nan, np.inf
    (_, truth_picture, picture, error), _ = depth_row(prediction, truth)
    assert (truth_picture[:5] == GRAY).all()
    assert (picture[10:12] == GRAY).all()
    assert (error[:5] == GRAY).all() and (error[10:12] == GRAY).all()
    for drawn in (truth_picture[5:], picture[:10], error[5:10]):
        assert (drawn != GRAY).any(axis=2).all()


def test_sparse_depth_is_drawn_with_points_of_three_pixels_the_nearest_in_front() -> None:
    truth = depth_map(0)
    truth[10, 10], truth[10, 12], truth[0, 0] = 5, 20, 20
    (_, picture, _, error), _ = depth_row(depth_map(5), truth)
    for drawn in (picture, error):
        assert (drawn != GRAY).any(axis=2).sum() == 3 * 5 + 4
    assert (picture[10, 11] == picture[10, 10]).all()
    assert (error[10, 11] == error[10, 12]).all()  # the larger one


def test_the_scale_bar_runs_over_the_colors_of_its_picture() -> None:
    _, row = depth_row(depth_map(10), depth_map(20))
    bar = row[TITLE + HEIGHT :]
    assert (bar[:, :WIDTH] == 255).all()  # none below the image
    start = 2 * (WIDTH + GAP)
    np.testing.assert_allclose(bar[TITLE // 2, start], NEAR, atol=1)
    np.testing.assert_allclose(bar[TITLE // 2, start + WIDTH - 1], FAR, atol=1)
    assert 0 < (bar[TITLE:, start : start + WIDTH] < 128).mean() < 0.5  # black numbers on white


@pytest.mark.parametrize("truth", [None, depth_map(0)], ids=["no truth", "truth without a value"])
def test_without_truth_the_scale_is_that_of_the_maximum_depth(truth: np.ndarray | None) -> None:
    drawn, _ = depth_row(depth_map(80), truth)
    picture = drawn[1] if truth is None else drawn[2]
    np.testing.assert_allclose(picture[0, 0], FAR, atol=1)
