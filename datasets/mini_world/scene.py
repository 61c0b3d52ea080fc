"""Compose street scenes, and render them to images with labels, depth and keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera
from .canvas import Canvas
from .cars import CAR, Car, draw_car, sample_car, throw_car_shadow
from .ground import (
    CURB_HEIGHT,
    Layout,
    ShadowMap,
    draw_ground,
    draw_sky,
    sample_layout,
)
from .light import sample_light
from .people import (
    PERSON,
    Person,
    draw_person,
    project_keypoints,
    sample_person,
    throw_person_shadow,
)
from .street import draw_backdrop, draw_bushes, draw_furniture, draw_houses, furniture, house_plots

SUPERSAMPLING = 2
_SAMPLE = 1  # which of the 2 x 2 canvas pixels gives an output pixel its label and depth


@dataclass(frozen=True)
class Scene:
    """One rendered scene; H, W are the output size.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        instance_ids: (H, W) uint16, Cityscapes encoding: id * 1000 + n for things, else the id.
        depth: (H, W) float32 meters, inf in the sky.
        people: (instance id, (17, 3) int keypoints) of all persons with visible pixels.
    """

    image: np.ndarray
    instance_ids: np.ndarray
    depth: np.ndarray
    people: list[tuple[int, np.ndarray]]

    @property
    def label_ids(self) -> np.ndarray:
        """Cityscapes label ids (H, W) uint8."""
        ids = self.instance_ids
        return np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)


class _Footprints:
    """Keeps things on the ground apart."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float, float]] = []

    def claim(self, x: float, z: float, radius: float) -> bool:
        """Reserve a disc (meters) unless it meets one that is taken."""
        for other_x, other_z, other in self._taken:
            if np.hypot(x - other_x, z - other_z) < radius + other:
                return False
        self._taken.append((x, z, radius))
        return True


def _sample_camera(rng: np.random.Generator, layout: Layout, size: tuple[int, int]) -> Camera:
    """Camera on the right lane, on the middle of the road or on a sidewalk; size is (w, h)."""
    place = rng.random()
    x = rng.uniform(0.8, layout.road_half - 1.2) if place < 0.7 else rng.uniform(-1.5, 0.8)
    if place > 0.88:
        x = layout.road_half + layout.walk[1] * rng.uniform(0.2, 0.6)
    reach = max(size[0], 1.6 * size[1])
    return Camera.looking(
        np.array([x, rng.uniform(1.3, 1.8), 0.0]),
        yaw=float(np.radians(rng.normal(-1.5 if x > 2 else 0, 4.5))),
        pitch=float(np.radians(rng.uniform(0.0, 5.0))),
        focal=float(reach * rng.uniform(0.75, 1.05)),
        size=size,
    )


def _sample_cars(rng: np.random.Generator, layout: Layout, taken: _Footprints) -> list[Car]:
    """Parked cars along the curbs, driving cars on the lanes and on the side street."""
    places: list[tuple[float, float, float]] = []
    begin, end = layout.crossing
    for side in (-1, 1):
        density, z = rng.choice([0.0, 0.35, 0.75], p=[0.3, 0.4, 0.3]), rng.uniform(4.5, 9)
        while z < 55:
            if rng.random() < density and not begin - 7 < z < end + 4:
                yaw = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.03)
                places.append((side * (layout.road_half - 1.05), z, yaw))
            z += rng.uniform(5.4, 6.6)
    for _ in range(rng.integers(1, 4)):
        side = rng.choice([-1, 1])
        yaw = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.05)
        z = np.exp(rng.uniform(np.log(8), np.log(50)))
        places.append((side * layout.road_half * 0.42, z, yaw))
    if begin < 60:
        for _ in range(rng.integers(1, 4)):
            side = rng.choice([-1, 1])
            z = begin + (end - begin) * (0.27 if side > 0 else 0.73)
            places.append((rng.uniform(-14, 14), z, side * np.pi / 2 + rng.normal(0, 0.15)))
    cars = []
    for x, z, yaw in places:
        if len(cars) < 12 and taken.claim(x, z, 2.1):
            cars.append(sample_car(rng, float(x), float(z), float(yaw)))
    return sorted(cars, key=lambda car: car.z)


def _sample_people(
    rng: np.random.Generator, layout: Layout, camera: Camera, taken: _Footprints
) -> list[Person]:
    """One to five persons inside the field of view, on sidewalks more than on the road."""
    people: list[Person] = []
    wanted = rng.integers(1, 6)
    for _ in range(60):
        if len(people) >= wanted:
            break
        depth = np.exp(rng.uniform(np.log(4.0), np.log(25)))
        slope = rng.uniform(-0.46, 0.46) * camera.width / camera.focal
        spot = camera.position + depth * (camera.forward + slope * camera.right)
        x, z = float(spot[0]), float(spot[2])
        side = int(x > 0)
        on_road = bool(layout.is_road(np.array(x), np.array(z)))
        if on_road and rng.random() < 0.65:
            continue
        if not on_road and abs(x) > layout.house_line(side) - 0.4:
            continue
        if taken.claim(x, z, 0.45):
            people.append(sample_person(rng, x, 0.0 if on_road else CURB_HEIGHT, z))
    return people


def render_scene(seed: tuple[int, int, int], height: int, width: int) -> Scene:
    """Render the scene of (seed, split, index); the same arguments give the same scene."""
    rng = np.random.default_rng(seed)
    layout, light = sample_layout(rng), sample_light(rng)
    camera = _sample_camera(rng, layout, (width * SUPERSAMPLING, height * SUPERSAMPLING))
    taken = _Footprints()
    things = [thing for thing in furniture(layout, rng) if taken.claim(*thing[1:3], 0.35)]
    cars = _sample_cars(rng, layout, taken)
    people = _sample_people(rng, layout, camera, taken)
    plots = house_plots(layout, rng)
    canvas = Canvas(camera, light)
    draw_sky(canvas, rng)
    shadows = ShadowMap(canvas)
    draw_houses(canvas, plots, shadows)
    draw_furniture(canvas, things, shadows)
    for car in cars:
        throw_car_shadow(shadows, car)
    for person in people:
        throw_person_shadow(shadows, person)
    draw_ground(canvas, layout, shadows.finished(), rng)
    # Near things come first, so that the depth test saves the work for what they hide.
    for number, person in enumerate(people):
        draw_person(canvas, person, PERSON * 1000 + number)
    for number, car in enumerate(cars):
        draw_car(canvas, car, CAR * 1000 + number)
    draw_furniture(canvas, things, None)
    _draw_hedges(canvas, layout, rng)
    draw_houses(canvas, plots, None)
    draw_backdrop(canvas, rng)
    return _finish(canvas, people, rng)


def _draw_hedges(canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
    """Draw hedges in front of some houses."""
    for side, sign in ((0, -1), (1, 1)):
        for _ in range(rng.integers(0, 4)):
            begin = rng.uniform(4, 45)
            end = begin + rng.uniform(1.5, 8)
            if end < layout.crossing[0] - 1.5 or begin > layout.crossing[1] + 1.5:
                draw_bushes(canvas, rng, sign * (layout.house_line(side) - 0.2), (begin, end))


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


def _finish(canvas: Canvas, people: list[Person], rng: np.random.Generator) -> Scene:
    """Take image, labels, depth and keypoints from the finished canvas."""
    pick = slice(_SAMPLE, None, SUPERSAMPLING)
    ids, depth = canvas.ids[pick, pick].copy(), canvas.depth[pick, pick].copy()
    visible = set(np.unique(ids).tolist())
    annotated = []
    for number, person in enumerate(people):
        value = PERSON * 1000 + number
        if value in visible:
            keypoints = project_keypoints(canvas, person, value, SUPERSAMPLING, _SAMPLE)
            annotated.append((value, keypoints))
    return Scene(_develop(canvas, rng), ids, depth, annotated)
