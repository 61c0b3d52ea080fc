"""The sizes in which the page computes and shows images."""

import cv2
import numpy as np

__all__ = ["LEAST_SIDE", "enlarge", "shrink"]

LEAST_SIDE = 768  # pixels; smaller images are enlarged for comparison
_MOST_PIXELS = 2**20  # of the image; larger ones are shrunk, which bounds time and memory


def shrink(image: np.ndarray) -> np.ndarray:
    """Shrink an image with more than `_MOST_PIXELS` to that number."""
    height, width = image.shape[:2]
    factor = (_MOST_PIXELS / (height * width)) ** 0.5
    if factor >= 1:
        return image
    size = max(1, int(width * factor)), max(1, int(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def enlarge(picture: np.ndarray) -> np.ndarray:
    """Enlarge a picture whose longer side is below `LEAST_SIDE`."""
    height, width = picture.shape[:2]
    factor = max(1, LEAST_SIDE / max(height, width))
    return cv2.resize(picture, (round(width * factor), round(height * factor)))
