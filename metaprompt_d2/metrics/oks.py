"""Object keypoint similarity (OKS), suppression by it, and person scores, as in ViTPose."""

import numpy as np


def keypoint_similarity(
    keypoints: np.ndarray,
    others: np.ndarray,
    area: float,
    other_areas: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """Compute the OKS between one person and several others, over all keypoints.

    Args:
        keypoints, others: (J, 2) and (N, J, 2) in pixels.
        area, other_areas: Number and (N,) in square pixels; each pair is compared at its mean area.
        sigmas: Standard deviations (J,) of the annotators.

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
    sigmas: np.ndarray,
) -> np.ndarray:
    """Keep people greedily by descending score; drop those too similar to a person kept before.

    Args:
        keypoints: (N, J, 2) of one image, in pixels.
        scores, areas: (N,).
        threshold: OKS above which the person with the lower score is dropped; 1 keeps everyone.
        sigmas: As in `keypoint_similarity`.

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
        box_scores, keypoint_scores: (N,) and (N, J).
        threshold: Keypoint score above which a keypoint counts.
    """
    counted = keypoint_scores > threshold
    total = np.where(counted, keypoint_scores, 0).sum(axis=-1)
    return box_scores * total / np.maximum(counted.sum(axis=-1), 1)
