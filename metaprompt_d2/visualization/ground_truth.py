"""Draw the ground truth of an image."""

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances

from .depth import DEPTH_COLORS, color_mapped, thickened
from .layout import titled_row
from .pose import draw_heatmaps, draw_people, enlarged, people_scale
from .segments import Segments, draw_segments
from .sem_seg import colorize


def draw_ground_truth(
    image: np.ndarray,
    metadata: Metadata,
    *,
    sem_seg: np.ndarray | None = None,
    segments: Segments | None = None,
    depth: np.ndarray | None = None,
    people: Instances | None = None,
    heatmaps: np.ndarray | None = None,
) -> np.ndarray:
    """Draw an image next to each kind of its ground truth that is given.

    Args:
        image: (H, W, 3) uint8 RGB.
        metadata: Metadata as in `compare_sem_seg` for classes, "max_depth" for depth, and as in
            `compare_people` for people.
        sem_seg: (H, W) class ids; ids without a class, such as the ignore label, are black.
        segments: Bool masks (H, W) and their classes, as in `draw_segments`.
        depth: (H, W) meters; 0 where unknown (gray).
        people: People as in `compare_people`. Small images are then enlarged.
        heatmaps: (K, h, w) keypoint heatmaps of one person, 0..1, aligned with the image's corners.

    Returns:
        (H', W', 3) uint8 RGB with a title above each picture.
    """
    pictures = {"image": image}
    if sem_seg is not None:
        pictures["classes"] = colorize(image, sem_seg, metadata)
    if segments is not None:
        pictures["segments"] = draw_segments(image, *segments, metadata)
    if depth is not None:
        known = thickened(np.where(depth > 0, depth, np.nan), nearest=True)
        picture = color_mapped(known, metadata.max_depth, DEPTH_COLORS, True)
        pictures[f"depth, 0 to {metadata.max_depth:g} m"] = picture
    if heatmaps is not None:
        pictures["heatmaps"] = draw_heatmaps(image, heatmaps)
    if people is not None:
        scale = people_scale(image)
        pictures = {title: enlarged(picture, scale) for title, picture in pictures.items()}
        pictures["keypoints"] = draw_people(image, people, metadata, scale=scale)
    return titled_row(pictures)
