"""Sun, sky and haze of one scene, and the shading they give to a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """Illumination of a scene; colors are RGB factors around 1."""

    to_sun: np.ndarray  # (3,) unit vector in world coordinates
    sun: np.ndarray  # (3,) color times strength of the direct light
    ambient: np.ndarray  # (3,) color times strength of the sky's light
    zenith: np.ndarray  # (3,) sky colors in 0..1
    horizon: np.ndarray
    cloud: float  # 0 (clear) .. 1 (overcast)
    haze_distance: float  # meters after which 63 % of the light comes from the haze
    dusk: float  # 0 (day) .. 1 (lamps and windows are lit)

    def shade(self, normal: np.ndarray) -> np.ndarray:
        """Light (3,) that falls on a surface with this unit normal (3,)."""
        facing = max(0.0, float(normal @ self.to_sun))
        return self.ambient * (0.8 + 0.2 * normal[1]) + self.sun * facing


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a time of day and a weather."""
    kind = rng.choice(["noon", "golden", "overcast", "dusk"], p=[0.45, 0.25, 0.2, 0.1])
    elevation = {"noon": (30, 60), "golden": (12, 28), "overcast": (35, 60), "dusk": (8, 16)}[kind]
    height, azimuth = np.radians(rng.uniform(*elevation)), rng.uniform(0, 2 * np.pi)
    to_sun = np.array(
        [np.cos(height) * np.sin(azimuth), np.sin(height), np.cos(height) * np.cos(azimuth)]
    )
    sun, ambient, zenith, horizon = {
        "noon": ((0.80, 0.75, 0.66), (0.50, 0.54, 0.60), (0.28, 0.49, 0.80), (0.74, 0.84, 0.92)),
        "golden": ((0.92, 0.66, 0.40), (0.46, 0.46, 0.54), (0.36, 0.48, 0.72), (0.98, 0.83, 0.64)),
        "overcast": (
            (0.13, 0.13, 0.13),
            (0.78, 0.81, 0.85),
            (0.62, 0.66, 0.71),
            (0.82, 0.84, 0.86),
        ),
        "dusk": ((0.30, 0.19, 0.16), (0.40, 0.40, 0.53), (0.22, 0.27, 0.48), (0.93, 0.60, 0.46)),
    }[kind]
    cloud = rng.uniform(0.75, 1.0) if kind == "overcast" else rng.uniform(0.0, 0.6)
    strength = rng.uniform(0.85, 1.1)
    tint = 1 + rng.normal(0, 0.02, 3)
    return Light(
        to_sun=to_sun,
        sun=np.array(sun) * strength * tint,
        ambient=np.array(ambient) * rng.uniform(0.9, 1.1) * tint,
        zenith=np.array(zenith) * rng.uniform(0.9, 1.05),
        horizon=np.array(horizon) * rng.uniform(0.93, 1.02),
        cloud=float(cloud),
        haze_distance=float(np.exp(rng.uniform(np.log(110), np.log(450)))),
        dusk=1.0 if kind == "dusk" else 0.0,
    )
