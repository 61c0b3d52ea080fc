"""Object keypoint similarity (OKS), suppression by it, and person scores, as in ViTPose."""

import numpy as np

# Standard deviations of COCO's annotators, one per keypoint.
OKS_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


def keypoint_similarity(
    keypoints: np.ndarray, others: np.ndarray, area: float, other_areas: np.ndarray
) -> np.ndarray:
    """Compute the OKS between one person and several others, over all keypoints.

    Args:
        keypoints, others: (17, 2) and (N, 17, 2) in pixels.
        area, other_areas: Number and (N,) in square pixels; each pair is compared at its mean area.

    Returns:
        (N,) similarities from 0 to 1.
    """
    squared = ((others - keypoints) ** 2).sum(axis=-1)
    areas = (area + np.asarray(other_areas)) / 2 + np.spacing(1)
    return np.exp(-squared / ((2 * OKS_SIGMAS) ** 2 * areas[:, None] * 2)).mean(axis=-1)


def oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float
) -> np.ndarray:
    """Keep people greedily by descending score; drop those too similar to a person kept before.

    Args:
        keypoints: (N, 17, 2) of one image, in pixels.
        scores, areas: (N,).
        threshold: OKS above which the person with the lower score is dropped; 1 keeps everyone.

    Returns:
        Indices of the people to keep, by descending score.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        similar = keypoint_similarity(
            keypoints[first], keypoints[order], areas[first], areas[order]
        )
        order = order[similar <= threshold]
    return np.array(kept, int)


def person_score(
    box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float = 0.2
) -> np.ndarray:
    """Multiply each box score by the mean of the keypoint scores above a threshold, or by 0.

    Args:
        box_scores, keypoint_scores: (N,) and (N, 17).
        threshold: Keypoint score above which a keypoint counts.
    """
    counted = keypoint_scores > threshold
    total = np.where(counted, keypoint_scores, 0).sum(axis=-1)
    return box_scores * total / np.maximum(counted.sum(axis=-1), 1)
