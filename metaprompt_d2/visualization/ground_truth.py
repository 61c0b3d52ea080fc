"""What is known of an image, for a look at data."""

import numpy as np
from detectron2.data import Metadata

from .depth import DEPTH_COLORS, color_mapped, thickened
from .layout import side_by_side, with_title
from .sem_seg import colorize

__all__ = ["draw_ground_truth"]


def draw_ground_truth(
    image: np.ndarray,
    metadata: Metadata,
    *,
    sem_seg: np.ndarray | None = None,
    depth: np.ndarray | None = None,
) -> np.ndarray:
    """An image beside what is known of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        metadata: for `sem_seg` as in `compare_sem_seg`, for `depth` with "max_depth".
        sem_seg: (H, W) class ids or `metadata.ignore_label` (drawn black).
        depth: (H, W) metres, 0 = no value (drawn grey).

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    columns = [with_title(image, "image")]
    if sem_seg is not None:
        columns.append(with_title(colorize(image, sem_seg, metadata), "classes"))
    if depth is not None:
        known = thickened(np.where(depth > 0, depth, np.nan), np.fmin)
        picture = color_mapped(known, metadata.max_depth, DEPTH_COLORS, True)
        columns.append(with_title(picture, f"depth, 0 to {metadata.max_depth:g} m"))
    return side_by_side(columns)
