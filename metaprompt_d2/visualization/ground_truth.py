"""What is known of an image, for a look at data."""

import cv2
import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances

from .depth import DEPTH_COLORS, color_mapped, thickened
from .layout import side_by_side, with_title
from .pose import draw_heatmaps, draw_people, people_scale
from .sem_seg import colorize

__all__ = ["draw_ground_truth"]


def draw_ground_truth(
    image: np.ndarray,
    metadata: Metadata,
    *,
    sem_seg: np.ndarray | None = None,
    depth: np.ndarray | None = None,
    people: Instances | None = None,
    heatmaps: np.ndarray | None = None,
) -> np.ndarray:
    """An image beside what is known of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        metadata: for `sem_seg` as in `compare_sem_seg`, for `depth` with "max_depth".
        sem_seg: (H, W) class ids or `metadata.ignore_label` (drawn black).
        depth: (H, W) metres, 0 = no value (drawn grey).
        people: as in `compare_people`, which then enlarges small images, too.
        heatmaps: (J, h, w) of one person's joints, 0..1, whose corners lie on the image's.

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    pictures = [("image", image)]
    if sem_seg is not None:
        pictures.append(("classes", colorize(image, sem_seg, metadata)))
    if depth is not None:
        known = thickened(np.where(depth > 0, depth, np.nan), np.fmin)
        picture = color_mapped(known, metadata.max_depth, DEPTH_COLORS, True)
        pictures.append((f"depth, 0 to {metadata.max_depth:g} m", picture))
    if heatmaps is not None:
        pictures.append(("heatmaps", draw_heatmaps(image, heatmaps)))
    if people is not None:
        scale = people_scale(image)
        size = (image.shape[1] * scale, image.shape[0] * scale)
        pictures.append(("joints", draw_people(image, people, metadata, scale=scale)))
        pictures = [
            (title, cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST))
            for title, picture in pictures
        ]
    return side_by_side([with_title(picture, title) for title, picture in pictures])
