"""People with articulated limbs and the 17 keypoints of COCO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .ground import ShadowMap
from .keypoints import Keypoints

PERSON = 24

KEYPOINT_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

_SKIN = np.array([(0.87, 0.68, 0.57), (0.78, 0.57, 0.43), (0.66, 0.46, 0.34), (0.52, 0.36, 0.27)])
_HAIR = np.array([(0.06, 0.05, 0.04), (0.15, 0.09, 0.05), (0.30, 0.19, 0.08), (0.14, 0.13, 0.13)])
_ADULT = 1.75  # meters; the skeleton below is drawn for this height


@dataclass(frozen=True)
class Person:
    """A posed person.

    Attributes:
        points: World positions (3,) in meters by name: COCO's keypoints, where "left" is the
            person's left, and "head", "neck", "pelvis", "left_toe" and "right_toe" for drawing.
        scale: Height divided by 1.75 m.
        looks: Albedo (3,) of skin, hair, top, shirt, legs, shoes and bag. The top is a dark jacket,
            open over a light shirt, so that front and back differ from afar.
        sleeves: "long" or "short".
        shorts: Whether the legs are bare below the knee.
        long_hair: Whether the hair reaches the shoulders.
        bag: Whether the person carries a backpack.
        ahead: Unit vector (3,) in which the person looks.
    """

    points: dict[str, np.ndarray]
    scale: float
    looks: dict[str, np.ndarray]
    sleeves: str
    shorts: bool
    long_hair: bool
    bag: bool
    ahead: np.ndarray


def _limb_direction(forward: float, outward: float) -> np.ndarray:
    """Unit vector of a hanging limb swung by these angles (outward to the right, radians)."""
    return np.array(
        [np.sin(outward) * np.cos(forward), -np.cos(outward) * np.cos(forward), np.sin(forward)]
    )


def _leg(rng: np.random.Generator, swing: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions of thigh and shin of a leg swung forward by `swing` radians."""
    bend = rng.uniform(0.0, 0.15) + max(0.0, -swing) * rng.uniform(0.6, 1.3)
    spread = side * rng.uniform(0.0, 0.08)
    return _limb_direction(swing, spread), _limb_direction(swing - bend, spread)


def _arm(
    rng: np.random.Generator, pose: str, swing: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Directions of upper arm and forearm."""
    if pose == "raise":
        outward = side * rng.uniform(1.3, 2.7)
        return _limb_direction(0.1, outward), _limb_direction(
            rng.uniform(-0.1, 0.4), outward + side * rng.uniform(-0.1, 1.0)
        )
    if pose == "phone":
        return _limb_direction(0.35, side * 0.2), _limb_direction(2.3, side * 0.1)
    if pose == "hip":
        return _limb_direction(-0.15, side * 0.75), _limb_direction(0.2, -side * 0.75)
    spread = side * rng.uniform(0.1, 0.3)
    bend = rng.uniform(0.1, 0.6)
    return _limb_direction(swing, spread), _limb_direction(swing + bend, spread * 0.6)


def _skeleton(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Points in body coordinates (right, up, ahead) of an adult with the pelvis at the origin."""
    walking = rng.random() < 0.55
    swing = rng.uniform(0.2, 0.6) * rng.choice([-1, 1]) if walking else rng.uniform(-0.06, 0.06)
    lean = rng.uniform(0.0, 0.1) if walking else rng.uniform(-0.04, 0.05)
    spine = np.array([rng.normal(0, 0.03), 1.0, lean])
    points = {"pelvis": np.zeros(3), "neck": spine * 0.56, "head": spine * 0.70}
    points["head"] = points["head"] + np.array([0.0, 0.0, 0.02])
    twist = swing * 0.25
    raised = rng.choice(["left", "right", "both", "none"], p=[0.13, 0.13, 0.08, 0.66])
    for name, side in (("left", -1), ("right", 1)):
        hip = np.array([side * 0.1, 0.0, 0.0])
        thigh, shin = _leg(rng, -side * swing, side)
        shoulder = spine * 0.51 + np.array([side * 0.18, 0.0, side * twist * 0.3])
        pose = "raise" if raised in (name, "both") else "swing"
        if pose == "swing" and rng.random() < 0.15:
            pose = str(rng.choice(["phone", "hip"]))
        upper, fore = _arm(rng, pose, side * swing * 0.9, side)
        points[f"{name}_hip"], points[f"{name}_knee"] = hip, hip + 0.43 * thigh
        points[f"{name}_ankle"] = points[f"{name}_knee"] + 0.42 * shin
        points[f"{name}_toe"] = points[f"{name}_ankle"] + np.array([side * 0.02, -0.045, 0.15])
        points[f"{name}_shoulder"] = shoulder
        points[f"{name}_elbow"] = shoulder + 0.28 * upper
        points[f"{name}_wrist"] = points[f"{name}_elbow"] + 0.25 * fore
        points[f"{name}_eye"] = points["head"] + np.array([side * 0.036, 0.02, 0.085])
        points[f"{name}_ear"] = points["head"] + np.array([side * 0.088, 0.005, 0.005])
    points["nose"] = points["head"] + np.array([0.0, -0.015, 0.098])
    lowest = min(points["left_ankle"][1], points["right_ankle"][1])
    return {name: place - np.array([0, lowest - 0.085, 0]) for name, place in points.items()}


def sample_person(rng: np.random.Generator, x: float, ground: float, z: float) -> Person:
    """Draw pose, size and clothes of a person at a place (meters)."""
    yaw = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:  # most people walk along the street
        yaw = rng.choice([0.0, np.pi]) + rng.normal(0, 0.3)
    scale = rng.uniform(0.9, 1.08) if rng.random() < 0.85 else rng.uniform(0.62, 0.8)
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    ahead = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    axes = np.stack([right, np.array([0.0, 1.0, 0.0]), ahead])
    foot = np.array([x, ground, z])
    points = {name: foot + scale * place @ axes for name, place in _skeleton(rng).items()}
    top, legs = (
        np.clip(rng.choice([0.15, 0.3, 0.5, 0.75]) * rng.uniform(0.5, 1.5, 3), 0.05, 0.95)
        for _ in range(2)
    )
    if rng.random() < 0.5:
        legs = np.array([0.2, 0.26, 0.4]) * rng.uniform(0.5, 1.4)  # denim
    jacket = top * min(1.0, 0.32 / top.max())
    looks = {
        "skin": _SKIN[rng.integers(len(_SKIN))] * rng.uniform(0.9, 1.08),
        "hair": _HAIR[rng.integers(len(_HAIR))] * rng.uniform(0.8, 1.2),
        "top": jacket,
        "shirt": 0.72 + 0.23 * jacket / jacket.max(),
        "legs": legs,
        "shoes": np.full(3, rng.choice([0.08, 0.15, 0.8])) * rng.uniform(0.8, 1.1, 3),
        "bag": rng.uniform(0.1, 0.6, 3),
    }
    return Person(
        points=points,
        scale=float(scale),
        looks=looks,
        sleeves=str(rng.choice(["long", "short"])),
        shorts=bool(rng.random() < 0.25),
        long_hair=bool(rng.random() < 0.35),
        bag=bool(rng.random() < 0.4),
        ahead=ahead,
    )


def _limbs(person: Person) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float], str]]:
    """Rods of arms and legs: (start, end, radii in meters for an adult, name of the look)."""
    j, rods = person.points, []
    fore = "top" if person.sleeves == "long" else "skin"
    calf = "skin" if person.shorts else "legs"
    for s in ("left", "right"):
        hip, knee, ankle = j[f"{s}_hip"], j[f"{s}_knee"], j[f"{s}_ankle"]
        shoulder, elbow, wrist = j[f"{s}_shoulder"], j[f"{s}_elbow"], j[f"{s}_wrist"]
        rods += [
            (hip, knee, (0.09, 0.066), "legs"),
            (knee, ankle, (0.062, 0.044), calf),
            (ankle + np.array([0, -0.03, 0]), j[f"{s}_toe"], (0.05, 0.036), "shoes"),
            (shoulder, elbow, (0.06, 0.048), "top"),
            (elbow, wrist, (0.046, 0.036), fore),
            (wrist, wrist + 0.3 * (wrist - elbow), (0.043, 0.038), "skin"),
        ]
    return rods


def draw_person(canvas: Canvas, person: Person, ids: int) -> None:
    """Draw a person with this value in the id buffer."""
    j, k, looks = person.points, person.scale, person.looks
    ahead, up = person.ahead, np.array([0.0, k, 0.0])
    rods = _limbs(person)
    frontal = float(ahead @ canvas.camera.forward) ** 2
    wide = [np.sqrt(frontal * w**2 + (1 - frontal) * 0.115**2) * k for w in (0.18, 0.145)]
    chest = j["neck"] - 0.17 * up
    canvas.capsule(
        chest, j["pelvis"] + 0.08 * up, (wide[0], wide[1]), ids, looks["top"], thickness=0.115 * k
    )
    front = 0.055 * k * ahead
    canvas.capsule(
        j["neck"] - 0.12 * up + front,
        j["pelvis"] + 0.06 * up + front,
        (0.08 * k, 0.1 * k),
        ids,
        looks["shirt"],
        thickness=0.125 * k,
    )
    shoulders = [j[f"{s}_shoulder"] - 0.02 * up for s in ("left", "right")]
    rods.append((*shoulders, (0.06, 0.06), "top"))
    rods.append((j["left_hip"], j["right_hip"], (0.088, 0.088), "legs"))
    rods.append((j["neck"], j["head"], (0.052, 0.052), "skin"))
    face = j["head"] + 0.015 * k * ahead
    rods.append((face - 0.05 * up, face + 0.03 * up, (0.085, 0.105), "skin"))
    hair = j["head"] + 0.04 * up - 0.06 * k * ahead
    rods.append((hair, hair - (0.15 if person.long_hair else 0.06) * up, (0.112, 0.1), "hair"))
    if person.bag:
        back = chest - 0.16 * k * ahead
        rods.append((back, back - 0.3 * up, (0.13, 0.14), "bag"))
    for start, end, (r0, r1), look in rods:
        canvas.capsule(start, end, (r0 * k, r1 * k), ids, looks[look])
    nearest = np.linalg.norm(j["head"] - canvas.camera.position)
    if canvas.camera.focal * 0.02 / nearest > 0.8:
        for eye in (j["left_eye"], j["right_eye"]):
            spot = eye + 0.012 * k * ahead
            canvas.capsule(spot, spot, (0.014 * k,) * 2, ids, np.full(3, 0.08))


def throw_person_shadow(shadows: ShadowMap, person: Person) -> None:
    """Add the shadow of a person."""
    j, k = person.points, person.scale
    level = min(j["left_toe"][1], j["right_toe"][1]) - 0.04 * k
    for start, end, (r0, r1), _ in _limbs(person):
        shadows.rod(start, end, (r0 + r1) / 2 * k, level)
    shadows.rod(j["pelvis"], j["neck"], 0.19 * k, level)
    shadows.rod(j["neck"], j["head"] + np.array([0, 0.1 * k, 0]), 0.1 * k, level)
    for s in ("left", "right"):
        foot = (j[f"{s}_ankle"] + j[f"{s}_toe"]) / 2
        if foot[1] - level < 0.12 * k:
            shadows.contact(np.array([foot[0], level, foot[2]]), (0.16 * k, 0.16 * k))


def person_keypoints(person: Person) -> Keypoints:
    """Return COCO's keypoints, in the order of `KEYPOINT_NAMES`."""
    heads = np.isin([name.split("_")[-1] for name in KEYPOINT_NAMES], ("nose", "eye", "ear"))
    points = np.array([person.points[name] for name in KEYPOINT_NAMES])
    return Keypoints(points, np.where(heads, 0.11, 0.2))
