"""Boundary IoU of each class's own mask."""

import cv2
import numpy as np

_KERNEL = np.ones((3, 3), np.uint8)


class MaskBoundaryIoU:
    """Accumulate the Boundary IoU of each class's binary mask over a dataset.

    This is the definition of B. Cheng et al., "Boundary IoU" (CVPR 2021, Section 4), with the
    intersections and unions summed over the images. Detectron2's `BoundaryIoU-<class>` is another
    number: it erodes the label map as a whole, so a boundary pixel counts for the class whose id
    is the difference of two neighboring ids.
    """

    def __init__(self, num_classes: int, distance: float = 0.02):
        """
        Args:
            num_classes: Number of classes; the ground truth marks ignored pixels with this number.
            distance: Width of the boundary as a fraction of the image diagonal.
        """
        self.num_classes = num_classes
        self.distance = distance
        # Boundary pixels per class: in both masks, in the ground truth's, in the prediction's.
        self.counts = np.zeros((3, num_classes), np.int64)

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Count the boundary pixels of an image.

        Args:
            predicted, truth: (H, W) class ids. Predictions at ignored pixels are not used.
        """
        predicted = np.where(truth == self.num_classes, self.num_classes, predicted)
        near_truth, near_predicted = self._boundary(truth), self._boundary(predicted)
        both = near_truth & near_predicted & (truth == predicted)
        for row, labels in enumerate((truth[both], truth[near_truth], predicted[near_predicted])):
            self.counts[row] += np.bincount(labels, minlength=self.num_classes + 1)[:-1]

    def compute(self) -> np.ndarray:
        """Return a value from 0 to 1 per class; NaN for classes absent from the ground truth."""
        both, true, predicted = self.counts
        union = np.where(true > 0, true + predicted - both, 0)
        return np.divide(both, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def _boundary(self, labels: np.ndarray) -> np.ndarray:
        """Mark pixels with another label or the image border within the distance (of a square)."""
        height, width = labels.shape
        labels = labels.astype(np.uint16)
        steps = max(1, round(self.distance * float(np.hypot(height, width))))
        lowest = cv2.erode(labels, _KERNEL, iterations=steps)
        near = lowest != cv2.dilate(labels, _KERNEL, iterations=steps)
        near[:steps] = near[-steps:] = near[:, :steps] = near[:, -steps:] = True
        return near
