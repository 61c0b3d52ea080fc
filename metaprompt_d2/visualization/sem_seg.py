"""Pictures of semantic segmentation."""

import cv2
import numpy as np
from detectron2.data import Metadata

from .layout import side_by_side, with_title

__all__ = ["colorize", "compare_sem_seg"]


def compare_sem_seg(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None, metadata: Metadata
) -> np.ndarray:
    """Image, ground truth and prediction side by side, classes in the data set's colours.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W) class ids.
        truth: (H, W) class ids or `metadata.ignore_label` (drawn black), or None.
        metadata: with "stuff_classes", "stuff_colors" (else a fixed palette), "ignore_label".

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    pictures = [("image", image)]
    if truth is not None:
        pictures.append(("ground truth", colorize(image, truth, metadata)))
    pictures.append(("prediction", colorize(image, prediction, metadata)))
    return side_by_side([with_title(picture, title) for title, picture in pictures])


def colorize(image: np.ndarray, labels: np.ndarray, metadata: Metadata) -> np.ndarray:
    """Blend class colours over the image; ids that are no class stay black."""
    num_classes = len(metadata.stuff_classes)
    palette = np.zeros((256, 3), np.uint8)
    palette[:num_classes] = metadata.get("stuff_colors", None) or _palette(num_classes)
    colors = palette[np.minimum(labels, 255)]
    blended = cv2.addWeighted(image, 0.3, colors, 0.7, 0)
    blended[labels >= num_classes] = 0
    return blended


def _palette(num_classes: int) -> np.ndarray:
    """Distinct colours: hues by the golden ratio."""
    hue = (np.arange(num_classes) * 0.618034 % 1 * 180).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 180), np.full_like(hue, 230)], axis=-1)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
