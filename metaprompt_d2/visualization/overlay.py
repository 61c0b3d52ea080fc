"""A prediction drawn over its image, for any task."""

from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer

from ..utils.errors import InputError
from .depth import DEPTH_COLORS, color_mapped
from .pose import draw_people
from .sem_seg import draw_classes

__all__ = ["draw_overlay"]


def draw_overlay(image: np.ndarray, output: dict[str, Any], metadata: Metadata) -> np.ndarray:
    """Classes and their names over the image, depth in its place, or skeletons on it.

    Args:
        image: (H, W, 3) uint8 RGB.
        output: of a model for it: "sem_seg", "depth", or what Detectron2's own models give.
        metadata: as `compare_sem_seg`, `compare_depth` and `compare_people` need it. Depth's
            colours run from 0 (bright) to its "max_depth"; what has no value is grey.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: an output of an unknown task.
    """
    if "sem_seg" in output and "panoptic_seg" not in output:
        return draw_classes(image, output["sem_seg"].argmax(dim=0).cpu().numpy(), metadata)
    if "depth" in output:
        depth = output["depth"].float().cpu().numpy()
        depth = np.where(np.isfinite(depth), depth, np.nan)
        return color_mapped(depth, metadata.max_depth, DEPTH_COLORS, True)
    if "instances" in output and output["instances"].has("crop_areas"):  # poses of this package
        return draw_people(image, output["instances"].to("cpu"), metadata)
    visualizer = Visualizer(image, metadata)
    if "panoptic_seg" in output:
        segments, info = output["panoptic_seg"]
        return visualizer.draw_panoptic_seg_predictions(segments.cpu(), info).get_image()
    if "instances" in output:
        return visualizer.draw_instance_predictions(output["instances"].to("cpu")).get_image()
    raise InputError(f"the model gives {sorted(output)}, of which nothing can be drawn")
