"""Pictures of people with their joints."""

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.visualizer import Visualizer

from .layout import side_by_side, with_title

__all__ = ["annotated_people", "compare_people", "draw_heatmaps", "draw_people", "people_scale"]

_PEOPLE_SIZE = 512  # pixels to which smaller images are enlarged before skeletons are drawn


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
    scale = people_scale(image)
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


def people_scale(image: np.ndarray) -> int:
    """The factor by which an image is enlarged so that skeletons can be seen."""
    return max(1, _PEOPLE_SIZE // max(image.shape[:2]))


def annotated_people(item: dict) -> Instances | None:
    """A dataset dict's annotations as `compare_people` takes them; None where there are none."""
    notes = item.get("annotations", ())
    if not notes:
        return None
    boxes = [BoxMode.convert(note["bbox"], note["bbox_mode"], BoxMode.XYXY_ABS) for note in notes]
    joints = [np.reshape(note["keypoints"], (-1, 3)) for note in notes]
    people = Instances((item["height"], item["width"]))
    people.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    people.pred_keypoints = torch.tensor(np.stack(joints), dtype=torch.float32)
    return people


def draw_heatmaps(image: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """The strongest of all joints' heatmaps (J, h, w), 0..1, in red over the image (H, W, 3)."""
    height, width = image.shape[:2]
    # UDP: the first and last pixels of map and image lie on each other.
    rows = np.linspace(0, heatmaps.shape[1] - 1, height, dtype=np.float32)
    columns = np.linspace(0, heatmaps.shape[2] - 1, width, dtype=np.float32)
    x, y = np.meshgrid(columns, rows)
    share = cv2.remap(heatmaps.max(axis=0), x, y, cv2.INTER_LINEAR).clip(0, 1)[..., None]
    red = np.array([255, 0, 0])
    return (image * (1 - 0.7 * share) + red * 0.7 * share).astype(np.uint8)
