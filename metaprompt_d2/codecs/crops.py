"""Convert boxes to crops of one aspect ratio, and points of the image to points of a crop.

Distances are measured in the unit of UDP: the edges of a crop of extent e and n pixels lie on the
centers of its first and last pixel, so that its scale is (n - 1) / e. See J. Huang et al., "The
Devil is in the Details: Delving into Unbiased Data Processing for Human Pose Estimation", CVPR 2020
(arXiv 1911.07524). The arithmetic is that of ViTPose (docs/method.md#vitpose-recipe).
"""

import numpy as np

from ..utils.errors import InputError


def box_to_crop(
    box: np.ndarray, *, aspect: float, padding: float = 1.25
) -> tuple[np.ndarray, np.ndarray]:
    """Find the smallest crop of an aspect ratio that holds a box, and enlarge it.

    Args:
        box: Boxes (..., 4) as x, y, width, height in pixels.
        aspect: Width of the crop over its height.
        padding: Factor on the crop's sides.

    Returns:
        Centers (..., 2) and extents (..., 2), both x then y, in pixels.
    """
    box = np.asarray(box, np.float64)
    corner, size = box[..., :2], box[..., 2:]
    width = np.maximum(size[..., 0], size[..., 1] * aspect)
    extent = np.stack([width, width / aspect], axis=-1) * padding
    return corner + size / 2, extent


def points_to_crop(
    points: np.ndarray, *, aspect: float, padding: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the crop of the box around points (N, 2) with `box_to_crop`, centered on their mean."""
    low, high = points.min(axis=0), points.max(axis=0)
    _, extent = box_to_crop(np.concatenate([low, high - low]), aspect=aspect, padding=padding)
    return points.mean(axis=0), extent


def crop_matrix(
    center: np.ndarray, extent: np.ndarray, size: tuple[int, int], rotation: float = 0.0
) -> np.ndarray:
    """Make the affine map from pixels of the image to pixels of the crop.

    Args:
        center, extent: Place of the crop in the image, (2,), x then y, in pixels.
        size: Size (height, width) of the crop in its own pixels.
        rotation: Degrees by which the crop's content turns clockwise.

    Returns:
        Matrix (2, 3) of float64.

    Raises:
        InputError: The extent isn't positive, or a side of the crop has less than 2 pixels.
    """
    extent = np.asarray(extent, np.float64)
    if not (np.isfinite(extent).all() and (extent > 0).all()):
        raise InputError(f"a crop's extent is {extent.tolist()}, expected pixels above 0")
    if min(size) < 2:
        raise InputError(f"a crop has {size} pixels (height, width), expected at least 2 a side")
    scale = (np.array(size[::-1]) - 1) / extent
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    turn = np.array([[cos, -sin], [sin, cos]])
    linear = scale[:, None] * turn
    offset = scale * extent / 2 - linear @ np.asarray(center, np.float64)
    return np.concatenate([linear, offset[:, None]], axis=1)


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map points (..., 2) with a matrix (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]
