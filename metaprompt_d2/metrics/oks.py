"""Object keypoint similarity of people, suppression by it, and scores from joints (method 5.2)."""

import numpy as np

__all__ = ["OKS_SIGMAS", "keypoint_similarity", "oks_nms", "person_score"]

# Deviations of COCO's annotators, a joint.
OKS_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


def keypoint_similarity(
    joints: np.ndarray,
    others: np.ndarray,
    area: float,
    other_areas: np.ndarray,
    sigmas: np.ndarray = OKS_SIGMAS,
) -> np.ndarray:
    """OKS between one person and several, over all joints.

    Args:
        joints: (J, 2) in pixels.
        others: (N, J, 2).
        area: of the person, in square pixels.
        other_areas: (N,); each pair's mean counts.
        sigmas: (J,).

    Returns:
        (N,) from 0 to 1.
    """
    squared = ((others - joints) ** 2).sum(axis=-1)
    areas = (area + np.asarray(other_areas)) / 2 + np.spacing(1)
    return np.exp(-squared / ((2 * sigmas) ** 2 * areas[:, None] * 2)).mean(axis=-1)


def oks_nms(
    joints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    threshold: float,
    sigmas: np.ndarray = OKS_SIGMAS,
) -> np.ndarray:
    """Greedily keep people by falling score that resemble no kept one more than a threshold.

    Args:
        joints: (N, J, 2) of one image, in pixels.
        scores, areas: (N,).
        threshold: OKS above which the lower score is dropped; 1 or more keeps everyone.
        sigmas: (J,).

    Returns:
        indices of those that are kept, by falling score.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        similar = keypoint_similarity(
            joints[first], joints[order], areas[first], areas[order], sigmas
        )
        order = order[similar <= threshold]
    return np.array(kept, int)


def person_score(
    box_scores: np.ndarray, joint_scores: np.ndarray, threshold: float = 0.2
) -> np.ndarray:
    """Box score times the mean of the joint scores above a threshold, 0 where none is.

    Args:
        box_scores: (N,).
        joint_scores: (N, J).
    """
    counted = joint_scores > threshold
    total = np.where(counted, joint_scores, 0).sum(axis=-1)
    return box_scores * total / np.maximum(counted.sum(axis=-1), 1)
