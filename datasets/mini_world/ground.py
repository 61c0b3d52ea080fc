"""Sky and ground: road with markings, curbs, sidewalks, grass and the shadows that fall on them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import clip_near
from .canvas import Canvas
from .textures import sample_noise

ROAD, SIDEWALK, TERRAIN, SKY = 7, 8, 22, 23
CURB_HEIGHT = 0.12  # meters


@dataclass(frozen=True)
class Layout:
    """Cross-section of the street; meters, two-element tuples are (left, right)."""

    road_half: float
    walk: tuple[float, float]
    verge: tuple[float, float]  # grass between sidewalk and houses, or curb and sidewalk
    verge_first: tuple[bool, bool]  # the grass lies next to the curb
    crossing: tuple[float, float]  # where a side street begins and ends along Z
    zebra: bool
    center_line: str  # "dashed", "solid", "none"
    edge_line: bool
    asphalt: tuple[float, float, float]
    paving: tuple[float, float, float]
    grass: tuple[float, float, float]

    def house_line(self, side: int) -> float:
        """Distance of the houses from the middle of the road; side 0 is left, 1 is right."""
        return self.road_half + self.walk[side] + self.verge[side]

    def is_road(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Whether ground points lie on the road or on the side street."""
        return (np.abs(x) < self.road_half) | ((z > self.crossing[0]) & (z < self.crossing[1]))


def sample_layout(rng: np.random.Generator) -> Layout:
    """Draw the cross-section of a street."""
    begin = rng.uniform(9, 45) if rng.random() < 0.65 else 1e4
    verge = tuple(float(v) for v in np.where(rng.random(2) < 0.7, rng.uniform(0.8, 3.5, 2), 0.0))
    return Layout(
        road_half=float(rng.uniform(3.2, 5.4)),
        walk=tuple(float(v) for v in rng.uniform(1.7, 3.6, 2)),
        verge=verge,
        verge_first=tuple(bool(v) for v in rng.random(2) < 0.5),
        crossing=(float(begin), float(begin + rng.uniform(6, 10))),
        zebra=bool(rng.random() < 0.7),
        center_line=str(rng.choice(["dashed", "solid", "none"], p=[0.6, 0.15, 0.25])),
        edge_line=bool(rng.random() < 0.4),
        asphalt=tuple(rng.uniform(0.27, 0.46) * (1 + rng.normal(0, 0.025, 3))),
        paving=tuple(
            rng.uniform(0.45, 0.68) * np.array([1.0, 0.96, 0.9]) * (1 + rng.normal(0, 0.04, 3))
        ),
        grass=tuple(np.array([0.32, 0.46, 0.17]) * rng.uniform(0.75, 1.15, 3)),
    )


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the canvas with the sky."""
    light, camera = canvas.light, canvas.camera
    xs, ys = np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5
    up = camera.along_rays(np.array([0.0, 1.0, 0.0]), xs, ys)[:, :1]
    rows = int((up > -0.03).sum())  # the ground covers the rest
    ys, up = ys[:rows], up[:rows]
    blend = np.clip(up / 0.5, 0, 1) ** 0.7
    color = light.horizon + (light.zenith - light.horizon) * blend[..., None]
    color = color.astype(np.float32)
    height = np.maximum(up, 0.0) + 0.12
    u = camera.along_rays(np.array([1.0, 0.0, 0.0]), xs, ys) / height
    v = np.broadcast_to(1 / height, u.shape)
    drift = float(rng.uniform(0, 100))
    clouds = sample_noise(u, v, 22.0, seed=drift, exponent=1.7)
    cover = np.clip((clouds - 1.1 + 2.0 * light.cloud) * 0.7, 0, 1) * np.clip(up / 0.08, 0, 1)
    white = np.minimum(light.ambient * 0.95 + light.sun * 0.55, 1.02).astype(np.float32)
    shaded = white * (1 - 0.12 * np.clip(clouds - 0.6, 0, 2))[..., None]
    canvas.color[:rows] = color + (0.85 * cover)[..., None] * (shaded - color)
    canvas.ids[:] = SKY


def _stripe(distance: np.ndarray, half_width: float) -> np.ndarray:
    """1 where |distance| < half_width (meters), else 0."""
    return (np.abs(distance) < half_width).astype(np.float32)


def _in_rows(values: np.ndarray) -> np.ndarray:
    """Lay values (N,) out in rows of 256, as OpenCV wants images; the end is filled up."""
    return np.resize(values, (-(-len(values) // 256), 256))


def _road_albedo(layout: Layout, x: np.ndarray, z: np.ndarray, seed: float) -> np.ndarray:
    """Color (H, W, 3) of the asphalt and its markings at ground points in meters."""
    rough = sample_noise(x, z, 60.0, seed=seed, exponent=0.6)
    patchy = sample_noise(x, z * 0.4, 7.0, seed=seed + 3, exponent=1.5)
    half = layout.road_half
    tracks = np.exp(-(((np.abs(np.abs(x) - half / 2) - 0.75) / 0.35) ** 2))
    gray = 1 + 0.05 * rough + 0.07 * patchy - 0.07 * tracks
    cell = np.floor(z / 7.0) * 2 + (x > 0)
    repaired = (np.mod(cell * 7.31 + seed, 5.0) < 0.5) & (np.mod(z, 7.0) < 3.2)
    repaired &= np.abs(np.abs(x) - half * 0.55) < 0.8
    gray = gray * np.where(repaired, 0.8, 1.0)
    paint = np.zeros_like(x)
    main = (z < layout.crossing[0] - 0.5) | (z > layout.crossing[1] + 0.5)
    if layout.center_line == "dashed":
        paint = np.maximum(paint, _stripe(x, 0.08) * (np.mod(z, 6.0) < 3.0) * main)
    elif layout.center_line == "solid":
        paint = np.maximum(paint, _stripe(np.abs(x) - 0.14, 0.06) * main)
    if layout.edge_line:
        paint = np.maximum(paint, _stripe(np.abs(x) - half + 0.35, 0.07) * main)
    before = z - layout.crossing[0]
    if layout.zebra:
        bars = (np.mod(x, 1.1) < 0.55) & (np.abs(x) < half - 0.3)
        paint = np.maximum(paint, bars * _stripe(before + 2.6, 1.6))
    paint = np.maximum(paint, _stripe(before + 5.2, 0.2) * (x > 0.1) * (x < half - 0.2))
    worn = (np.clip(0.78 + 0.16 * rough + 0.1 * patchy, 0.25, 0.95) * paint).astype(np.float32)
    asphalt = np.asarray(layout.asphalt, np.float32) * gray.astype(np.float32)[..., None]
    return asphalt + worn[..., None] * (np.array([0.88, 0.87, 0.83], np.float32) - asphalt)


def _raised_albedo(
    layout: Layout, x: np.ndarray, z: np.ndarray, seed: float
) -> tuple[np.ndarray, np.ndarray]:
    """Color (H, W, 3) and label ids (H, W) of sidewalks and grass at ground points in meters."""
    right = x > 0
    walk, verge, first = (
        np.where(right, pair[1], pair[0])
        for pair in (layout.walk, layout.verge, layout.verge_first)
    )
    offset = np.abs(x) - layout.road_half
    begin = np.where(first, 0.15, walk)
    grass = (offset > begin) & (offset < np.where(first, verge, walk + verge))
    grass |= offset > walk + verge
    rough = sample_noise(x, z, 50.0, seed=seed + 11, exponent=0.6)
    patchy = sample_noise(x, z, 9.0, seed=seed + 5, exponent=1.4)
    gap = (np.mod(x, 0.6) < 0.035) | (np.mod(z, 0.6) < 0.035)
    slab = np.mod(np.floor(x / 0.6) * 12.9 + np.floor(z / 0.6) * 78.2, 7.0) / 7.0
    fade = np.clip(1 - z / 30, 0, 1)
    tone = 1 + 0.04 * rough + 0.05 * patchy + fade * (0.1 * (slab - 0.5) - 0.18 * gap)
    paving = np.asarray(layout.paving, np.float32) * tone.astype(np.float32)[..., None]
    curb = (offset < 0.16) & (offset > 0)
    paving = np.where(curb[..., None], paving * 0.35 + 0.42, paving)
    blades = sample_noise(x, z * 0.5, 90.0, seed=seed + 8, exponent=0.5)
    lush = (1 + 0.16 * blades + 0.14 * patchy)[..., None] * np.asarray(layout.grass, np.float32)
    dry = np.clip(patchy - 0.7, 0, 1)[..., None] * 0.5
    lush = lush + dry * (np.array([0.55, 0.48, 0.3], np.float32) - lush)
    return np.where(grass[..., None], lush, paving), np.where(grass, TERRAIN, SIDEWALK)


def draw_ground(
    canvas: Canvas, layout: Layout, shadows: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    """Draw road, curbs, sidewalks and grass under the masks of `ShadowMap.finished`."""
    camera, light = canvas.camera, canvas.light
    xs, ys = np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5
    fall = -camera.along_rays(np.array([0.0, 1.0, 0.0]), xs[:1], ys)[:, 0]
    top = int(np.argmax(fall > 0.004)) if (fall > 0.004).any() else len(ys)
    ys, fall = ys[top:], fall[top:, None]
    along = [camera.along_rays(np.eye(3)[axis], xs, ys) for axis in (0, 2)]
    fall = fall.astype(np.float32)
    low, high = camera.position[1] / fall, (camera.position[1] - CURB_HEIGHT) / fall
    (x0, z0), (x1, z1) = (
        [camera.position[axis] + t * ray for axis, ray in zip((0, 2), along, strict=True)]
        for t in (low, high)
    )
    on_road, below = layout.is_road(x0, z0), layout.is_road(x1, z1)
    seed = float(rng.uniform(0, 50))
    road = on_road & below
    face = below & ~on_road  # the ray passes the curb's edge and ends on its vertical side
    color = np.empty((*road.shape, 3), np.float32)
    labels = np.full(road.shape, ROAD, np.uint16)
    if road.any():
        asphalt = _road_albedo(layout, _in_rows(x0[road]), _in_rows(z0[road]), seed)
        color[road] = asphalt.reshape(-1, 3)[: road.sum()]
    if not road.all():
        raised, kinds = _raised_albedo(layout, _in_rows(x1[~road]), _in_rows(z1[~road]), seed)
        color[~road] = raised.reshape(-1, 3)[: (~road).sum()]
        labels[~road] = kinds.ravel()[: (~road).sum()]
    color[face] = 0.4 * np.asarray(layout.paving)
    labels[face] = SIDEWALK
    blocked, closed = (mask[top:, :, None] for mask in shadows)
    direct = (light.sun * max(0.0, light.to_sun[1])).astype(np.float32)
    lit = light.ambient.astype(np.float32) + (1 - blocked) * direct
    canvas.color[top:] = color * lit * (1 - 0.72 * closed)
    canvas.ids[top:] = labels
    canvas.depth[top:] = np.where(road, low, np.where(face, (low + high) / 2, high))


class ShadowMap:
    """Collects the shadows that things throw on the ground, as an image mask."""

    def __init__(self, canvas: Canvas) -> None:
        self._camera, self._to_sun = canvas.camera, canvas.light.to_sun
        self._sunless = np.zeros(canvas.ids.shape, np.uint8)
        self._closed = np.zeros(canvas.ids.shape, np.uint8)

    def _on_ground(self, points: np.ndarray, level: float = 0.0) -> np.ndarray:
        """Where the shadows of world points (N, 3) fall; (N, 3) with Y = level."""
        points = np.asarray(points, float)
        # A sun that is almost down would throw shadows of any length.
        slope = self._to_sun[[0, 2]] / max(self._to_sun[1], 0.2)
        flat = points[:, [0, 2]] - (points[:, 1:2] - level) * slope
        return np.stack([flat[:, 0], np.full(len(flat), level), flat[:, 1]], axis=1)

    def _fill(self, mask: np.ndarray, points: np.ndarray) -> None:
        """Set the pixels of a ground polygon (N, 3) in a mask."""
        outline = clip_near(self._camera.to_camera(points))
        if len(outline) >= 3:
            pixels = np.clip(self._camera.to_pixels(outline), -30000, 30000)
            cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], 255, shift=4)

    def solid(self, points: np.ndarray) -> None:
        """Add the shadow of the convex hull of world points (N, 3)."""
        flat = self._on_ground(points)
        hull = cv2.convexHull(flat[:, [0, 2]].astype(np.float32))[:, 0]
        corners = np.stack([hull[:, 0], np.zeros(len(hull)), hull[:, 1]], axis=1)
        self._fill(self._sunless, corners)

    def rod(
        self, start: np.ndarray, end: np.ndarray, radius: float, level: float = CURB_HEIGHT
    ) -> None:
        """Add the shadow that a rod between two world points (3,) throws on ground at a level."""
        ends = self._on_ground(np.array([start, end]), level)
        along = ends[1] - ends[0]
        aside = np.array([along[2], 0.0, -along[0]]) * radius / (np.linalg.norm(along) + 1e-6)
        corners = [ends[0] - aside, ends[1] - aside, ends[1] + aside, ends[0] + aside]
        self._fill(self._sunless, np.array(corners))

    def cover(self, points: np.ndarray) -> None:
        """Take the sky's light, too, from a ground polygon (N, 3), as below a car."""
        self._fill(self._closed, points)

    def contact(self, center: np.ndarray, radii: tuple[float, float]) -> None:
        """Cover an ellipse on the ground; center (3,) and radii along X and Z in meters."""
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = np.stack([np.cos(angle) * radii[0], 0 * angle, np.sin(angle) * radii[1]], axis=1)
        self.cover(ring + center)

    def finished(self) -> tuple[np.ndarray, np.ndarray]:
        """Softened masks (H, W) float32 in 0..1: blocked sunlight and blocked light of the sky."""
        height = self._closed.shape[0]
        sunless, closed = (
            cv2.GaussianBlur(mask, (0, 0), height / blur).astype(np.float32)
            for mask, blur in ((self._sunless, 350), (self._closed, 130))
        )
        return sunless * np.float32(0.92 / 255), closed / np.float32(255)
