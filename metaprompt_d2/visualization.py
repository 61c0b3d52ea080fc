"""Pictures of predictions beside the ground truth."""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import Metadata

__all__ = ["compare_sem_seg", "stack_rows"]

_GAP = 4  # pixels between pictures
_WHITE = 255


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
        pictures.append(("ground truth", _colorize(image, truth, metadata)))
    pictures.append(("prediction", _colorize(image, prediction, metadata)))
    gap = np.full((image.shape[0] + _title_height(image), _GAP, 3), _WHITE, np.uint8)
    columns = []
    for title, picture in pictures:
        columns += [_with_title(picture, title), gap]
    return np.hstack(columns[:-1])


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of pictures under each other, narrower ones filled with white.

    Args:
        rows: (H_i, W_i, 3) uint8.
    """
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [
            np.pad(
                row,
                ((0, _GAP), (0, width - row.shape[1]), (0, 0)),
                constant_values=_WHITE,
            )
            for row in rows
        ]
    )


def _colorize(image: np.ndarray, labels: np.ndarray, metadata: Metadata) -> np.ndarray:
    """Blend class colours over the image; ids that are no class stay black."""
    num_classes = len(metadata.stuff_classes)
    palette = np.zeros((256, 3), np.uint8)
    palette[:num_classes] = metadata.get("stuff_colors", None) or _palette(num_classes)
    colors = palette[np.minimum(labels, 255)]
    blended = (0.3 * image + 0.7 * colors).astype(np.uint8)
    blended[labels >= num_classes] = 0
    return blended


def _palette(num_classes: int) -> np.ndarray:
    """Distinct colours: hues by the golden ratio."""
    hue = (np.arange(num_classes) * 0.618034 % 1 * 180).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 180), np.full_like(hue, 230)], axis=-1)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]


def _title_height(image: np.ndarray) -> int:
    return max(14, image.shape[0] // 14)


def _with_title(picture: np.ndarray, title: str) -> np.ndarray:
    height = _title_height(picture)
    bar = np.full((height, picture.shape[1], 3), _WHITE, np.uint8)
    scale = height / 28
    origin = (2, int(height * 0.75))
    cv2.putText(bar, title, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])
