"""OKS, suppression by it, person scores; OKS against pycocotools."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from metaprompt_d2.data import find_keypoint_schema
from metaprompt_d2.metrics.oks import keypoint_similarity, oks_nms, person_score

OKS_SIGMAS = find_keypoint_schema("coco_2017_person_topdown_train").oks_sigmas
RANDOM = np.random.default_rng(0)


def test_sigmas_are_cocos() -> None:
    np.testing.assert_allclose(Params(iouType="keypoints").kpt_oks_sigmas, OKS_SIGMAS)


def test_similarity_of_equal_people_is_one_and_falls_with_distance() -> None:
    person = RANDOM.uniform(0, 100, (17, 2))
    others = np.stack([person, person + 1, person + 5, person + 1000])
    values = keypoint_similarity(person, others, 900.0, np.full(4, 900.0), OKS_SIGMAS)
    assert values[0] == 1
    assert (np.diff(values) < 0).all()
    assert values[-1] == pytest.approx(0)


def test_similarity_is_the_formula_with_the_mean_area() -> None:
    person, other = RANDOM.uniform(0, 30, (2, 17, 2))
    expected = np.mean(
        [
            np.exp(-((a - b) ** 2).sum() / ((2 * sigma) ** 2 * 2000 * 2))
            for a, b, sigma in zip(person, other, OKS_SIGMAS, strict=True)
        ]
    )
    value = keypoint_similarity(person, other[None], 1000.0, np.array([3000.0]), OKS_SIGMAS)
    assert value[0] == pytest.approx(expected)


def test_the_higher_score_survives_its_copies() -> None:
    one, two = RANDOM.uniform(0, 100, (2, 17, 2))
    keypoints = np.stack([one, two, one + 0.1, two])
    scores = np.array([0.3, 0.9, 0.5, 0.2])
    areas = np.full(4, 5000.0)
    assert oks_nms(keypoints, scores, areas, 0.9, OKS_SIGMAS).tolist() == [1, 2]
    assert oks_nms(keypoints, scores, areas, 1.0, OKS_SIGMAS).tolist() == [1, 2, 0, 3]


def test_suppression_of_nobody_keeps_nobody() -> None:
    nobody = np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0)
    assert oks_nms(*nobody, 0.9, OKS_SIGMAS).tolist() == []


def test_a_persons_score_is_the_boxs_times_the_mean_of_the_confident_keypoints() -> None:
    keypoints = np.array([[0.1, 0.5, 0.9], [0.1, 0.2, 0.0]])
    np.testing.assert_allclose(person_score(np.array([0.5, 1.0]), keypoints), [0.35, 0])


@pytest.mark.parametrize("count", [1, 14, 133])
def test_similarity_with_other_sigmas_is_that_of_pycocotools(count: int) -> None:
    sigmas = RANDOM.uniform(0.01, 0.1, count)
    person, near, far = RANDOM.uniform(0, 100, (3, count, 2))
    others = np.stack([person + 0.05 * (other - person) for other in (near, far)])

    def entry(points: np.ndarray) -> dict:
        keypoints = np.column_stack([points, np.full(count, 2)]).ravel().tolist()
        return {"image_id": 1, "category_id": 1, "keypoints": keypoints, "score": 0.5}

    truth = COCO()
    truth.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}]}
    fields = {"id": 1, "area": 2000.0, "bbox": [0, 0, 100, 100], "iscrowd": 0}
    truth.dataset["annotations"] = [entry(person) | fields | {"num_keypoints": count}]
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes([entry(other) for other in others]), "keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.evaluate()
    ours = keypoint_similarity(person, others, 2000.0, np.full(2, 2000.0), sigmas)
    np.testing.assert_allclose(ours, evaluation.ious[1, 1][:, 0], rtol=1e-9)
    assert 0 < ours.min() < 1
