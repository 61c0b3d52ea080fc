"""Mask boundary IoU: by hand, against Detectron2's boundary of single masks, ignored pixels."""

import numpy as np
import pytest
from detectron2.evaluation import SemSegEvaluator

from metaprompt_d2.evaluation.mask_boundary_iou import count_boundaries, mask_boundary_iou

K = 4


def blocks(seed: int, height: int = 60, width: int = 90) -> np.ndarray:
    """Label map of 10x10 blocks."""
    small = np.random.default_rng(seed).integers(0, K, (height // 10, width // 10))
    return small.repeat(10, axis=0).repeat(10, axis=1)


def compute(predicted: np.ndarray, truth: np.ndarray) -> list[float]:
    return mask_boundary_iou(count_boundaries(predicted, truth, K)).tolist()


def test_two_halves_by_hand() -> None:
    # 10x10 pixels, boundary of one pixel (0.02 of the diagonal is less). The left half of 5 columns
    # is class 0, of which the prediction has 4 columns. Its ring has 5*10 - 3*8 = 26 pixels, the
    # prediction's 4*10 - 2*8 = 24; in both are the left column and the ends of 3 more, 16 pixels.
    truth, predicted = np.ones((10, 10), int), np.ones((10, 10), int)
    truth[:, :5], predicted[:, :4] = 0, 0
    assert compute(predicted, truth)[0] == pytest.approx(16 / (26 + 24 - 16))


def test_each_class_has_detectron2s_boundary_of_its_mask() -> None:
    truth, predicted = blocks(0), blocks(1)

    def boundary(labels: np.ndarray, number: int) -> np.ndarray:
        mask = (labels == number).astype(np.uint8)
        return SemSegEvaluator._mask_to_boundary(None, mask).astype(bool)

    expected = []
    for number in range(K):
        a, b = boundary(truth, number), boundary(predicted, number)
        expected.append((a & b).sum() / (a | b).sum())
    assert compute(predicted, truth) == pytest.approx(expected)


def test_classes_that_do_not_occur_are_nan() -> None:
    truth = blocks(2) % 2
    predicted = truth.copy()
    predicted[:20, :20] = 2
    result = compute(predicted, truth)
    assert 0 < result[0] < 1
    assert np.isnan(result[2:]).all()


def test_what_is_predicted_where_nothing_is_known_does_not_matter() -> None:
    truth = blocks(3)
    truth[15:40, 20:55] = K
    for seed in range(3):
        predicted = np.where(truth == K, blocks(seed), truth)
        assert compute(predicted, truth) == [1] * K


def test_images_add_up() -> None:
    perfect = count_boundaries(blocks(0), blocks(0), K)
    wrong = count_boundaries(blocks(1), (blocks(1) + 1) % K, K)
    assert not wrong[0].any()
    assert 0 < mask_boundary_iou(perfect + wrong)[0] < 1


def test_a_thumbnail_is_all_boundary() -> None:
    assert compute(np.zeros((1, 2), int), np.zeros((1, 2), int))[0] == 1
