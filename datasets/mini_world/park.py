"""Compose scenes of dogs in a park, and render them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .camera import Camera
from .canvas import Canvas
from .dogs import DOG, Dog, dog_keypoints, draw_dog, sample_dog, throw_dog_shadow
from .footprints import Footprints
from .ground import CURB_HEIGHT, ShadowMap, draw_ground, draw_sky, sample_layout
from .light import sample_light
from .picture import SUPERSAMPLING, Scene, finish
from .street import draw_backdrop, draw_furniture

_PARK = 1  # separates the random numbers of parks from those of streets


def _sample_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    """Camera at the eyes of somebody who looks down at dogs; size is (w, h)."""
    return Camera.looking(
        np.array([rng.uniform(-2.0, 2.0), rng.uniform(1.1, 1.7), 0.0]),
        yaw=float(np.radians(rng.normal(0, 8))),
        pitch=float(np.radians(rng.uniform(4.0, 13.0))),
        focal=float(max(size[0], 1.6 * size[1]) * rng.uniform(0.75, 1.05)),
        size=size,
    )


def _sample_dogs(rng: np.random.Generator, camera: Camera, taken: Footprints) -> list[Dog]:
    """Two to four dogs inside the field of view."""
    dogs: list[Dog] = []
    wanted = rng.integers(2, 5)
    for _ in range(60):
        if len(dogs) >= wanted:
            break
        depth = np.exp(rng.uniform(np.log(3.2), np.log(8.0)))
        slope = rng.uniform(-0.42, 0.42) * camera.width / camera.focal
        spot = camera.position + depth * (camera.forward + slope * camera.right)
        if taken.claim(float(spot[0]), float(spot[2]), 0.5):
            dogs.append(sample_dog(rng, float(spot[0]), CURB_HEIGHT, float(spot[2])))
    return dogs


def render_park(seed: tuple[int, int, int], height: int, width: int) -> Scene:
    """Render the park of (seed, split, index); the same arguments give the same scene."""
    rng = np.random.default_rng((*seed, _PARK))
    # A path through grass: a street without its road and without a side street.
    layout = replace(sample_layout(rng), road_half=0.0, crossing=(np.inf, np.inf))
    light, size = sample_light(rng), (width * SUPERSAMPLING, height * SUPERSAMPLING)
    camera = _sample_camera(rng, size)
    dogs = _sample_dogs(rng, camera, Footprints())
    trees = [
        ("tree", float(rng.uniform(-20, 20)), float(rng.uniform(10, 45)), int(seed))
        for seed in rng.integers(1 << 31, size=rng.integers(2, 7))
    ]
    canvas = Canvas(camera, light)
    draw_sky(canvas, rng)
    shadows = ShadowMap(canvas)
    draw_furniture(canvas, trees, shadows)
    for dog in dogs:
        throw_dog_shadow(shadows, dog)
    draw_ground(canvas, layout, shadows.finished(), rng)
    for number, dog in enumerate(dogs):
        draw_dog(canvas, dog, DOG * 1000 + number)
    draw_furniture(canvas, trees, None)
    draw_backdrop(canvas, rng)
    bodies = {DOG * 1000 + number: dog_keypoints(dog) for number, dog in enumerate(dogs)}
    return finish(canvas, bodies, rng)
