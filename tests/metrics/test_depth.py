"""Depth metrics, crops and cleaning, by hand and by property."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from metaprompt_d2.metrics.depth import (
    DEPTH_CROPS,
    DEPTH_METRICS,
    clean_depth,
    compute_depth_metrics,
    depth_crop_mask,
    kb_crop_box,
    valid_depth_mask,
)

LIMITS = {"min_depth": 1e-3, "max_depth": 10.0}
DEPTHS = st.lists(st.floats(0.01, 100), min_size=1, max_size=30)


def metrics_of(pred: list[float], target: list[float]) -> dict[str, float]:
    return compute_depth_metrics(
        np.array([pred]), np.array([target]), np.ones((1, len(pred)), bool)
    )


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First and last + 1 row and column of a mask that is one rectangle."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask.sum() == len(rows) * len(columns)
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_metrics_by_hand() -> None:
    metrics = metrics_of([2.0, 3.0], [1.0, 4.0])
    logs = [math.log(2), math.log(0.75)]
    assert tuple(metrics) == DEPTH_METRICS
    assert metrics == pytest.approx(
        {
            "d1": 0,  # ratios 2 and 4 / 3
            "d2": 0.5,
            "d3": 0.5,
            "abs_rel": (1 + 0.25) / 2,
            "sq_rel": (1 + 0.25) / 2,
            "rmse": 1,
            "rmse_log": math.sqrt((logs[0] ** 2 + logs[1] ** 2) / 2),
            "log10": (math.log10(2) - math.log10(0.75)) / 2,
            "silog": math.sqrt((logs[0] ** 2 + logs[1] ** 2) / 2 - 0.5 * (sum(logs) / 2) ** 2),
            "silog_bts": 100 * abs(logs[0] - logs[1]) / 2,
        }
    )


@pytest.mark.parametrize(("power", "name"), [(1, "d1"), (2, "d2"), (3, "d3")])
def test_a_ratio_at_the_threshold_does_not_count(power: int, name: str) -> None:
    threshold = 1.25**power  # powers of 5 / 4 are exact
    assert metrics_of([threshold], [1.0])[name] == 0
    assert metrics_of([1.0], [threshold])[name] == 0
    assert metrics_of([np.nextafter(threshold, 0)], [1.0])[name] == 1


@given(DEPTHS)
def test_a_perfect_prediction_has_no_error(depths: list[float]) -> None:
    metrics = metrics_of(depths, depths)
    assert {name for name, value in metrics.items() if value == 1} == {"d1", "d2", "d3"}
    assert all(value == 0 for name, value in metrics.items() if name not in ("d1", "d2", "d3"))


@given(DEPTHS, st.floats(0.2, 5))
def test_scaling_both_changes_lengths_only(depths: list[float], scale: float) -> None:
    target, pred = np.array([depths]), np.array([depths[::-1]]) * 1.1
    mask = np.ones(target.shape, bool)
    before, after = (compute_depth_metrics(pred * s, target * s, mask) for s in (1, scale))
    for name in ("abs_rel", "rmse_log", "log10", "silog"):
        assert after[name] == pytest.approx(before[name], abs=1e-9)
    for name in ("rmse", "sq_rel"):
        assert after[name] == pytest.approx(before[name] * scale, rel=1e-6)


def test_pixels_outside_the_mask_do_not_count() -> None:
    pred, target = np.array([[2.0, np.nan, 7.0]]), np.array([[2.0, 1.0, 0.0]])
    metrics = compute_depth_metrics(pred, target, np.array([[True, False, False]]))
    assert (metrics["d1"], metrics["rmse"]) == (1, 0)


def test_without_a_pixel_every_metric_is_nan() -> None:
    metrics = compute_depth_metrics(np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2), bool))
    assert tuple(metrics) == DEPTH_METRICS
    assert all(math.isnan(value) for value in metrics.values())


def test_a_prediction_of_zero_has_infinite_logarithms_and_no_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    metrics = metrics_of([0.0], [2.0])
    assert (metrics["d3"], metrics["rmse"]) == (0, 2)
    assert metrics["log10"] == math.inf
    assert len(recwarn) == 0


# ------------------------------------------------------------------ pixels to score


@pytest.mark.parametrize(
    ("crop", "shape", "expected"),
    [
        ("none", (5, 7), (0, 5, 0, 7)),
        ("nyu", (480, 640), (45, 471, 41, 601)),
        ("nyu", (96, 128), (45, 96, 41, 128)),
        ("garg", (352, 1216), (143, 349, 43, 1172)),
        ("eigen", (352, 1216), (117, 321, 43, 1172)),
        ("garg", (375, 1242), (153, 371, 44, 1197)),
    ],
)
def test_crops_by_hand(crop: str, shape: tuple[int, int], expected: tuple) -> None:
    mask = depth_crop_mask(crop, shape)
    assert mask.shape == shape
    assert bounds(mask) == expected


def test_an_unknown_crop_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'garden', expected one of \('none', 'nyu'"):
        depth_crop_mask("garden", (4, 4))


def test_valid_depth_is_strictly_between_the_limits() -> None:
    target = np.array([[0.0, 1e-3, 2e-3, 9.99, 10.0, 80.0, np.nan]])
    mask = valid_depth_mask(target, crop="none", **LIMITS)
    assert mask.tolist() == [[False, False, True, True, False, False, False]]


@pytest.mark.parametrize("crop", DEPTH_CROPS)
def test_valid_depth_is_in_the_crop(crop: str) -> None:
    mask = valid_depth_mask(np.ones((480, 640)), crop=crop, **LIMITS)
    assert np.array_equal(mask, depth_crop_mask(crop, (480, 640)))


def test_broken_predictions_become_the_limits_and_are_counted() -> None:
    pred = np.array([[np.nan, np.inf, -np.inf, 50.0, 0.0]], np.float32)
    before = pred.copy()
    cleaned, num_nan, num_infinite = clean_depth(pred, **LIMITS)
    assert cleaned.dtype == np.float32
    assert cleaned.tolist() == [[pytest.approx(1e-3), 10, 10, 50, 0]]
    assert (num_nan, num_infinite) == (1, 2)
    np.testing.assert_array_equal(pred, before)


# ------------------------------------------------------------------ KITTI's frame


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 1242), (23, 375, 13, 1229)),
        ((370, 1226), (18, 370, 5, 1221)),
        ((376, 1241), (24, 376, 12, 1228)),
        ((352, 1216), (0, 352, 0, 1216)),
    ],
)
def test_kitti_frames_by_hand(size: tuple[int, int], expected: tuple) -> None:
    rows, columns = kb_crop_box(*size)
    assert (rows.start, rows.stop, columns.start, columns.stop) == expected


@given(st.integers(352, 500), st.integers(1216, 1400))
def test_kitti_frames_are_at_the_bottom_and_in_the_middle(height: int, width: int) -> None:
    rows, columns = kb_crop_box(height, width)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (352, 1216)
    assert rows.stop == height
    assert 0 <= (width - columns.stop) - columns.start <= 1


@pytest.mark.parametrize("size", [(351, 1216), (352, 1215), (10, 10)])
def test_frames_too_small_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} .* too small .* 352x1216"):
        kb_crop_box(*size)
