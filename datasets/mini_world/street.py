"""The furniture of the street: houses, trees, bushes, lamps and traffic signs."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .ground import Layout, ShadowMap
from .textures import crown_texture, facade_texture

BUILDING, VEGETATION = 11, 21
# Lamps and signs are a pixel or two wide at most distances: `static`, which the scorer ignores.
STATIC = 4

_WALLS = np.array(
    [
        (0.78, 0.70, 0.55),  # sandstone
        (0.62, 0.34, 0.26),  # brick
        (0.82, 0.80, 0.75),  # plaster
        (0.50, 0.50, 0.51),  # concrete
        (0.80, 0.60, 0.40),  # ochre
        (0.55, 0.66, 0.50),  # sage
        (0.52, 0.62, 0.72),  # pale blue
        (0.74, 0.52, 0.48),  # rose
        (0.42, 0.36, 0.32),  # dark brick
    ]
)

_LEAVES = np.array([(0.24, 0.40, 0.13), (0.34, 0.44, 0.15), (0.18, 0.31, 0.15), (0.50, 0.38, 0.13)])


def _house(
    canvas: Canvas,
    shadows: ShadowMap | None,
    rng: np.random.Generator,
    x: float,
    side: int,
    span: tuple[float, float],
) -> None:
    """Draw (or only throw the shadow of) a house between two Z whose front stands at X = x."""
    outward = 1 if side else -1
    deep, height = rng.uniform(8, 12), 3.0 * rng.integers(2, 6) + rng.uniform(0.4, 1.2)
    wall = np.clip(_WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.85, 1.1, 3), 0.1, 0.95)
    roof = rng.choice([0.0, rng.uniform(1.5, 3.5)])
    tile = np.array([0.48, 0.25, 0.19]) if rng.random() < 0.6 else np.array([0.3, 0.3, 0.33])
    z0, z1 = span
    back = x + outward * deep
    if shadows is not None:
        corners = [(a, height, b) for a in (x, back) for b in (z0, z1)]
        ridge = [((x + back) / 2, height + roof, b) for b in (z0, z1)]
        foot = [(a, 0.0, b) for a in (x, back) for b in (z0, z1)]
        shadows.solid(np.array(corners + ridge + foot))
        return
    hull = [(a, b, c) for a in (x, back) for b in (0.0, height + roof) for c in (z0, z1)]
    if not canvas.may_show(np.array(hull)):
        return
    nearest = max(np.hypot(x - canvas.camera.position[0], max(z0, 0.0)), 3.0)
    ppm = float(np.clip(canvas.camera.focal / nearest, 7, 28))
    lit = 0.5 * canvas.light.dusk + 0.02
    base = -0.05
    front = np.array([(x, height, z0), (x, height, z1), (x, base, z1), (x, base, z0)])
    end = np.array([(x, height, z0), (back, height, z0), (back, base, z0), (x, base, z0)])
    for face, wide in ((front, z1 - z0), (end, deep)):
        if canvas.may_show(face):
            texture = facade_texture(rng, wide, height, wall, lit, ppm)
            canvas.polygon(face, BUILDING, texture=texture, glow=0.25 * canvas.light.dusk)
    if roof:
        ridge = ((x + back) / 2, height + roof, z0)
        canvas.polygon(np.array([end[0], ridge, end[1]]), BUILDING, wall)
        eaves = x - outward * 0.35
        slope = np.array(
            [
                ((x + back) / 2, height + roof, z0 - 0.2),
                ((x + back) / 2, height + roof, z1 + 0.2),
                (eaves, height - 0.15, z1 + 0.2),
                (eaves, height - 0.15, z0 - 0.2),
            ]
        )
        stripes = np.tile(tile, (48, 4, 1)).astype(np.float32)
        stripes[::4] *= 0.78
        canvas.polygon(slope, BUILDING, texture=stripes, grain=0.1)


def house_plots(
    layout: Layout, rng: np.random.Generator
) -> list[tuple[float, int, tuple[float, float], int]]:
    """Place the houses of both sides: (x, side, (z0, z1), seed) for each."""
    plots = []
    for side in (0, 1):
        z = rng.uniform(-14, -4)
        while z < 105:
            wide = rng.uniform(8, 17)
            begin, end = layout.crossing[0] - 2.5, layout.crossing[1] + 2.5
            if z < end and z + wide > begin:
                if begin - z > 6:
                    wide = begin - z
                else:
                    z = end
            setback = layout.house_line(side) + (rng.uniform(0, 2.5) if rng.random() < 0.3 else 0)
            seed = int(rng.integers(1 << 31))
            plots.append((setback * (1 if side else -1), side, (z, z + wide), seed))
            gap = rng.random()
            z += wide + (0.0 if gap < 0.6 else rng.uniform(2.5, 9))
    return plots


def draw_houses(canvas: Canvas, plots: list, shadows: ShadowMap | None) -> None:
    """Draw the houses, or only their shadows where a shadow map is given."""
    for x, side, span, seed in plots:
        _house(canvas, shadows, np.random.default_rng(seed), x, side, span)


def draw_backdrop(canvas: Canvas, rng: np.random.Generator) -> None:
    """Close the street with distant woods and a block of houses."""
    for _ in range(rng.integers(5, 9)):
        x, wide, tall = rng.uniform(-70, 70), rng.uniform(25, 60), rng.uniform(9, 20)
        _billboard(canvas, rng, np.array([x, tall * 0.3, rng.uniform(112, 150)]), (wide, tall))
    if rng.random() < 0.5:
        wall = _WALLS[rng.integers(len(_WALLS))]
        x, wide, tall = rng.uniform(-12, 12), rng.uniform(18, 40), rng.uniform(9, 20)
        texture = facade_texture(rng, wide, tall, wall, 0.3 * canvas.light.dusk, 7.0)
        a, b = x - wide / 2, x + wide / 2
        front = np.array([(a, tall, 108), (b, tall, 108), (b, -1, 108), (a, -1, 108)])
        canvas.polygon(front, BUILDING, texture=texture)


def _billboard(
    canvas: Canvas, rng: np.random.Generator, center: np.ndarray, size: tuple[float, float]
) -> None:
    """Draw a leafy blob (width, height in meters) that faces the camera."""
    camera, to_sun = canvas.camera, canvas.light.to_sun
    leaf = _LEAVES[rng.choice(4, p=[0.4, 0.3, 0.22, 0.08])] * rng.uniform(0.8, 1.2, 3)
    side = np.array([to_sun @ camera.right, to_sun[1]])
    right, up = camera.right * size[0] / 2, np.array([0.0, size[1] / 2, 0.0])
    corners = center + np.array([up - right, up + right, right - up, -up - right])
    if not canvas.may_show(corners):
        return
    texture = crown_texture(rng, leaf, side)
    canvas.polygon(
        corners,
        VEGETATION,
        texture=texture,
        grain=0.17,
        ragged=0.22,
        unlit_normal=np.array([0.0, 1.0, 0.0]),
    )


def draw_tree(
    canvas: Canvas, shadows: ShadowMap | None, rng: np.random.Generator, x: float, z: float
) -> None:
    """Draw a tree (or only throw its shadow): a trunk with branches and a few leafy blobs."""
    height, wide = rng.uniform(4.5, 9), rng.uniform(2.6, 4.8)
    trunk, radius = height * rng.uniform(0.3, 0.42), rng.uniform(0.11, 0.2)
    foot, fork = np.array([x, 0.0, z]), np.array([x + rng.normal(0, 0.1), trunk, z])
    middle = np.array([x, (trunk + height) / 2, z])
    crown = height - trunk + 1.0
    if shadows is not None:
        shadows.rod(foot, middle, radius)
        angle = np.linspace(0, 2 * np.pi, 11, endpoint=False)
        reach = wide * 0.36 * rng.uniform(0.75, 1.15, 11)
        ring = [np.cos(angle) * reach, np.sin(angle) * crown * 0.36, np.sin(angle) * reach]
        shadows.solid(middle + np.stack(ring, axis=1))
        return
    bark = np.array([0.3, 0.23, 0.17]) * rng.uniform(0.7, 1.3)
    canvas.capsule(foot, fork, (radius * 1.3, radius * 0.8), VEGETATION, bark, grain=0.2)
    for sway in rng.uniform(-1, 1, 3):
        tip = fork + np.array([sway * wide * 0.3, crown * 0.45, 0.0])
        canvas.capsule(fork, tip, (radius * 0.6, radius * 0.3), VEGETATION, bark, grain=0.2)
    for i in range(rng.integers(2, 5)):
        shift = rng.normal(0, 0.12, 2) * (i > 0)
        scale = 1.0 if i == 0 else rng.uniform(0.5, 0.75)
        offset = np.array([shift[0] * wide * 2, shift[1] * crown * 1.5, -0.25 * i])
        _billboard(canvas, rng, middle + offset, (wide * scale * 1.15, crown * scale * 1.15))


def draw_bushes(
    canvas: Canvas, rng: np.random.Generator, x: float, span: tuple[float, float]
) -> None:
    """Draw a hedge along the street between two Z."""
    height = rng.uniform(0.8, 1.7)
    for z in np.arange(span[1], span[0], -height * 0.55):
        center = np.array([x + rng.normal(0, 0.08), height * 0.42, z])
        _billboard(canvas, rng, center, (height * 1.5, height * 1.25))


def draw_lamp(
    canvas: Canvas, shadows: ShadowMap | None, rng: np.random.Generator, x: float, z: float
) -> None:
    """Draw a street lamp (or only throw its shadow); its arm reaches over the road."""
    height, radius = rng.uniform(4.8, 6.5), rng.uniform(0.08, 0.12)
    gray = np.array([0.36, 0.38, 0.4]) * rng.uniform(0.6, 1.6)
    foot, top = np.array([x, 0.0, z]), np.array([x, height, z])
    tip = top + np.array([-np.sign(x) * rng.uniform(0.9, 1.5), 0.3, 0.0])
    if shadows is not None:
        shadows.rod(foot, top, radius)
        return
    canvas.capsule(foot, top, (radius * 1.1, radius * 0.8), STATIC, gray)
    canvas.capsule(foot, foot + np.array([0, 0.9, 0]), (radius * 1.7, radius * 1.4), STATIC, gray)
    canvas.capsule(top, tip, (radius * 0.7, radius * 0.6), STATIC, gray)
    lit = canvas.light.dusk
    lamp = np.array([1.5, 1.3, 0.8]) if lit else np.array([0.8, 0.8, 0.75])
    head = tip + np.array([-np.sign(x) * 0.4, 0.0, 0.0])
    canvas.capsule(tip, head, (0.1, 0.14), STATIC, lamp if lit else gray * 1.2, glow=lit)


def _disc(center: np.ndarray, radius: float, corners: int, turn: float = 0.0) -> np.ndarray:
    """Regular polygon (corners, 3) that faces along Z."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return center + radius * ring


def _plate(canvas: Canvas, outline: np.ndarray, color: np.ndarray, ids: int, lift: float) -> None:
    """Draw a plate; `lift` in meters moves it towards the camera to lie on another one."""
    shape = outline - np.array([0.0, 0.0, lift])
    center, size = shape.mean(0), 1.0
    frame = center + size * np.array([(-1, 1, 0), (1, 1, 0), (-1, -1, 0)])
    canvas.polygon(shape, ids, color, frame=frame, grain=0.03, glow=0.2)


def draw_sign(
    canvas: Canvas, shadows: ShadowMap | None, rng: np.random.Generator, x: float, z: float
) -> None:
    """Draw a post (or only throw its shadow) with a traffic sign or a traffic light."""
    top = rng.uniform(2.5, 3.0)
    post = np.array([x, 0.0, z]), np.array([x, top, z])
    if shadows is not None:
        shadows.rod(*post, 0.06)
        return
    canvas.capsule(*post, (0.06, 0.06), STATIC, np.array([0.52, 0.53, 0.54]))
    center = np.array([x, top, z - 0.08])
    red, white, blue = (0.78, 0.1, 0.1), (0.92, 0.92, 0.9), (0.12, 0.28, 0.68)
    kind = rng.integers(5)
    if kind == 4:
        body = center + np.array([(-0.2, 0.5, 0), (0.2, 0.5, 0), (0.2, -0.5, 0), (-0.2, -0.5, 0)])
        _plate(canvas, body, (0.1, 0.11, 0.1), STATIC, 0.0)
        on = rng.integers(3)
        for i, lamp in enumerate(((1.0, 0.15, 0.1), (1.0, 0.7, 0.1), (0.15, 0.95, 0.35))):
            glowing = np.array(lamp) * (1.3 if i == on else 0.22)
            spot = _disc(center + np.array([0, 0.31 - 0.31 * i, 0]), 0.12, 12)
            _plate(canvas, spot, glowing, STATIC, 0.03)
        return
    corners, turn, rim, face = {
        0: (20, 0.0, red, white),
        1: (3, np.pi / 2, red, white),
        2: (8, np.pi / 8, white, red),
        3: (4, np.pi / 4, white, blue),
    }[int(kind)]
    radius = rng.uniform(0.36, 0.46) * (1.2 if corners == 3 else 1.0)
    _plate(canvas, _disc(center, radius, corners, turn), rim, STATIC, 0.0)
    inner = _disc(center, radius * (0.62 if corners == 3 else 0.8), corners, turn)
    _plate(canvas, inner, face, STATIC, 0.02)
    bar = np.array([(-1, 0.3, 0), (1, 0.3, 0), (1, -0.3, 0), (-1, -0.3, 0)])
    mark = center + 0.42 * radius * bar
    _plate(canvas, mark, (0.1, 0.1, 0.1) if face == white else white, STATIC, 0.04)


def furniture(layout: Layout, rng: np.random.Generator) -> list[tuple[str, float, float, int]]:
    """Place trees, lamps and signs along both sides: (kind, x, z, seed) for each."""
    things = []
    for side in (0, 1):
        sign = 1 if side else -1
        curb = layout.road_half + 0.5
        trees = layout.house_line(side) - 0.9 if not layout.verge_first[side] else curb + 0.3
        z, step = rng.uniform(4, 14), rng.uniform(7, 18)
        planted = rng.random() < 0.75
        while planted and z < 90:
            things.append(("tree", sign * trees, z))
            z += step * rng.uniform(0.8, 1.3)
        z, step = rng.uniform(6, 20), rng.uniform(16, 26)
        while z < 80:
            things.append(("lamp", sign * curb, z))
            z += step
        for _ in range(rng.integers(0, 3)):
            things.append(("sign", sign * (curb + 0.1), rng.uniform(6, 30)))
    begin, end = layout.crossing[0] - 1.5, layout.crossing[1] + 1.5
    clear = [thing for thing in things if not begin < thing[2] < end]
    return [(kind, float(x), float(z), int(rng.integers(1 << 31))) for kind, x, z in clear]


def draw_furniture(
    canvas: Canvas, things: list[tuple[str, float, float, int]], shadows: ShadowMap | None
) -> None:
    """Draw trees, lamps and signs, or only their shadows where a shadow map is given."""
    draw = {"tree": draw_tree, "lamp": draw_lamp, "sign": draw_sign}
    for kind, x, z, seed in things:
        draw[kind](canvas, shadows, np.random.default_rng(seed), x, z)
