"""Draw segments of things and stuff."""

import colorsys
from collections.abc import Sequence

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer

from .layout import titled_row

# Masks (H, W), bool, and the class of each.
Segments = tuple[Sequence[np.ndarray], Sequence[int]]


def compare_segments(
    image: np.ndarray, prediction: Segments, truth: Segments | None, metadata: Metadata
) -> np.ndarray:
    """Draw the image, ground truth and prediction side by side, as `draw_segments` does.

    Returns:
        (H', W', 3) uint8 RGB with a title above each picture.
    """
    pictures = {"image": image}
    if truth is not None:
        pictures["ground truth"] = draw_segments(image, *truth, metadata)
    return titled_row(pictures | {"prediction": draw_segments(image, *prediction, metadata)})


def draw_segments(
    image: np.ndarray, masks: Sequence[np.ndarray], classes: Sequence[int], metadata: Metadata
) -> np.ndarray:
    """Draw masks over the image with the names of their classes.

    Each thing has its own color; stuff has the color of its class, if the dataset has colors.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: Bool masks (H, W), which may overlap; large ones are drawn first.
        classes: Class of each mask.
        metadata: Metadata with "stuff_classes" or "thing_classes", and optionally "stuff_colors"
            and "thing_dataset_id_to_contiguous_id".

    Returns:
        (H, W, 3) uint8 RGB.
    """
    names = metadata.get("stuff_classes", None) or metadata.thing_classes
    colors = metadata.get("stuff_colors", None)
    things = set((metadata.get("thing_dataset_id_to_contiguous_id", None) or {}).values())
    drawn = [
        # Hues of neighbors are far apart: they are spaced by the golden ratio.
        np.array(colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.7, 0.9))
        if colors is None or label in things
        else np.array(colors[label]) / 255
        for number, label in enumerate(classes)
    ]
    return (
        Visualizer(image, metadata)
        .overlay_instances(
            masks=list(masks), labels=[names[label] for label in classes], assigned_colors=drawn
        )
        .get_image()
    )
