"""Boxes to crops of one aspect, and the affine maps between image and crop.

Pixels are unit-distance points (UDP): a crop of extent e fills n pixels so that its edges lie on
the centres of the first and last pixel, a scale of (n - 1) / e. J. Huang et al., "The Devil is in
the Details: Delving into Unbiased Data Processing for Human Pose Estimation", CVPR 2020 (arXiv
1911.07524); the arithmetic is that of ViTPose (method section 5.2).
"""

import numpy as np

from ..utils.errors import InputError

__all__ = ["box_to_crop", "crop_matrix", "invert_affine", "points_to_crop", "transform_points"]


def box_to_crop(
    box: np.ndarray, *, aspect: float, padding: float = 1.25
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest crop of an aspect that holds a box, enlarged about its centre.

    Args:
        box: (..., 4) x, y, width, height in pixels.
        aspect: width over height of the crop.
        padding: factor on the crop's sides.

    Returns:
        centres (..., 2) and extents (..., 2), both x then y, in pixels.
    """
    box = np.asarray(box, np.float64)
    corner, size = box[..., :2], box[..., 2:]
    width = np.maximum(size[..., 0], size[..., 1] * aspect)
    extent = np.stack([width, width / aspect], axis=-1) * padding
    return corner + size / 2, extent


def points_to_crop(
    points: np.ndarray, *, aspect: float, padding: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `box_to_crop`, of the box around points (N, 2), but centred on their mean."""
    low, high = points.min(axis=0), points.max(axis=0)
    _, extent = box_to_crop(np.concatenate([low, high - low]), aspect=aspect, padding=padding)
    return points.mean(axis=0), extent


def crop_matrix(
    center: np.ndarray, extent: np.ndarray, size: tuple[int, int], rotation: float = 0.0
) -> np.ndarray:
    """From pixels of the image to pixels of the crop.

    Args:
        center, extent: (2,) of the crop in the image, x then y, in pixels.
        size: (height, width) of the crop in its own pixels.
        rotation: in degrees, clockwise as it looks; the crop's content turns by this.

    Returns:
        (2, 3) float64.

    Raises:
        InputError: an extent that is not positive, or a crop of less than 2 pixels a side.
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


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) -> (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map points (..., 2) by a matrix (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]
