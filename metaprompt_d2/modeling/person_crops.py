"""Get people's boxes from `Instances`, and cut their crops on the model's device."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torch.nn import functional as F

from ..utils.errors import InputError

# Fields that may hold people's boxes and classes; the first found wins.
_BOX_FIELDS = ("pred_boxes", "proposal_boxes", "gt_boxes")
_CLASS_FIELDS = ("pred_classes", "gt_classes")


def given_people(instances: Instances, size: tuple[int, int]) -> Instances:
    """Get the people of `Instances` in pixels of an image of `size` (height, width).

    Returns:
        `Instances` with `pred_boxes`, `scores` (default: 1) and `pred_classes` (default: 0).

    Raises:
        InputError: The instances have no boxes.
    """
    field = next(filter(instances.has, _BOX_FIELDS), None)
    if field is None:
        raise InputError(
            f"the given Instances have {list(instances.get_fields())}, expected boxes as one of "
            f"{_BOX_FIELDS}"
        )
    boxes = instances.get(field).clone()
    boxes.scale(size[1] / instances.image_size[1], size[0] / instances.image_size[0])
    class_field = next(filter(instances.has, _CLASS_FIELDS), None)
    return make_people(
        size,
        boxes,
        instances.scores if instances.has("scores") else None,
        instances.get(class_field) if class_field else None,
    )


def make_people(
    size: tuple[int, int],
    boxes: Boxes,
    scores: Tensor | None = None,
    classes: Tensor | None = None,
) -> Instances:
    """Make `Instances` of an image of `size` with what `given_people` returns."""
    scores = torch.ones(len(boxes)) if scores is None else scores
    classes = torch.zeros(len(boxes), dtype=torch.int64) if classes is None else classes
    return Instances(size, pred_boxes=boxes, scores=scores, pred_classes=classes)


def cut_crops(
    image: Tensor,
    centers: np.ndarray,
    extents: np.ndarray,
    size: tuple[int, int],
    outside: Tensor,
) -> Tensor:
    """Cut crops out of an image with UDP's affine map and bilinear interpolation.

    The result is that of OpenCV's `warpAffine` in `PoseMapper`, without its rounding to 1/32 pixel.

    Args:
        image: Image (C, H, W).
        centers, extents: Place of the crops in the image, (K, 2), x then y, in pixels.
        size: Size of the crops as (height, width).
        outside: Value (C, 1, 1) outside of the image.

    Returns:
        Crops (K, C, height, width).
    """
    height, width = size
    if not len(centers):
        return image.new_zeros(0, len(image), height, width)
    rows, columns = image.shape[-2:]
    corners = centers - extents / 2  # (K, 2)
    x = corners[:, :1] + extents[:, :1] * np.linspace(0, 1, width)
    y = corners[:, 1:] + extents[:, 1:] * np.linspace(0, 1, height)
    # grid_sample's -1 and 1 are the outer edges of the first and last pixels.
    x, y = (2 * x + 1) / columns - 1, (2 * y + 1) / rows - 1
    grid = np.stack(np.broadcast_arrays(x[:, None, :], y[:, :, None]), axis=-1)
    source = (image - outside).expand(len(grid), -1, -1, -1)
    return F.grid_sample(source, torch.from_numpy(grid).to(image), align_corners=False) + outside
