"""Pictures of people with their joints."""

import cv2
import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer

from .layout import side_by_side, with_title

__all__ = ["compare_people", "draw_people"]

_PEOPLE_WIDTH = 512  # pixels to which smaller images are enlarged before skeletons are drawn


def compare_people(
    image: np.ndarray, prediction: Instances, truth: Instances | None, metadata: Metadata
) -> np.ndarray:
    """Image, annotated and predicted skeletons side by side, drawn by Detectron2's `Visualizer`.

    Small images are enlarged by a whole factor.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction, truth: with `pred_keypoints` (K, J, 3) and `pred_boxes` in the image's pixels,
            on the CPU. Joints with a third value up to 0.05 are not drawn.
        metadata: with "keypoint_names" and "keypoint_connection_rules".

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    scale = max(1, _PEOPLE_WIDTH // image.shape[1])

    predicted = draw_people(image, prediction, metadata, scale=scale)
    size = predicted.shape[1::-1]
    pictures = [("image", cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))]
    if truth is not None:
        pictures.append(("ground truth", draw_people(image, truth, metadata, scale=scale)))
    pictures.append(("prediction", predicted))
    return side_by_side([with_title(picture, title) for title, picture in pictures])


def draw_people(
    image: np.ndarray, people: Instances, metadata: Metadata, *, scale: int = 1
) -> np.ndarray:
    """Skeletons and boxes over the image, enlarged by `scale`; arguments as in `compare_people`."""
    shown = Instances(image.shape[:2])
    shown.pred_keypoints = people.pred_keypoints
    shown.pred_boxes = Boxes(people.pred_boxes.tensor.clone())
    visualizer = Visualizer(image, metadata, scale=scale)
    return visualizer.draw_instance_predictions(shown).get_image()
