"""Keypoints of bodies in the world, and their projection to the picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .canvas import Canvas


class Keypoints(NamedTuple):
    """The J keypoints of a body."""

    points: np.ndarray  # (J, 3) world positions in meters
    # (J,) meters: a keypoint lies inside its limb; farther behind the surface, the body hides it.
    inside: np.ndarray


def project_keypoints(
    canvas: Canvas, keypoints: Keypoints, ids: int, factor: int, sample: int
) -> np.ndarray:
    """Return COCO's keypoints (J, 3) int: column, row and visibility.

    Visibility is 2 where the keypoint is seen, 1 where the own body hides it, and 0, with column
    and row 0, where something else hides it or it is outside the picture.

    Args:
        canvas: Finished picture, `factor` times larger than the output.
        keypoints: Keypoints of a body on it.
        ids: The body's value in the id buffer.
        factor: Size of the canvas divided by the size of the output.
        sample: Offset of the canvas pixel that gives an output pixel its label.
    """
    camera = canvas.camera
    found = np.zeros((len(keypoints.points), 3), int)
    points = camera.to_camera(keypoints.points)
    for index, (point, inside) in enumerate(zip(points, keypoints.inside, strict=True)):
        if point[2] <= 0.1:
            continue
        x, y = np.floor(camera.to_pixels(point[None])[0] / factor).astype(int)
        if not (0 <= x < camera.width // factor and 0 <= y < camera.height // factor):
            continue
        row, col = y * factor + sample, x * factor + sample
        if canvas.ids[row, col] != ids:
            continue  # behind something else nobody could know where it is
        seen = point[2] - canvas.depth[row, col] < inside
        found[index] = x, y, 2 if seen else 1
    return found
