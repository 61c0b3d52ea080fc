"""Object keypoint similarity (OKS) of people, non-maximum suppression by it, and person scores.

The definitions are those of ViTPose's evaluation, `mmpose/core/post_processing/nms.py` and
`topdown_coco_dataset.py`.
"""

import numpy as np

__all__ = ["OKS_SIGMAS", "keypoint_similarity", "oks_nms", "person_score"]

# Standard deviations of COCO's annotators, one per keypoint.
OKS_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


def keypoint_similarity(
    keypoints: np.ndarray,
    others: np.ndarray,
    area: float,
    other_areas: np.ndarray,
    sigmas: np.ndarray = OKS_SIGMAS,
) -> np.ndarray:
    """Compute the OKS between one person and several others, over all keypoints.

    Args:
        keypoints: (K, 2) in pixels.
        others: (N, K, 2).
        area: Area of the person in square pixels.
        other_areas: (N,) areas; each pair is compared at its mean area.
        sigmas: (K,) standard deviations.

    Returns:
        (N,) similarities from 0 to 1.
    """
    squared = ((others - keypoints) ** 2).sum(axis=-1)
    areas = (area + np.asarray(other_areas)) / 2 + np.spacing(1)
    return np.exp(-squared / ((2 * sigmas) ** 2 * areas[:, None] * 2)).mean(axis=-1)


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    threshold: float,
    sigmas: np.ndarray = OKS_SIGMAS,
) -> np.ndarray:
    """Keep people greedily by descending score; drop those too similar to a person kept before.

    Args:
        keypoints: (N, K, 2) of one image, in pixels.
        scores, areas: (N,).
        threshold: OKS above which the person with the lower score is dropped; 1 keeps everyone.
        sigmas: (K,) standard deviations.

    Returns:
        Indices of the people to keep, by descending score.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        similar = keypoint_similarity(
            keypoints[first], keypoints[order], areas[first], areas[order], sigmas
        )
        order = order[similar <= threshold]
    return np.array(kept, int)


def person_score(
    box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float = 0.2
) -> np.ndarray:
    """Multiply each box score by the mean of the keypoint scores above a threshold, or by 0.

    Args:
        box_scores: (N,).
        keypoint_scores: (N, K).
        threshold: Keypoint score above which a keypoint counts.
    """
    counted = keypoint_scores > threshold
    total = np.where(counted, keypoint_scores, 0).sum(axis=-1)
    return box_scores * total / np.maximum(counted.sum(axis=-1), 1)
