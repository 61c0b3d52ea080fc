"""Dogs with articulated legs and nine keypoints of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .ground import ShadowMap
from .keypoints import Keypoints

DOG = 5  # Cityscapes' "dynamic", which animals belong to

KEYPOINT_NAMES = (
    "nose",
    "left_ear",
    "right_ear",
    "neck",
    "tail",
    "left_front_paw",
    "right_front_paw",
    "left_hind_paw",
    "right_hind_paw",
)
_INSIDE = {"nose": 0.06, "ear": 0.07, "neck": 0.2, "tail": 0.16, "paw": 0.08}  # meters

_COATS = np.array(
    [
        (0.10, 0.09, 0.08),  # black
        (0.33, 0.20, 0.11),  # brown
        (0.52, 0.33, 0.17),  # fox
        (0.72, 0.56, 0.36),  # sand
        (0.42, 0.41, 0.40),  # gray
    ]
)
_SIDES = (("left", -1), ("right", 1))


@dataclass(frozen=True)
class Dog:
    """A posed dog.

    Attributes:
        points: World positions (3,) in meters by name: the keypoints, where "left" is the dog's
            left, and "shoulder", "rump", "head", "tip" (of the tail), and for each leg "_top" and
            "_knee" for drawing.
        scale: Height of the shoulders divided by 0.55 m.
        looks: Albedo (3,) of back, belly, ears, front and hind paws. The belly and the front paws
            are lighter than the back, and the ears and the hind paws are darker, so that small
            models can also tell front from back.
        ahead: Unit vector (3,) from the rump to the shoulders, on the ground.
    """

    points: dict[str, np.ndarray]
    scale: float
    looks: dict[str, np.ndarray]
    ahead: np.ndarray


def _turned(turn: float, rise: float) -> np.ndarray:
    """Unit vector ahead, turned to the right and raised by these angles (radians)."""
    return np.array([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)])


def _skeleton(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Points in body coordinates (right, up, ahead) of a dog with shoulders of 0.55 m."""
    sits = rng.random() < 0.2
    slope = rng.uniform(0.55, 0.8) if sits else rng.uniform(-0.08, 0.08)
    shoulder = np.array([0.0, 0.5, 0.24])
    rump = shoulder - 0.5 * _turned(rng.normal(0, 0.12), slope)
    neck = shoulder + np.array([0.0, 0.07, 0.05])
    turn = rng.uniform(-0.9, 0.9)
    head = neck + 0.24 * _turned(0.6 * turn, rng.uniform(-0.5, 1.2))
    gaze = _turned(turn, rng.uniform(-0.5, 0.15))
    points = {"shoulder": shoulder, "rump": rump, "neck": neck, "head": head}
    points["nose"] = head + 0.19 * gaze
    points["tail"] = rump + np.array([0.0, 0.05, -0.09])
    points["tip"] = points["tail"] - 0.3 * _turned(rng.uniform(-0.7, 0.7), rng.uniform(-1.3, 0.6))
    across = np.array([gaze[2], 0.0, -gaze[0]]) / np.hypot(gaze[0], gaze[2])
    ear_rise = rng.choice([0.12, -0.02])  # pricked or hanging
    swing = rng.uniform(-0.16, 0.16)
    for name, side in _SIDES:
        points[f"{name}_ear"] = head + side * 0.09 * across + np.array([0.0, ear_rise, -0.02])
        for place, root in (("front", shoulder), ("hind", rump)):
            top = root + np.array([side * 0.09, -0.06, 0.0])
            step = side * (swing if place == "front" else -swing) + rng.normal(0, 0.03)
            if sits:
                step = 0.2 if place == "hind" else 0.0
            paw = np.array([top[0] + side * 0.02, 0.035, top[2] + step])
            bend = np.array([0.0, 0.0, -0.03 if place == "front" else 0.05])
            points[f"{name}_{place}_top"] = top
            points[f"{name}_{place}_knee"] = (top + paw) / 2 + bend
            points[f"{name}_{place}_paw"] = paw
    return points


def sample_dog(rng: np.random.Generator, x: float, ground: float, z: float) -> Dog:
    """Draw pose, size and coat of a dog at a place (meters)."""
    yaw = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.4)  # most cross the picture
    scale = rng.uniform(0.75, 1.15)
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    ahead = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    axes = np.stack([right, np.array([0.0, 1.0, 0.0]), ahead])
    foot = np.array([x, ground, z])
    coat = _COATS[rng.integers(len(_COATS))] * rng.uniform(0.85, 1.15)
    light = np.minimum(coat * 0.5 + rng.uniform(0.3, 0.45), 0.9)
    looks = {"back": coat, "belly": light, "ears": coat * rng.uniform(0.3, 0.6)}
    looks |= {"front": light, "hind": looks["ears"]}
    points = {name: foot + scale * place @ axes for name, place in _skeleton(rng).items()}
    return Dog(points=points, scale=float(scale), looks=looks, ahead=ahead)


def _rods(dog: Dog) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float], str]]:
    """Rods of the body: (start, end, radii in meters for scale 1, name of the look)."""
    j, up = dog.points, np.array([0.0, dog.scale, 0.0])
    gaze = j["nose"] - j["head"]
    rods = [
        (j["shoulder"], j["rump"], (0.16, 0.135), "back"),
        (j["shoulder"] - 0.05 * up, j["rump"] - 0.03 * up, (0.14, 0.12), "belly"),
        (j["shoulder"], j["neck"], (0.15, 0.12), "back"),
        (j["neck"], j["head"], (0.11, 0.085), "back"),
        (j["head"], j["head"] + 0.2 * gaze, (0.1, 0.09), "back"),
        (j["head"] + 0.3 * gaze, j["nose"] - 0.1 * gaze, (0.07, 0.05), "belly"),
        (j["nose"], j["nose"], (0.035, 0.035), "ears"),
        (j["tail"], j["tip"], (0.05, 0.035), "back"),
    ]
    for name, _ in _SIDES:
        ear = j[f"{name}_ear"]
        rods.append(((j["head"] + 0.04 * up + ear) / 2, ear, (0.055, 0.035), "ears"))
        for place in ("front", "hind"):
            top, knee, paw = (j[f"{name}_{place}_{part}"] for part in ("top", "knee", "paw"))
            rods += [
                (top, knee, (0.095, 0.06), "back"),
                (knee, paw, (0.055, 0.045), place),
                (paw, paw + 0.05 * dog.scale * dog.ahead, (0.045, 0.042), place),
            ]
    return rods


def draw_dog(canvas: Canvas, dog: Dog, ids: int) -> None:
    """Draw a dog with this value in the id buffer."""
    for start, end, (r0, r1), look in _rods(dog):
        radii = r0 * dog.scale, r1 * dog.scale
        canvas.capsule(start, end, radii, ids, dog.looks[look], grain=0.1)


def throw_dog_shadow(shadows: ShadowMap, dog: Dog) -> None:
    """Add the shadow of a dog."""
    for start, end, radii, _ in _rods(dog):
        shadows.rod(start, end, sum(radii) / 2 * dog.scale)


def dog_keypoints(dog: Dog) -> Keypoints:
    """Return the dog's keypoints, in the order of `KEYPOINT_NAMES`."""
    points = np.array([dog.points[name] for name in KEYPOINT_NAMES])
    inside = [_INSIDE[name.rpartition("_")[2]] for name in KEYPOINT_NAMES]
    return Keypoints(points, np.array(inside) * dog.scale)
