"""Draw semantic segmentation."""

from collections.abc import Iterator

import cv2
import numpy as np
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer

from .layout import titled_row


def compare_sem_seg(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None, metadata: Metadata
) -> np.ndarray:
    """Draw the image, ground truth and prediction side by side in the dataset's colors.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction, truth: (H, W) class ids. Those without a class, as the ignore label, are black.
        metadata: Metadata with "stuff_classes" and optionally "stuff_colors".

    Returns:
        (H', W', 3) uint8 RGB with a title above each picture.
    """
    pictures = {"image": image}
    if truth is not None:
        pictures["ground truth"] = colorize(image, truth, metadata)
    return titled_row(pictures | {"prediction": colorize(image, prediction, metadata)})


def colorize(image: np.ndarray, labels: np.ndarray, metadata: Metadata) -> np.ndarray:
    """Blend class colors over the image; ids without a class become black."""
    num_classes = len(metadata.stuff_classes)
    unknown = (labels < 0) | (labels >= num_classes)
    colors = _class_colors(metadata)[np.where(unknown, 0, labels)]
    blended = cv2.addWeighted(image, 0.3, colors, 0.7, 0)
    blended[unknown] = 0
    return blended


def draw_classes(image: np.ndarray, labels: np.ndarray, metadata: Metadata) -> np.ndarray:
    """Draw `colorize` with each class's name on its largest area, if it is wide enough."""
    visualizer = Visualizer(colorize(image, labels, metadata), metadata)
    colors = _class_colors(metadata) / 255
    size = max(10, int(np.sqrt(labels.size)) // 90)  # points of 1.4 pixels
    for label, (x, y), radius in _wide_places(labels, len(metadata.stuff_classes)):
        if radius > size:
            name, width = metadata.stuff_classes[label], labels.shape[1]
            margin = min(0.45 * size * len(name), width / 2)
            place = np.clip(x, margin, width - margin), y - 0.8 * size
            visualizer.draw_text(name, place, font_size=size, color=tuple(colors[label]))
    return visualizer.get_output().get_image()


def _wide_places(labels: np.ndarray, num_classes: int) -> Iterator[tuple[int, np.ndarray, float]]:
    """Yield each class id, a wide place (x, y) near the center of its largest area, a radius."""
    step = max(1, min(labels.shape) // 256)  # accurate enough and fast
    small = labels[::step, ::step]
    for label in np.unique(small[(small >= 0) & (small < num_classes)]):
        mask = np.pad((small == label).astype(np.uint8), 1)  # so that areas end at the border
        _, components, stats, centers = cv2.connectedComponentsWithStats(mask, connectivity=4)
        largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        radii = cv2.distanceTransform((components == largest).astype(np.uint8), cv2.DIST_L2, 3)
        wide = np.argwhere(radii > 0.9 * radii.max())[:, ::-1]
        place = wide[np.square(wide - centers[largest]).sum(axis=1).argmin()]
        yield int(label), (place - 0.5) * step, float(radii.max()) * step


def _class_colors(metadata: Metadata) -> np.ndarray:
    """Return (K, 3) uint8 RGB: the dataset's colors, or hues spaced by the golden ratio."""
    if metadata.get("stuff_colors", None):
        return np.array(metadata.stuff_colors, np.uint8)
    hue = (np.arange(len(metadata.stuff_classes)) * 0.618034 % 1 * 180).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 180), np.full_like(hue, 230)], axis=-1)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
