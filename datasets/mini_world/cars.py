"""Cars: a lower body, a cabin with windows, lights and wheels, seen from any side."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from .canvas import Canvas
from .ground import ShadowMap

CAR = 26

_PAINTS = np.array(
    [
        (0.75, 0.76, 0.77),
        (0.38, 0.39, 0.41),
        (0.12, 0.12, 0.13),
        (0.88, 0.88, 0.86),
        (0.62, 0.12, 0.11),
        (0.14, 0.24, 0.50),
        (0.22, 0.36, 0.28),
        (0.70, 0.55, 0.20),
        (0.40, 0.56, 0.66),
    ]
)


@dataclass(frozen=True)
class Car:
    """A car on the road; meters and radians, yaw 0 looks along Z, away from the camera."""

    x: float
    z: float
    yaw: float
    length: float
    width: float
    height: float
    belt: float  # height of the lower edge of the windows
    cabin: tuple[float, float, float, float]  # along the car: rear base, rear top, front top, base
    paint: tuple[float, float, float]
    braking: bool

    def place(self, points: np.ndarray | list) -> np.ndarray:
        """Car coordinates (N, 3) (right, up, from the rear bumper forwards) -> world (N, 3)."""
        points = np.asarray(points, float)
        right = np.array([np.cos(self.yaw), 0.0, -np.sin(self.yaw)])
        ahead = np.array([np.sin(self.yaw), 0.0, np.cos(self.yaw)])
        up = np.array([0.0, 1.0, 0.0])
        along = points[:, 2:] - self.length / 2
        center = np.array([self.x, 0.0, self.z])
        return center + points[:, :1] * right + points[:, 1:2] * up + along * ahead


def sample_car(rng: np.random.Generator, x: float, z: float, yaw: float) -> Car:
    """Draw the model and the paint of a car at a place."""
    kind = rng.choice(["hatch", "sedan", "van"], p=[0.45, 0.35, 0.2])
    length = {"hatch": 3.9, "sedan": 4.6, "van": 4.7}[kind] * rng.uniform(0.95, 1.05)
    height = {"hatch": 1.5, "sedan": 1.43, "van": 1.9}[kind] * rng.uniform(0.97, 1.04)
    cabin = {
        "hatch": (0.06, 0.45, 0.56 * length, 0.73 * length),
        "sedan": (0.75, 1.35, 0.54 * length, 0.70 * length),
        "van": (0.03, 0.15, 0.66 * length, 0.80 * length),
    }[kind]
    return Car(
        x=x,
        z=z,
        yaw=yaw,
        length=length,
        width=float(rng.uniform(1.68, 1.84)),
        height=height,
        belt=height * (0.61 if kind != "van" else 0.56),
        cabin=cabin,
        paint=tuple(np.clip(_PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.85, 1.1, 3), 0, 1)),
        braking=bool(rng.random() < 0.3),
    )


def _gradient(color: np.ndarray, size: tuple[int, int], top: float, bottom: float) -> np.ndarray:
    """Texture (h, w, 3) that goes from top * color to bottom * color."""
    ramp = np.linspace(top, bottom, size[0], dtype=np.float32)[:, None, None]
    return np.ascontiguousarray(
        np.broadcast_to(ramp * np.asarray(color, np.float32), (*size, 3)), np.float32
    )


def _box(image: np.ndarray, box: tuple[float, float, float, float], color: object) -> None:
    """Fill a box given in shares of the texture (x0, y0, x1, y1)."""
    h, w = image.shape[:2]
    corners = np.array(box) * (w, h, w, h)
    x0, y0, x1, y1 = np.round(corners).astype(int).tolist()
    cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), np.asarray(color, float).tolist(), -1)


def _end_texture(car: Car, front: bool) -> np.ndarray:
    """Bumper, lights and number plate of the front or the rear, (48, 96, 3)."""
    image = _gradient(np.array(car.paint), (48, 96), 1.12, 0.7)
    _box(image, (0, 0.72, 1, 1), np.array(car.paint) * 0.35 + 0.04)
    if front:
        for x in (0.04, 0.74):
            _box(image, (x, 0.14, x + 0.22, 0.38), (0.2, 0.2, 0.22))
            _box(image, (x + 0.03, 0.18, x + 0.19, 0.34), (1.15, 1.15, 1.05))
        _box(image, (0.3, 0.2, 0.7, 0.45), (0.09, 0.09, 0.1))
        _box(image, (0.3, 0.3, 0.7, 0.34), (0.5, 0.5, 0.52))
    else:
        lamp = (1.5, 0.18, 0.12) if car.braking else (0.68, 0.07, 0.06)
        for x in (0.03, 0.79):
            _box(image, (x, 0.1, x + 0.18, 0.42), lamp)
            _box(image, (x + 0.04, 0.3, x + 0.14, 0.38), (0.9, 0.75, 0.6))
        _box(image, (0.0, 0.5, 1.0, 0.53), np.array(car.paint) * 0.5)
    _box(image, (0.38, 0.54, 0.62, 0.67), (0.9, 0.9, 0.84))
    _box(image, (0.41, 0.575, 0.59, 0.635), (0.25, 0.25, 0.28))
    return image


def _glass(paint: np.ndarray, sky: np.ndarray, margin: tuple[float, float]) -> np.ndarray:
    """Window (40, 64, 3) that mirrors the sky, in a frame of the car's paint."""
    image = _gradient(np.asarray(paint), (40, 64), 0.95, 0.85)
    pane = _gradient(0.16 + 0.38 * sky, (40, 64), 1.0, 0.42)
    for i in range(2):
        cv2.line(pane, (8 + 22 * i, 42), (30 + 22 * i, -2), (pane[0, 0] * 1.25).tolist(), 5)
    x, y = int(margin[0] * 64), int(margin[1] * 40)
    image[y : 40 - y // 2, x : 64 - x] = pane[y : 40 - y // 2, x : 64 - x]
    return image


def _side_texture(car: Car) -> np.ndarray:
    """Doors and sills of a flank, (64, 192, 3); left is the rear."""
    image = _gradient(np.array(car.paint), (64, 192), 1.12, 0.72)
    dark = np.array(car.paint) * 0.55
    _box(image, (0, 0.84, 1, 1), dark)
    _box(image, (0, 0.3, 1, 0.33), np.array(car.paint) * 1.25)
    for share in (0.34, 0.52, 0.70):
        _box(image, (share, 0.04, share + 0.008, 0.84), dark)
    for share in (0.36, 0.54):
        _box(image, (share, 0.18, share + 0.04, 0.24), dark)
    _box(image, (0, 0.14, 0.03, 0.4), (0.7, 0.08, 0.07))
    _box(image, (0.965, 0.3, 1.0, 0.5), (1.0, 1.0, 0.92))
    return image


def _shell(car: Car) -> list[np.ndarray]:
    """Corners (in car coordinates) of the strips that run over the car from rear to front."""
    half, length, belt = car.width / 2, car.length, car.belt
    roof = half - 0.2
    rear, rear_top, front_top, front = car.cabin
    profile = [
        (half, 0.26, 0.06),
        (half, belt - 0.02, 0.0),
        (half, belt, rear),
        (roof, car.height, rear_top),
        (roof, car.height, front_top),
        (half, belt, front),
        (half, belt - 0.15, length - 0.06),
        (half, 0.26, length),
    ]
    strips = []
    for (w0, y0, s0), (w1, y1, s1) in pairwise(profile):
        low, high = ((w0, y0, s0), (w1, y1, s1)) if y1 >= y0 else ((w1, y1, s1), (w0, y0, s0))
        strips.append(
            np.array(
                [
                    (-high[0], high[1], high[2]),
                    (high[0], high[1], high[2]),
                    (low[0], low[1], low[2]),
                    (-low[0], low[1], low[2]),
                ]
            )
        )
    return strips


def _bounds(car: Car) -> np.ndarray:
    """Corners (8, 3) of the box around a car."""
    sides, heights, along = (-car.width / 2, car.width / 2), (0.0, car.height), (0.0, car.length)
    return car.place([(x, y, s) for x in sides for y in heights for s in along])


def draw_car(canvas: Canvas, car: Car, ids: int) -> None:
    """Draw a car with this value in the id buffer."""
    if not canvas.may_show(_bounds(car)):
        return
    paint, sky = np.array(car.paint), canvas.light.zenith
    half, length, belt = car.width / 2, car.length, car.belt
    plain = _gradient(paint, (8, 8), 1.1, 0.95)
    window = _glass(paint, sky, (0.07, 0.12))
    skins = [
        _end_texture(car, front=False),
        plain,
        window,
        plain,
        _glass(paint, sky, (0.06, 0.06)),
        plain,
        _end_texture(car, front=True),
    ]
    for strip, skin in zip(_shell(car), skins, strict=True):
        canvas.polygon(car.place(strip), ids, texture=skin, grain=0.0, glow=0.12)
    rear, rear_top, front_top, front = car.cabin
    viewpoint = canvas.camera.position - np.array([car.x, 0.0, car.z])
    across = viewpoint @ np.array([np.cos(car.yaw), 0.0, -np.sin(car.yaw)])
    for side in (-1, 1):
        if side * across < half - 0.2:
            continue  # this flank looks away
        x, roof = side * half, side * (half - 0.2)
        flank = [(0.26, 0.06), (belt - 0.02, 0.0), (belt, rear), (belt, front)]
        flank += [(belt - 0.15, length - 0.06), (0.26, length)]
        outline = car.place([(x, y, s) for y, s in flank])
        frame = car.place([(x, belt, 0), (x, belt, length), (x, 0.26, 0)])
        canvas.polygon(outline, ids, texture=_side_texture(car), frame=frame, grain=0.0, glow=0.12)
        cabin = [(x, belt, rear), (roof, car.height, rear_top)]
        cabin += [(roof, car.height, front_top), (x, belt, front)]
        frame = car.place([(roof, car.height, rear), (roof, car.height, front), (x, belt, rear)])
        canvas.polygon(car.place(cabin), ids, paint, frame=frame, grain=0.0, glow=0.12)
        _side_windows(canvas, car, side, ids)
        for s in (0.19 * length, 0.81 * length):
            _wheel(canvas, car, side * (half + 0.015), s, ids)


def _side_windows(canvas: Canvas, car: Car, side: int, ids: int) -> None:
    """Draw the panes of one side of the cabin."""
    rear, rear_top, front_top, front = car.cabin
    half = car.width / 2
    pane = _glass(np.array(car.paint), canvas.light.zenith, (0.0, 0.0))

    def point(share: float, level: float) -> tuple[float, float, float]:
        """Point of the cabin's side: 0..1 from rear to front, 0..1 from belt to roof."""
        bottom, top = rear + (front - rear) * share, rear_top + (front_top - rear_top) * share
        s = bottom + (top - bottom) * level
        x = side * (half - 0.2 * level + 0.012)
        return x, car.belt + (car.height - car.belt) * level, s

    for begin, end in ((0.08, 0.47), (0.53, 0.94)):
        corners = [point(begin, 0.85), point(end, 0.85), point(end, 0.06), point(begin, 0.06)]
        canvas.polygon(car.place(corners), ids, texture=pane, grain=0.0)


def _wheel(canvas: Canvas, car: Car, x: float, s: float, ids: int) -> None:
    """Draw a wheel in its arch, `s` meters from the rear."""
    angle = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    outward = np.sign(x)
    layers = (
        (0.37, 0.34, (0.05, 0.05, 0.05), 0.0),
        (0.315, 0.315, (0.11, 0.11, 0.115), 0.01),
        (0.2, 0.315, (0.58, 0.59, 0.6), 0.02),
        (0.07, 0.315, (0.25, 0.25, 0.26), 0.03),
    )
    for radius, y, color, lift in layers:
        shift = x + outward * lift
        ring = [(shift, max(y + radius * np.sin(a), 0.0), s + radius * np.cos(a)) for a in angle]
        frame = car.place([(shift, y, s), (shift, y, s + 1), (shift, y - 1, s)])
        canvas.polygon(car.place(ring), ids, color, frame=frame, grain=0.0)


def throw_car_shadow(shadows: ShadowMap, car: Car) -> None:
    """Add the shadow of a car and the darkness beneath it."""
    half, (_, rear_top, front_top, _) = car.width / 2, car.cabin
    box = [(x, y, s) for x in (-half, half) for y in (0.2, car.belt) for s in (0, car.length)]
    box += [(x, car.height, s) for x in (0.2 - half, half - 0.2) for s in (rear_top, front_top)]
    shadows.solid(car.place(box))
    half += 0.1
    length = car.length
    shadows.cover(car.place([(-half, 0, 0), (half, 0, 0), (half, 0, length), (-half, 0, length)]))
