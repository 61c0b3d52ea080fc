"""Boundary IoU of each class's binary mask, summed over the images of a dataset.

This is the definition of B. Cheng et al., "Boundary IoU" (CVPR 2021, Section 4). Detectron2's
`BoundaryIoU-<class>` is another number: it erodes the label map as a whole, so a boundary pixel
counts for the class whose id is the difference of two neighboring ids.
"""

import math

import cv2
import numpy as np

_DISTANCE = 0.02  # width of the boundary as a fraction of the image diagonal
_KERNEL = np.ones((3, 3), np.uint8)


def count_boundaries(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the boundary pixels of each class in an image.

    Args:
        predicted, truth: (H, W) class ids; truth is `num_classes` at pixels to ignore.
        num_classes: Number of classes.

    Returns:
        (3, num_classes) pixels in both masks, in the ground truth's and in the prediction's.
    """
    predicted = np.where(truth == num_classes, num_classes, predicted)
    near_truth, near_predicted = _boundary(truth), _boundary(predicted)
    both = near_truth & near_predicted & (truth == predicted)
    found = truth[both], truth[near_truth], predicted[near_predicted]
    return np.stack([np.bincount(labels, minlength=num_classes + 1)[:-1] for labels in found])


def mask_boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Compute the IoU, 0..1, of each class from summed counts; NaN where the truth has none."""
    both, true, predicted = counts
    union = np.where(true > 0, true + predicted - both, 0)
    return np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0)


def _boundary(labels: np.ndarray) -> np.ndarray:
    """Mark pixels with another label or the image border within the distance (of a square)."""
    labels = labels.astype(np.uint16)
    steps = max(1, round(_DISTANCE * math.hypot(*labels.shape)))
    lowest = cv2.erode(labels, _KERNEL, iterations=steps)
    near = lowest != cv2.dilate(labels, _KERNEL, iterations=steps)
    near[:steps] = near[-steps:] = near[:, :steps] = near[:, -steps:] = True
    return near
