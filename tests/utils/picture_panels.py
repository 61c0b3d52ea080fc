"""Helpers for tests of pictures: filled images, and the panels of a row."""

import numpy as np

HEIGHT, WIDTH, TITLE, GAP = 28, 40, 14, 4
COLORS = [(100, 0, 0), (0, 200, 50)]


def filled(value: int, *shape: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, *shape), value, np.uint8)


def panels(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The pictures of a row without their titles."""
    return [picture[TITLE:, i * (WIDTH + GAP) :][:, :WIDTH] for i in range(count)]
