"""Draw people with their keypoints."""

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.visualizer import Visualizer

from .layout import titled_row

LEAST_SCORE = 0.3  # of detections that are drawn
_PEOPLE_SIZE = 512  # pixels; smaller images are enlarged before drawing skeletons


def compare_people(
    image: np.ndarray, prediction: Instances, truth: Instances | None, metadata: Metadata
) -> np.ndarray:
    """Draw the image, annotated and predicted skeletons side by side; small images are enlarged.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction, truth: People on the CPU with `pred_keypoints` (N, K, 3) and `pred_boxes` in
            pixels of the image. Keypoints whose third value is at most 0.05 are not drawn, nor
            people whose `scores`, if they have any, are below `LEAST_SCORE`. The names of
            `pred_classes` are written if there are several.
        metadata: Metadata with "keypoint_names", "keypoint_connection_rules" and "thing_classes".

    Returns:
        (H', W', 3) uint8 RGB with a title above each picture.
    """
    scale = people_scale(image)
    pictures = {"image": enlarged(image, scale)}
    for title, people in (("ground truth", truth), ("prediction", prediction)):
        if people is not None:
            shown = confident(people)
            pictures[title] = draw_people(image, shown, metadata, scale=scale)
    return titled_row(pictures)


def draw_people(
    image: np.ndarray, people: Instances, metadata: Metadata, *, scale: int = 1
) -> np.ndarray:
    """Draw skeletons and boxes on the image, enlarged by `scale`. See `compare_people`."""
    boxes, keypoints = Boxes(people.pred_boxes.tensor.clone()), people.pred_keypoints
    shown = Instances(image.shape[:2], pred_boxes=boxes, pred_keypoints=keypoints)
    if people.has("pred_classes") and len(metadata.get("thing_classes", None) or ()) > 1:
        shown.pred_classes = people.pred_classes
    drawn = Visualizer(image, metadata, scale=scale).draw_instance_predictions(shown)
    return drawn.get_image()


def confident(instances: Instances) -> Instances:
    """Leave out instances with `scores` below `LEAST_SCORE`; ground truth has none."""
    return instances[instances.scores >= LEAST_SCORE] if instances.has("scores") else instances


def people_scale(image: np.ndarray) -> int:
    """Return the factor by which to enlarge an image so that skeletons are visible."""
    return max(1, _PEOPLE_SIZE // max(image.shape[:2]))


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeat each pixel `factor` times in both directions."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def annotated_people(item: dict) -> Instances | None:
    """Convert a dataset dict's keypoints for `compare_people`; None if it has none."""
    found = [each for each in item.get("annotations", ()) if "keypoints" in each]
    if not found:
        return None
    corners = [BoxMode.convert(each["bbox"], each["bbox_mode"], BoxMode.XYXY_ABS) for each in found]
    points = np.stack([np.reshape(each["keypoints"], (-1, 3)) for each in found])
    boxes, keypoints = Boxes(torch.tensor(corners)), torch.tensor(points, dtype=torch.float32)
    size = item["height"], item["width"]
    classes = torch.tensor([each["category_id"] for each in found])
    return Instances(size, pred_boxes=boxes, pred_keypoints=keypoints, pred_classes=classes)


def draw_heatmaps(image: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Draw the maximum over (K, h, w) heatmaps, 0..1, in red over the (H, W, 3) image."""
    height, width = image.shape[:2]
    # As in UDP, the first and last pixels of heatmap and image coincide.
    rows = np.linspace(0, heatmaps.shape[1] - 1, height, dtype=np.float32)
    columns = np.linspace(0, heatmaps.shape[2] - 1, width, dtype=np.float32)
    x, y = np.meshgrid(columns, rows)
    share = cv2.remap(heatmaps.max(axis=0), x, y, cv2.INTER_LINEAR).clip(0, 1)[..., None]
    red = np.array([255, 0, 0])
    return (image * (1 - 0.7 * share) + red * 0.7 * share).astype(np.uint8)
