"""Procedural textures: noise, building facades and tree crowns."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

_SIZE = 512


@cache
def noise_tile(exponent: float = 1.0, seed: int = 7) -> np.ndarray:
    """Tileable noise (512, 512) float32 with zero mean, unit deviation and a 1/f^exponent fall."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.fftfreq(_SIZE)[None])
    frequency[0, 0] = np.inf
    phase = np.exp(2j * np.pi * rng.random((_SIZE, _SIZE)))
    tile = np.fft.ifft2(phase / frequency**exponent).real
    # The inverse transform lies column by column, and OpenCV would copy it at every look-up.
    return ((tile - tile.mean()) / tile.std()).astype(np.float32, order="C")


def sample_noise(
    u: np.ndarray, v: np.ndarray, scale: float, *, seed: float = 0.0, exponent: float = 1.0
) -> np.ndarray:
    """Noise of unit deviation (H, W) at surface coordinates in meters; `scale` is texels/meter."""
    x, y = (
        _wrapped(coordinate, scale, seed * shift) for coordinate, shift in ((u, 0.377), (v, 0.913))
    )
    return cv2.remap(noise_tile(exponent), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _wrapped(coordinate: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """Texel coordinates in 0..512 (float32) of surface coordinates in meters."""
    turns = coordinate.astype(np.float32) * np.float32(scale / _SIZE) + np.float32(shift % 1)
    return (turns - np.floor(turns)) * np.float32(_SIZE)


def _rectangle(image: np.ndarray, box: tuple[float, ...], color: np.ndarray, ppm: float) -> None:
    """Fill a box (x0, y0, x1, y1) in meters from the top left corner."""
    x0, y0, x1, y1 = (round(value * ppm) for value in box)
    corner = max(x1 - 1, x0), max(y1 - 1, y0)
    cv2.rectangle(image, (x0, y0), corner, np.asarray(color).tolist(), -1)


def _window(
    image: np.ndarray,
    rng: np.random.Generator,
    box: tuple[float, float, float, float],
    style: dict,
    ppm: float,
) -> None:
    """Draw one window with its frame, sill, curtains or reflection."""
    x0, y0, x1, y1 = box
    frame = style["frame"]
    _rectangle(image, (x0 - 0.09, y0 - 0.09, x1 + 0.09, y1 + 0.09), frame, ppm)
    if rng.random() < style["lit"]:
        glass = np.array([1.5, 1.25, 0.75]) * rng.uniform(0.7, 1.0)
    else:
        glass = np.array([0.17, 0.22, 0.28]) * rng.uniform(0.7, 1.6)
    _rectangle(image, box, glass, ppm)
    _rectangle(image, (x0, y0, x1, y0 + (y1 - y0) * rng.uniform(0.15, 0.5)), glass * 1.35, ppm)
    if rng.random() < 0.3:
        curtain = rng.uniform(0.55, 0.9) * np.array([1.0, 0.96, 0.9])
        _rectangle(image, (x0, y0, x0 + (x1 - x0) * 0.3, y1), curtain, ppm)
        _rectangle(image, (x1 - (x1 - x0) * 0.3, y0, x1, y1), curtain, ppm)
    middle = (x0 + x1) / 2
    _rectangle(image, (middle - 0.04, y0, middle + 0.04, y1), frame, ppm)
    _rectangle(image, (x0 - 0.15, y1 + 0.05, x1 + 0.15, y1 + 0.17), style["wall"] * 1.18, ppm)
    if style["shutters"] is not None:
        wide = (x1 - x0) * 0.42
        for left in (x0 - 0.1 - wide, x1 + 0.1):
            _rectangle(image, (left, y0, left + wide, y1), style["shutters"], ppm)


def _ground_floor(
    image: np.ndarray, rng: np.random.Generator, size: tuple[float, float], style: dict, ppm: float
) -> None:
    """Draw doors and, in some houses, shop windows with awnings on the lowest three meters."""
    width, height = size
    _rectangle(image, (0, height - 0.5, width, height), style["wall"] * 0.62, ppm)
    x, shop = 0.7, rng.random() < 0.5
    while x + 1.6 < width:
        wide = rng.uniform(2.2, 3.6) if shop else 1.1
        wide = min(wide, width - x - 0.5)
        if shop or rng.random() < 0.35:
            glass = np.array([0.22, 0.26, 0.3]) * rng.uniform(0.8, 1.8)
            if rng.random() < style["lit"]:
                glass = np.array([1.4, 1.2, 0.8])
            _rectangle(image, (x - 0.1, height - 2.6, x + wide + 0.1, height), style["frame"], ppm)
            if shop and rng.random() < 0.65:
                _rectangle(image, (x, height - 2.4, x + wide, height - 0.5), glass, ppm)
                _rectangle(image, (x, height - 2.4, x + wide, height - 1.6), glass * 1.3, ppm)
                awning = rng.uniform(0.25, 0.85, 3)
                for i in range(int(wide / 0.3)):
                    stripe = awning if i % 2 else np.full(3, 0.85)
                    left = x + i * 0.3
                    _rectangle(image, (left, height - 2.95, left + 0.3, height - 2.35), stripe, ppm)
            else:
                door = rng.uniform(0.15, 0.5, 3)
                _rectangle(image, (x, height - 2.3, x + wide, height), door, ppm)
                _rectangle(image, (x + 0.2, height - 2.1, x + wide - 0.2, height - 1.2), glass, ppm)
        else:
            _window(image, rng, (x, height - 2.3, x + 1.1, height - 1.0), style, ppm)
        x += wide + rng.uniform(0.5, 1.0)


def facade_texture(
    rng: np.random.Generator, width: float, height: float, wall: np.ndarray, lit: float, ppm: float
) -> np.ndarray:
    """Facade of a house; meters and pixels per meter -> (h, w, 3) float32 albedo.

    Args:
        wall: (3,) color of the wall in 0..1.
        lit: chance of a window with a light behind it.
    """
    shape = max(int(height * ppm), 4), max(int(width * ppm), 4)
    image = np.empty((*shape, 3), np.float32)
    image[:] = wall
    brick = rng.random() < 0.4
    if brick:
        rows = np.arange(shape[0]) / ppm
        image *= np.where(rows % 0.32 < 0.07, 0.86, 1.0).astype(np.float32)[:, None, None]
    style = {
        "wall": wall,
        "lit": lit,
        "frame": np.full(3, rng.choice([0.9, 0.82, 0.3])) * rng.uniform(0.9, 1.05, 3),
        "shutters": rng.uniform(0.15, 0.6, 3) if rng.random() < 0.3 else None,
    }
    floors = max(1, int((height - 0.6) / 3.0))
    tall, wide = rng.uniform(1.3, 1.8), rng.uniform(0.95, 1.5)
    step = wide * (2.6 if style["shutters"] is not None else rng.uniform(1.6, 2.2))
    columns = max(1, int((width - 0.6) / step))
    margin = (width - columns * step) / 2 + (step - wide) / 2
    for floor in range(1, floors):
        top = height - 3.0 * (floor + 1) + (3.0 - tall) / 2
        if brick or floor == 1:
            band = height - 3.0 * floor - 0.12
            _rectangle(image, (0, band, width, band + 0.2), wall * 1.15, ppm)
        for column in range(columns):
            x = margin + column * step
            _window(image, rng, (x, top, x + wide, top + tall), style, ppm)
    _ground_floor(image, rng, (width, height), style, ppm)
    _rectangle(image, (0, 0, width, 0.22), wall * 1.2, ppm)
    _rectangle(image, (0, 0.22, width, 0.34), wall * 0.7, ppm)
    # Rain darkens walls from below and from above, in streaks.
    stain = cv2.resize(rng.normal(1, 0.05, (3, 9)).astype(np.float32), shape[::-1])
    return np.clip(image * stain[..., None], 0, 1.6)


def crown_texture(
    rng: np.random.Generator, leaf: np.ndarray, sun: np.ndarray, size: tuple[int, int] = (112, 128)
) -> np.ndarray:
    """Leafy blob (h, w, 4) float32: albedo and opacity.

    Args:
        leaf: (3,) color of the leaves.
        sun: (2,) direction to the sun in the picture (right, up), length 0..1.
        size: (h, w) in texels.
    """
    h, w = size
    image = np.zeros((h, w, 4), np.float32)
    image[..., :3] = leaf * 0.6
    count = 40
    angle, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)) * 0.33
    centers = np.stack([0.5 + reach * np.cos(angle), 0.5 - reach * np.sin(angle)], axis=1)
    lightness = (centers - 0.5) @ np.array([sun[0], -sun[1]]) * 1.1 + rng.normal(0, 0.1, count)
    shade = np.clip(0.87 + lightness + 0.25 * (0.5 - centers[:, 1]), 0.35, 1.5)
    radius = rng.uniform(0.09, 0.17, count)
    parts, factors = np.array([1.0, 0.72, 0.4]), np.array([0.72, 1.0, 1.18])
    towards = 0.6 * np.array([sun[0], -max(sun[1], 0.3)])
    spots = centers[:, None] + ((1 - parts) * radius[:, None])[..., None] * towards
    spots = (spots * (w, h)).astype(int).tolist()
    axes = (parts[:, None] * radius[:, None, None] * (w, h)).astype(int).tolist()
    colors = (leaf * (shade[:, None] * factors)[..., None]).tolist()
    for blob in range(count):
        for part in range(3):
            color = (*colors[blob][part], 1.0)
            cv2.ellipse(image, spots[blob][part], axes[blob][part], 0, 0, 360, color, -1)
    return cv2.GaussianBlur(image, (0, 0), 1.6)
