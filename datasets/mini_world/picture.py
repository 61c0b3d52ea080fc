"""What a finished canvas gives: the picture, its labels, depth and keypoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import Canvas
from .keypoints import Keypoints, project_keypoints

SUPERSAMPLING = 2
_SAMPLE = 1  # which of the 2 x 2 canvas pixels gives an output pixel its label and depth


@dataclass(frozen=True)
class Scene:
    """One rendered scene; H, W are the output size.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        instance_ids: (H, W) uint16, Cityscapes encoding: id * 1000 + n for things, else the id.
        depth: (H, W) float32 meters, inf in the sky.
        posed: (instance id, (J, 3) int keypoints) of each body with visible pixels.
    """

    image: np.ndarray
    instance_ids: np.ndarray
    depth: np.ndarray
    posed: list[tuple[int, np.ndarray]]

    @property
    def label_ids(self) -> np.ndarray:
        """Cityscapes label ids (H, W) uint8."""
        ids = self.instance_ids
        return np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)


def finish(canvas: Canvas, bodies: Mapping[int, Keypoints], rng: np.random.Generator) -> Scene:
    """Take image, labels, depth and keypoints from the finished canvas.

    Args:
        canvas: Canvas, `SUPERSAMPLING` times larger than the output.
        bodies: Keypoints of bodies by their value in the id buffer.
        rng: Generator for lens and sensor.
    """
    pick = slice(_SAMPLE, None, SUPERSAMPLING)
    ids, depth = canvas.ids[pick, pick].copy(), canvas.depth[pick, pick].copy()
    visible = set(np.unique(ids).tolist())
    posed = [
        (value, project_keypoints(canvas, keypoints, value, SUPERSAMPLING, _SAMPLE))
        for value, keypoints in bodies.items()
        if value in visible
    ]
    return Scene(_develop(canvas, rng), ids, depth, posed)


def _develop(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Haze, lens and sensor: canvas colors -> (H, W, 3) uint8 RGB at the output size."""
    light = canvas.light
    clear = np.exp(-canvas.depth / light.haze_distance)
    clear[np.isinf(canvas.depth)] = 1.0
    hazy = light.horizon.astype(np.float32) * np.float32(0.92)
    color = hazy + clear[..., None].astype(np.float32) * (canvas.color - hazy)
    size = canvas.camera.width // SUPERSAMPLING, canvas.camera.height // SUPERSAMPLING
    color = cv2.resize(color, size, interpolation=cv2.INTER_AREA)
    color = cv2.GaussianBlur(color, (0, 0), float(rng.uniform(0.3, 0.55)))
    balance = 1 + rng.normal(0, 0.03, 3)
    metered = float(np.clip(0.44 / max(color.mean(), 0.05), 0.9, 1.0 + 0.75 * (1 - light.dusk)))
    exposure = metered * rng.uniform(0.85, 1.15) * balance
    color = np.maximum(color, 0) * exposure.astype(np.float32)
    x, y = np.linspace(-1, 1, size[0])[None], np.linspace(-1, 1, size[1])[:, None]
    color *= (1 - rng.uniform(0.02, 0.12) * (x * x + y * y))[..., None].astype(np.float32)
    # Highlights roll off instead of clipping.
    color = np.where(color > 0.75, 0.75 + 0.25 * np.tanh((color - 0.75) / 0.25), color)
    noise = rng.standard_normal(color.shape, np.float32) * np.float32(rng.uniform(0.004, 0.014))
    color = color + noise * (0.6 + 0.8 * np.sqrt(color))
    return np.clip(np.round(color * 255), 0, 255).astype(np.uint8)
