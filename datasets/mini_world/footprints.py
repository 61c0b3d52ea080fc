"""Places on the ground that are taken."""

from __future__ import annotations

import numpy as np


class Footprints:
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
