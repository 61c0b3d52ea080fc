"""Draw a prediction over its image, for any task."""

from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer

from ..metrics import classify_pixels
from ..utils.errors import InputError
from .depth import DEPTH_COLORS, color_mapped
from .pose import confident, draw_people, enlarged
from .sem_seg import draw_classes


def draw_overlay(
    image: np.ndarray, output: dict[str, Any], metadata: Metadata, *, scale: int = 1
) -> np.ndarray:
    """Draw classes with their names over the image, depth instead of it, or skeletons on it.

    Args:
        image: (H, W, 3) uint8 RGB.
        output: Model output for the image: "sem_seg", "depth" or those of Detectron2's models.
        metadata: Metadata as in `compare_sem_seg` and `compare_people`. Depth colors run from 0
            (bright) to "max_depth"; missing values are gray. Detections with a score below 0.3 are
            not drawn; people whom this package poses are, as their boxes were chosen before.
        scale: Factor by which the picture is enlarged before names and skeletons are drawn.

    Returns:
        (H * scale, W * scale, 3) uint8 RGB.

    Raises:
        InputError: The output belongs to an unknown task.
    """
    if "sem_seg" in output and "panoptic_seg" not in output:
        classes = enlarged(classify_pixels(output["sem_seg"]), scale)
        return draw_classes(enlarged(image, scale), classes, metadata)
    if "depth" in output:
        depth = output["depth"].float().cpu().numpy()
        return enlarged(color_mapped(depth, metadata.max_depth, DEPTH_COLORS, True), scale)
    if "instances" in output and output["instances"].has("crop_areas"):  # this package's poses
        return draw_people(image, output["instances"].to("cpu"), metadata, scale=scale)
    visualizer = Visualizer(image, metadata, scale=scale)
    if "panoptic_seg" in output:
        segments, info = output["panoptic_seg"]
        return visualizer.draw_panoptic_seg_predictions(segments.cpu(), info).get_image()
    if "instances" in output:
        shown = confident(output["instances"].to("cpu"))
        return visualizer.draw_instance_predictions(shown).get_image()
    raise InputError(f"the model gives {sorted(output)}, of which nothing can be drawn")
