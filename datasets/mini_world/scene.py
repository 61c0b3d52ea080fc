"""Compose street scenes, and render them to images with labels, depth and keypoints."""

from __future__ import annotations

import numpy as np

from .camera import Camera
from .canvas import Canvas
from .cars import CAR, Car, draw_car, sample_car, throw_car_shadow
from .footprints import Footprints
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
    person_keypoints,
    sample_person,
    throw_person_shadow,
)
from .picture import SUPERSAMPLING, Scene, finish
from .street import draw_backdrop, draw_bushes, draw_furniture, draw_houses, furniture, house_plots


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


def _sample_cars(rng: np.random.Generator, layout: Layout, taken: Footprints) -> list[Car]:
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
    rng: np.random.Generator, layout: Layout, camera: Camera, taken: Footprints
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
    taken = Footprints()
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
    bodies = {
        PERSON * 1000 + number: person_keypoints(person) for number, person in enumerate(people)
    }
    return finish(canvas, bodies, rng)


def _draw_hedges(canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
    """Draw hedges in front of some houses."""
    for side, sign in ((0, -1), (1, 1)):
        for _ in range(rng.integers(0, 4)):
            begin = rng.uniform(4, 45)
            end = begin + rng.uniform(1.5, 8)
            if end < layout.crossing[0] - 1.5 or begin > layout.crossing[1] + 1.5:
                draw_bushes(canvas, rng, sign * (layout.house_line(side) - 0.2), (begin, end))
