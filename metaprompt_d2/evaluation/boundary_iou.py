"""Boundary IoU of label maps."""

import cv2
import numpy as np

__all__ = ["BoundaryIoU"]

_KERNEL = np.ones((3, 3), np.uint8)


class BoundaryIoU:
    """IoU of the pixels of true and predicted masks that lie near the masks' own contours.

    B. Cheng et al., "Boundary IoU", CVPR 2021 (arXiv 2103.16562), class by class. Detectron2's
    evaluator erodes the label map as a whole and takes differences of class ids for classes.
    """

    def __init__(self, num_classes: int, distance: float = 0.02):
        """
        Args:
            num_classes: K; the truth's label K is ignored.
            distance: of boundary pixels from the contour, as a share of the image's diagonal.
        """
        self.num_classes = num_classes
        self.distance = distance
        # Pixels of either boundary: in both, in the truth's, in the prediction's; by class.
        self.counts = np.zeros((3, num_classes), np.int64)

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """
        Args:
            predicted, truth: (H, W) class ids. What is predicted at ignored pixels does not matter.
        """
        predicted = np.where(truth == self.num_classes, self.num_classes, predicted)
        near_truth, near_predicted = self._boundary(truth), self._boundary(predicted)
        both = near_truth & near_predicted & (truth == predicted)
        for row, (labels, mask) in enumerate(
            ((truth, both), (truth, near_truth), (predicted, near_predicted))
        ):
            counts = np.bincount(labels[mask], minlength=self.num_classes + 1)
            self.counts[row] += counts[: self.num_classes]

    def figures(self) -> np.ndarray:
        """(K,) Boundary IoU from 0 to 1; NaN for classes that are not in the truth."""
        both, true, predicted = self.counts
        union = np.where(true > 0, true + predicted - both, 0)
        return np.divide(both, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def _boundary(self, labels: np.ndarray) -> np.ndarray:
        """Pixels with another label, or the image's border, within the distance (of a square)."""
        labels = labels.astype(np.uint16)
        steps = max(1, round(self.distance * float(np.hypot(*labels.shape))))
        lowest = cv2.erode(labels, _KERNEL, iterations=steps)
        near = lowest != cv2.dilate(labels, _KERNEL, iterations=steps)
        near[:steps] = near[-steps:] = near[:, :steps] = near[:, -steps:] = True
        return near
