"""A pinhole camera over a world with X to the right, Y up and Z along the street, in meters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR = 0.3  # meters; nothing nearer than this is drawn


@dataclass(frozen=True)
class Camera:
    """Pinhole camera without roll; pixel (column i, row j) covers [i, i + 1) x [j, j + 1)."""

    position: np.ndarray  # (3,) meters
    right: np.ndarray  # (3,) unit vectors of the camera frame in world coordinates
    down: np.ndarray
    forward: np.ndarray
    focal: float  # pixels
    width: int  # pixels
    height: int

    @classmethod
    def looking(
        cls, position: np.ndarray, yaw: float, pitch: float, focal: float, size: tuple[int, int]
    ) -> Camera:
        """Camera turned by `yaw` to the right and by `pitch` downwards (radians); size (w, h)."""
        sy, cy, sp, cp = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
        return cls(
            position=np.asarray(position, float),
            right=np.array([cy, 0.0, -sy]),
            down=-np.array([sy * sp, cp, cy * sp]),
            forward=np.array([sy * cp, -sp, cy * cp]),
            focal=focal,
            width=size[0],
            height=size[1],
        )

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) in meters -> camera coordinates (N, 3): right, down, forward."""
        axes = np.stack([self.right, self.down, self.forward], axis=1)
        return (np.asarray(points, float) - self.position) @ axes

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Camera coordinates (N, 3) with positive depth -> image coordinates (N, 2) in pixels."""
        center = np.array([self.width / 2, self.height / 2])
        return center + self.focal * points[:, :2] / points[:, 2:]

    def ray_slopes(self, direction: np.ndarray) -> tuple[float, float, float]:
        """(a, b, c) so that a * x + b * y + c is `direction` . (ray through image point (x, y)).

        The rays have depth 1, so a multiple t of a ray ends at depth t.
        """
        a = float(self.right @ direction) / self.focal
        b = float(self.down @ direction) / self.focal
        c = float(self.forward @ direction) - a * self.width / 2 - b * self.height / 2
        return a, b, c

    def along_rays(self, direction: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """`direction` . ray for the grid of image points xs (W,), ys (H,); (H, W) float32."""
        a, b, c = self.ray_slopes(direction)
        return (a * xs + c).astype(np.float32)[None] + (b * ys).astype(np.float32)[:, None]


def clip_near(points: np.ndarray, near: float = NEAR) -> np.ndarray:
    """Cut a polygon in camera coordinates (N, 3) at depth `near`; (M, 3), M = 0 if all behind."""
    kept: list[np.ndarray] = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        if start[2] >= near:
            kept.append(start)
        if (start[2] >= near) != (end[2] >= near):
            kept.append(start + (end - start) * (near - start[2]) / (end[2] - start[2]))
    return np.array(kept).reshape(-1, 3)
