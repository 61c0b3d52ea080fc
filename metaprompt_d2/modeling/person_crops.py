"""Get people's boxes from `Instances`, and cut their crops on the model's device."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torch.nn import functional as F

from ..utils.errors import InputError

# Fields that may hold people's boxes; the first found wins.
_BOX_FIELDS = ("pred_boxes", "proposal_boxes", "gt_boxes")


def given_boxes(instances: Instances, size: tuple[int, int]) -> tuple[Boxes, Tensor]:
    """Get the boxes of `Instances` in pixels of an image of `size` (height, width), and scores.

    Raises:
        InputError: The instances have no boxes.
    """
    field = next((name for name in _BOX_FIELDS if instances.has(name)), None)
    if field is None:
        raise InputError(
            f"the given Instances have {list(instances.get_fields())}, expected boxes as one of "
            f"{_BOX_FIELDS}"
        )
    boxes = instances.get(field).clone()
    boxes.scale(size[1] / instances.image_size[1], size[0] / instances.image_size[0])
    return boxes, instances.scores if instances.has("scores") else torch.ones(len(boxes))


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
